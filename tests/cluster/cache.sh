# What the scripts of this folder share; each sources it. Everything that they build lies in $cache, by version
# and by the content of its pins, and is whole or not there.
# shellcheck shell=bash
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/quotakeeper
mkdir -p "$cache"

say() { echo "cluster: $*" >&2; }
fail() { say "$*"; exit 1; }

# need PROGRAM=PACKAGE…: names every program that is missing with the Debian package that has it.
need() {
  local one missing=()
  for one in "$@"; do
    command -v "${one%%=*}" >/dev/null || missing+=("${one%%=*} (Debian: ${one#*=})")
  done
  ((${#missing[@]} == 0)) || fail "missing: $(printf '%s, ' "${missing[@]}" | sed 's/, $//'); install and run again"
}

# pins FILE…: a short name for the content of files, for this kind of machine.
pins() { { cat "$@"; uname -m; } | sha256sum | cut -c1-12; }

# once NAME COMMAND…: prints $cache/NAME; where it is not there, COMMAND DIRECTORY makes it. One run builds
# at a time, the others wait: two builds at once would take longer than one after the other.
once() {
  local home=$cache/$1 begun=$SECONDS
  shift
  if [[ ! -d $home ]]; then
    exec 9>"$cache/cluster-building.lock"
    flock --nonblock 9 || { say "another run is building; waiting for it"; flock 9; }
    if [[ ! -d $home ]]; then
      rm -rf "$cache"/cluster-*.part
      mkdir "$home.part"
      "$@" "$home.part" >&2
      mv "$home.part" "$home"
      say "made ${home##*/} in $((SECONDS - begun)) s ($(du -sh "$home" | cut -f1))"
    fi
    exec 9>&-
  fi
  echo "$home"
}

# free_ports FIRST COUNT NUMBER: so many different ports of these on which nobody listens, a line each.
free_ports() {
  local offset=$RANDOM found=0 tried port
  for ((tried = 0; tried < $2 && found < $3; tried++)); do
    port=$(($1 + (offset + tried) % $2))
    (: </dev/tcp/127.0.0.1/$port) 2>/dev/null && continue
    echo "$port"
    ((found += 1))
  done
  ((found == $3)) || fail "$3 ports from $1 on are not free"
}

# end_in_time PID: asks a process to end, and gives it five seconds.
end_in_time() {
  local _
  kill -TERM "$1" 2>/dev/null || true
  for _ in {1..50}; do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.1
  done
}
