#!/bin/sh
# The job of config.example.yaml with real processes on this machine, step by
# step: a proxy-server, a remote-client, two applications, a visitor.
#
#	[BUILD=DIR] tests/demo.sh
#
# What is indented below a step is what the processes themselves said.  A step
# that does not come within DEADLINE seconds ends the demonstration with 1.
# On a terminal it stays up after the last step, until Ctrl-C.
set -u

cd "$(dirname "$0")/.." || exit 1
build=${BUILD:-build}
example=config.example.yaml
DEADLINE=10
step="the start"
dir=

# --- processes ----------------------------------------------------------------

stop_all() {
	trap '' INT TERM HUP
	exec 3>&-
	for file in "$dir"/*.pid; do
		[ -e "$file" ] && kill "$(cat "$file")" 2>/dev/null
	done
	wait
	rm -rf "$dir"
}

fail() {
	printf '\nFailed at %s: %s\n' "$step" "$*" >&2
	[ -n "$dir" ] || exit 1
	for file in "$dir"/*.log; do
		[ -s "$file" ] || continue
		printf '\nThe end of what %s said:\n' \
		    "$(basename "$file" .log)" >&2
		tail -n 8 "$file" | sed 's/^/    /' >&2
	done
	exit 1
}

# start WHO COMMAND...: what it says goes to WHO.log.
start() {
	who=$1
	shift
	: >"$dir/$who.log"
	"$@" </dev/null >"$dir/$who.log" 2>&1 &
	echo $! >"$dir/$who.pid"
}

# The address that WHO could not have because another program has it.
taken() {
	sed -n -e 's/.* cannot-listen bind=\([^ ]*\) .*another program.*/\1/p' \
	    -e 's/^echo: \([0-9:.]*\): Address already in use$/port \1/p' \
	    "$dir/$1.log"
}

# Fail when WHO has ended.
still_there() {
	kill -0 "$(cat "$dir/$1.pid")" 2>/dev/null && return
	address=$(taken "$1")
	[ -n "$address" ] && fail "$address is taken by another program." \
	    "Stop that one first; \`ss -ltnp\` shows which it is."
	fail "the $1 has ended"
}

# --- what they say ------------------------------------------------------------

say() {
	step="step $1"
	printf '\n%2s  %s\n' "$1" "$2"
}

# Print the lines of standard input as WHO's, without the date.
quote() {
	sed 's/^....-..-..T..:..:..\....Z //' |
	while IFS= read -r line || [ -n "$line" ]; do
		printf '      %-13s | %s\n' "$1" "$line"
	done
}

# hop WHO PATTERN: wait for the first line of WHO that matches; print it.
hop() {
	ticks=$((DEADLINE * 10))
	until grep -Eq -e "$2" "$dir/$1.log"; do
		still_there "$1"
		[ $ticks -gt 0 ] ||
		    fail "the $1 did not say \"$2\" within $DEADLINE seconds"
		ticks=$((ticks - 1))
		sleep 0.1
	done
	grep -Em 1 -e "$2" "$dir/$1.log" | quote "$1"
}

# --- before the start ---------------------------------------------------------

for file in "$build/proxy-server" "$build/remote-client" "$build/tools/echo"; do
	[ -x "$file" ] || fail "$file is not there; run \`make all tools\`"
done
for program in curl nc; do
	command -v $program >/dev/null ||
	    fail "$program is not there; run \`./bootstrap.sh demo\`"
done
# Other programs of that name do not pass an end of file on when asked to.
nc -h 2>&1 | grep -q -e '-[A-Za-z]*N' ||
	fail "nc knows no -N; the one of OpenBSD does (netcat-openbsd)"

dir=$(mktemp -d) || exit 1
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# So that a proxy-server of this machine is not in its way.
config=$dir/config.yaml
{
	cat $example
	printf '\nstate_dir: "%s/state"\n' "$dir"
} >"$config"

# --- the twelve steps ---------------------------------------------------------

echo "Both daemons read $example, with a state_dir of the demonstration's
own; -v makes them log debug lines too."

say 1 "proxy-server starts, and listens for remote-clients on 9015."
start proxy-server "$build/proxy-server" -v -c "$config"
hop proxy-server ' listening for=tunnel bind=127\.0\.0\.1:9015'
hop proxy-server ' ready '

say 2 "remote-client starts, and dials the proxy-server."
start remote-client "$build/remote-client" -v -c "$config"
hop remote-client ' ready '
hop remote-client ' debug dialling '

say 3 "It registers its name (InsHello, InsRegister; classic:
    InsInitialRemoteServer), and the proxy-server takes it."
hop proxy-server ' registered .* session=1( |$)'
hop remote-client ' registered .* session=1( |$)'

say 4 "The proxy-server listens for the visitors of that name on 1234."
hop proxy-server ' listening for=visitors .* bind=127\.0\.0\.1:1234'

say 5 "The application, an echo, listens on 5678 beside the remote-client."
start application "$build/tools/echo" -v 5678
hop application '^listening 5678'

say 6 "A visitor connects to 127.0.0.1:1234."
mkfifo "$dir/visitor.in"
: >"$dir/visitor.log"
exec 3<>"$dir/visitor.in"
nc -nvN 127.0.0.1 1234 <"$dir/visitor.in" >"$dir/answer" \
    2>"$dir/visitor.log" 3>&- &
echo $! >"$dir/visitor.pid"
hop visitor 'succeeded'

say 7 "The proxy-server gives it an identity, and tells the remote-client
    (InsOpen; classic: InsInitialConnection)."
step="step 7 or 8"
ticks=$((DEADLINE * 10))
until grep -q '^1: connection' "$dir/application.log"; do
	[ $ticks -gt 0 ] || fail "nothing reached the application" \
	    "within $DEADLINE seconds"
	ticks=$((ticks - 1))
	sleep 0.1
done
hop proxy-server ' debug opening '
hop remote-client ' debug opening '

say 8 "The remote-client connects to 127.0.0.1:5678."
hop remote-client ' debug connected '
hop application '^1: connection from'

say 9 "HelloWorld travels: visitor, proxy-server, InsData, remote-client,
    application."
printf HelloWorld >&3
hop application '^1: 10 bytes: "HelloWorld"'

say 10 "The application echoes it."
hop application '^1: sent back 10 bytes'

say 11 "The answer travels back, and the visitor has it."
ticks=$((DEADLINE * 10))
until [ "$(cat "$dir/answer")" = HelloWorld ]; do
	still_there visitor
	[ $ticks -gt 0 ] || fail "the visitor has \"$(cat "$dir/answer")\"" \
	    "after $DEADLINE seconds"
	ticks=$((ticks - 1))
	sleep 0.1
done
quote visitor <"$dir/answer"

say 12 "The visitor ends its side, then the application does (InsHalfClose
    each; classic: one InsCloseConnection), and nothing is left of it."
exec 3>&-
hop application '^1: end of file'
hop proxy-server ' stream .* to_application=10 to_visitor=10 '
hop remote-client ' stream .* to_application=10 to_visitor=10 '
wait "$(cat "$dir/visitor.pid")" || fail "the visitor's nc ended with $?"
rm "$dir/visitor.pid"

# --- type: http ---------------------------------------------------------------

step="the http request"
printf '\nThe listener on 8080 is of type: http.  A request for /hello there\n'
echo "reaches the application on 5680, which answers with the request it got."
start web "$build/tools/echo" --http 5680
hop web '^listening 5680'
curl -q -sS --noproxy '*' --max-time $DEADLINE -o "$dir/page" \
    http://127.0.0.1:8080/hello 2>"$dir/curl.log" ||
    fail "curl ended with $?: $(cat "$dir/curl.log")"
tr -d '\r' <"$dir/page" | quote curl
grep -q '^Host: 127\.0\.0\.1:5680' "$dir/page" ||
    fail "the Host that the application saw is not its own"
grep -q '^X-Forwarded-For: 127\.0\.0\.1' "$dir/page" ||
    fail "the application was not told the visitor's address"
hop proxy-server ' stream .* listener=127\.0\.0\.1:8080 '
echo "Host is the application's own, X-Forwarded-For says who asked."

# --- by hand ------------------------------------------------------------------

[ -t 0 ] || {
	printf '\nAll twelve steps, and the request: done.\n'
	exit 0
}

cat <<END

All of it is still running.  Try it by hand from another terminal:

    nc 127.0.0.1 1234                   what you type comes back
    curl http://127.0.0.1:8080/hello    the request as the application saw it

What the processes say to that appears here.  Ctrl-C ends it.

END
step="the part by hand"
trap 'echo; exit 0' INT
processes="proxy-server remote-client application web"
for who in $processes; do
	wc -l <"$dir/$who.log" >"$dir/$who.seen"
done
while :; do
	for who in $processes; do
		still_there "$who"
		seen=$(cat "$dir/$who.seen")
		lines=$(wc -l <"$dir/$who.log")
		[ "$lines" -gt "$seen" ] || continue
		sed -n "$((seen + 1)),${lines}p" "$dir/$who.log" | quote "$who"
		echo "$lines" >"$dir/$who.seen"
	done
	sleep 0.3
done
