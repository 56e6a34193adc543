#!/usr/bin/env bash
# Prints where an nginx is: the machine's own, or Debian's package unpacked into the cache, where it
# is neither installed nor started. Prints nothing, and says why on standard error, if none can be had.
set -euo pipefail

say() { echo "nginx: $*" >&2; }

if program=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v nginx); then
  echo "$program"
  exit
fi
home=${XDG_CACHE_HOME:-$HOME/.cache}/quotakeeper/nginx
program=$home/usr/sbin/nginx
if [[ ! -x $program ]]; then
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    say "it is missing and this is no Debian; install it to have its figures beside ours"
    exit
  fi
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  say "unpacking Debian's package into $home"
  # As root, apt hands the download to a user of its own.
  chmod 755 "$work"
  if ! (cd "$work" && apt-get download nginx >&2 && dpkg-deb -x nginx_*.deb "$work/root"); then
    say "the package can't be had (try apt-get update); its figures are left out"
    exit
  fi
  mkdir -p "$(dirname "$home")"
  rm -rf "$home"
  mv "$work/root" "$home"
fi
if ! "$program" -v 2>/dev/null; then
  say "$program does not run here; its figures are left out"
  exit
fi
echo "$program"
