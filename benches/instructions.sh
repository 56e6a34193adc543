#!/bin/sh
# Counts the instructions of one call's way through the engine. Unlike time they are the same on a busy machine,
# so two builds can be compared: instructions.sh BENCH [CONTESTANT...]
set -eu
bench=$1
shift
[ $# -gt 0 ] || set -- uncontended-1 uncontended-4 waiting-1 waiting-4 uncontended-tokens waiting-tokens heartbeat-4

counted() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$bench" profile "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : //p'
}

command -v valgrind >/dev/null || { echo "valgrind counts the instructions: install it" >&2; exit 1; }
for contestant in "$@"; do
    # What setting up takes is in both.
    few=$(counted "$contestant" 10000)
    many=$(counted "$contestant" 30000)
    printf '%-18s %6d instructions a call\n' "$contestant" $(((many - few) / 20000))
done
