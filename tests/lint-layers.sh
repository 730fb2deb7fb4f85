#!/bin/sh
# Dependencies point one way: daemons -> tunnel -> net, protocol -> base.
# Prints each include that breaks that, and fails if there is one.
set -u
status=0

# check FOLDER ALLOWED...: quoted includes of FOLDER must match one pattern.
check() {
	folder=$1
	shift
	for file in "$folder"/*.[ch]; do
		sed -n 's/^#include "\([^"]*\)".*/\1/p' "$file" |
		while read -r include; do
			for allowed in "$@"; do
				# shellcheck disable=SC2254 # a pattern is meant
				case $include in
				$allowed) continue 2 ;;
				esac
			done
			echo "$file: may not include \"$include\""
		done
	done | grep . && status=1
}

check protocol 'instruction.h' 'cursor.h' 'fields.h'
check lib/base 'base/*'
check lib/net 'base/*' 'net/*'
check lib/tunnel 'base/*' 'net/*' 'tunnel/*' 'instruction.h'
check proxy-server 'base/*' 'net/*' 'tunnel/*' 'instruction.h' \
	'proxy-server/*' 'http*.h'
check remote-client 'base/*' 'net/*' 'tunnel/*' 'instruction.h' \
	'remote-client/*'
exit $status
