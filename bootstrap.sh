#!/bin/sh
# From a fresh clone to a built, shown or tested program:
#
#	./bootstrap.sh [make target | VARIABLE=VALUE | make option]...
#
# Finds out which packages the targets need and which of them are missing,
# installs those, and runs `make` with the arguments.  When nothing is missing
# it installs nothing and asks no network.
#
# Debian and Ubuntu are installed on.  For dnf, apk and pacman it prints what
# to install.
#
# Some of the packages (nginx-light, redis-server, openssh-server, and haproxy
# of `bench-full`) start a daemon when they are installed, and at every boot.
# The tests start their own with files of their own and want none of these, and
# an ssh server that a test suite switched on would be a bad surprise.  So while
# such a package is being installed for the first time, a policy-rc.d (which
# both systemd's and the plain init scripts' way obeys) forbids exactly its
# services to start, and then they are disabled.  A machine that has a
# policy-rc.d, as most containers do, keeps its own.  A package that is there
# already is left alone, and so is its daemon.
set -eu

cd "$(dirname "$0")"

# --- what is needed -----------------------------------------------------------

# set, how to see that it is there, Debian, Fedora, Alpine, Arch; - for what
# has no package there.  How: a tool, pkg:NAME of pkg-config, header:NAME,
# nginx-stream, or file:PATH; Debian's names are looked up with dpkg-query
# instead, when there is no `file:`.
table() {
	cat <<'END'
build    gcc                    gcc              gcc              gcc             gcc
build    make                   make             make             make            make
build    pkg-config             pkg-config       pkgconf          pkgconf         pkgconf
build    header:stdio.h         libc6-dev        glibc-devel      musl-dev        glibc
build    pkg:yaml-0.1           libyaml-dev      libyaml-devel    yaml-dev        libyaml
build    pkg:libxxhash          libxxhash-dev    xxhash-devel     xxhash-dev      xxhash
build    pkg:libcrypto          libssl-dev       openssl-devel    openssl-dev     openssl
build    pkg:libsystemd         libsystemd-dev   systemd-devel    -               systemd-libs
build    header:http_parser.h   libhttp-parser-dev http-parser-devel http-parser-dev http-parser
demo     curl                   curl             curl             curl            curl
demo     nc                     netcat-openbsd   netcat           netcat-openbsd  openbsd-netcat
check    pkg:cunit              libcunit1-dev    CUnit-devel      cunit-dev       cunit
check    python3                python3          python3          python3         python
check    nginx                  nginx-light      nginx            nginx           nginx
check    curl                   curl             curl             curl            curl
check    wrk                    wrk              wrk              wrk             wrk
check    ssh                    openssh-client   openssh-clients  openssh-client  openssh
check    sshd                   openssh-server   openssh-server   openssh-server  openssh
check    redis-server           redis-server     redis            redis           redis
check    redis-cli              redis-tools      redis            redis           redis
check    iperf3                 iperf3           iperf3           iperf3          iperf3
check    nc                     netcat-openbsd   netcat           netcat-openbsd  openbsd-netcat
check    ps                     procps           procps-ng        procps          procps-ng
check    ip                     iproute2         iproute          iproute2        iproute2
bench    python3                python3          python3          python3         python
chaos    python3                python3          python3          python3         python
chaos    ip                     iproute2         iproute          iproute2        iproute2
chaos    nft                    nftables         nftables         nftables        nftables
chaos    nsenter                util-linux       util-linux       util-linux      util-linux
chaos    ssh                    openssh-client   openssh-clients  openssh-client  openssh
chaos    sshd                   openssh-server   openssh-server   openssh-server  openssh
chaos    nginx                  nginx-light      nginx            nginx           nginx
chaos    curl                   curl             curl             curl            curl
rivals   haproxy                haproxy          haproxy          haproxy         haproxy
rivals   nginx                  nginx-light      nginx            nginx           nginx
rivals   nginx-stream           libnginx-mod-stream nginx-mod-stream nginx-mod-stream nginx
rivals   ssh                    openssh-client   openssh-clients  openssh-client  openssh
rivals   sshd                   openssh-server   openssh-server   openssh-server  openssh
valgrind valgrind               valgrind         valgrind         valgrind        valgrind
clang    clang                  clang            clang            clang           clang
clang    llvm-symbolizer        llvm             llvm             llvm            llvm
clang    file:clang_rt          clang-rt         compiler-rt      compiler-rt     compiler-rt
lint     clang-tidy             clang-tidy       clang-tools-extra clang-extra-tools clang
lint     cppcheck               cppcheck         cppcheck         cppcheck        cppcheck
lint     shellcheck             shellcheck       ShellCheck       shellcheck      shellcheck
lint     mandoc                 mandoc           mandoc           mandoc          mandoc
format   clang-format           clang-format     clang-tools-extra clang-extra-tools clang
coverage lcov                   lcov             lcov             lcov            lcov
picture  dot                    graphviz         graphviz         graphviz        graphviz
END
}

everything="build demo check chaos valgrind clang lint format coverage picture"

# The sets that one argument of make needs besides `build`.
sets_of() {
	case $1 in
	CC=*clang*)	echo clang ;;
	-* | *=*)	;;
	demo)		echo demo ;;
	ci | ci-packages) echo "$everything" ;;
	check-valgrind)	echo check valgrind ;;
	check*clang*)	echo check clang ;;
	check | check-*) echo check ;;
	fuzz*)		echo clang ;;
	lint*)		echo lint ;;
	format*)	echo format ;;
	coverage)	echo check coverage ;;
	bench-full)	echo bench rivals ;;
	bench*)		echo bench ;;
	chaos*)		echo chaos ;;
	arch.png)	echo picture ;;
	*clang*)	echo clang ;;
	esac
}

# Each line of the table that the arguments need; a package once.
needed() {
	sets=build
	for word; do
		sets="$sets $(sets_of "$word" | tr '\n' ' ')"
	done
	table | while read -r set rest; do
		case " $sets " in
		*" $set "*) echo "$rest" ;;
		esac
	done | sort -u
}

# --- what is there ------------------------------------------------------------

have() {
	command -v "$1" >/dev/null 2>&1 ||
	    [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]
}

# The sanitizers and the fuzzer's main function for the clang that there is.
have_clang_rt() {
	have clang || return 1
	for file in "$(clang -print-resource-dir)"/lib/*/libclang_rt.fuzzer*.a
	do
		[ -e "$file" ] && return
	done
	return 1
}

# Its stream module may be built in.
have_nginx_stream() {
	have nginx || return 1
	for file in /usr/lib*/nginx/modules/ngx_stream_module.so
	do
		[ -e "$file" ] && return
	done
	PATH=$PATH:/usr/sbin nginx -V 2>&1 | grep -q -e '--with-stream '
}

there() {
	case $1 in
	file:clang_rt)	have_clang_rt ;;
	nginx-stream)	have_nginx_stream ;;
	pkg:*)		have pkg-config && pkg-config --exists "${1#pkg:}" ;;
	header:*)	have cc && echo "#include <${1#header:}>" |
			    cc -E -o /dev/null - 2>/dev/null ;;
	*)		have "$1" ;;
	esac
}

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = \
	    installed ]
}

# missing COLUMN: the packages of that column that are not there, each once.
missing() {
	while read -r how debian fedora alpine arch; do
		case $1 in
		debian)	package=$debian ;;
		fedora)	package=$fedora ;;
		alpine)	package=$alpine ;;
		*)	package=$arch ;;
		esac
		case $1:$how in
		debian:file:*)	there "$how" && continue ;;
		debian:*)	installed "$package" && continue ;;
		*)		there "$how" && continue ;;
		esac
		echo "$package"
	done | sort -u
}

# --- installing ---------------------------------------------------------------

POLICY=/usr/sbin/policy-rc.d
our_policy=false

drop_policy() {
	if $our_policy; then
		$sudo rm -f $POLICY
	fi
	our_policy=false
}

# The services of the packages that are not to run.
services_of() {
	case " $1 " in *" haproxy "*) echo haproxy ;; esac
	case " $1 " in *" nginx-light "*) echo nginx ;; esac
	case " $1 " in *" openssh-server "*) echo ssh ;; esac
	case " $1 " in *" redis-server "*) echo redis-server ;; esac
}

# Their names may come with .service or .socket, and options before them.
write_policy() {
	[ -e $POLICY ] && return
	our_policy=true
	trap drop_policy EXIT
	trap 'exit 1' INT TERM HUP
	{
		echo '#!/bin/sh'
		echo '# bootstrap.sh of port-proxy, while it installs packages.'
		# shellcheck disable=SC2016 # expanded there
		echo 'for word; do case ${word%.*} in'
		for service in $1; do
			echo "$service) exit 101 ;;"
		done
		echo 'esac; done; exit 0'
	} | $sudo sh -c "cat >$POLICY && chmod 755 $POLICY"
}

disable() {
	for service in $1; do
		if [ -d /run/systemd/system ]; then
			$sudo systemctl disable --now "$service" || true
		elif have update-rc.d; then
			$sudo update-rc.d "$service" disable || true
		fi
	done
}

# The name has the version of the clang that there is, or is going to be.
clang_rt_package() {
	if have clang; then
		version=$(clang -dumpversion)
		version=${version%%.*}
	else
		version=$(apt-cache depends clang |
		    sed -n 's/^ *Depends: clang-\([0-9][0-9]*\)$/\1/p')
	fi
	if apt-cache show "libclang-rt-$version-dev" >/dev/null 2>&1; then
		echo "libclang-rt-$version-dev"
	else
		echo "libclang-common-$version-dev"
	fi
}

apt_get() {
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get "$@"
}

apt_install() {
	echo "bootstrap.sh: missing:" "$@"
	if [ "$(id -u)" = 0 ]; then
		sudo=
	elif have sudo; then
		sudo=sudo
	else
		echo "bootstrap.sh: installing them needs root, and there is" \
		    "no sudo here; run this once as root" >&2
		exit 1
	fi
	apt_get update
	for package; do
		shift
		[ "$package" = clang-rt ] && package=$(clang_rt_package)
		set -- "$@" "$package"
	done
	services=$(services_of "$*")
	[ -z "$services" ] || write_policy "$services"
	apt_get install -y --no-install-recommends "$@"
	drop_policy
	disable "$services"
}

# suggest COLUMN COMMAND: for where nothing is installed.
suggest() {
	packages=$(echo "$lines" | missing "$1" | tr '\n' ' ')
	[ -n "$packages" ] || return 0
	echo "bootstrap.sh: missing; please install it, then come again:" >&2
	echo "    $2 $packages" >&2
	exit 1
}

# --- main ---------------------------------------------------------------------

lines=$(needed "$@")
if have dpkg-query && have apt-get; then
	packages=$(echo "$lines" | missing debian)
	# shellcheck disable=SC2086 # one word each
	[ -z "$packages" ] || apt_install $packages
elif have dnf; then
	suggest fedora "sudo dnf install"
elif have apk; then
	suggest alpine "sudo apk add"
elif have pacman; then
	suggest arch "sudo pacman -S --needed"
else
	suggest debian "no package manager that is known here; Debian's names:"
fi
exec make "$@"
