#!/usr/bin/env bash
# product.sh: builds this checkout's programs and makes images of them for the test cluster; prints their folder.
# They are debug builds with the libraries that they need: `make images` makes those that are for users.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"
need strip=binutils ldd=libc-bin python3=python3

programs=$("$here/programs.sh")
out=${programs%/*}/images
roots=/etc/ssl/certs/ca-certificates.crt
[[ -e $roots ]] || fail "$roots is missing (Debian: ca-certificates)"
mkdir -p "$out"

# image NAME PROGRAM: localhost/NAME:1 in NAME.tar, unless it is of the same program already.
image() {
  local name=$1 program=$programs/$2 root sum library
  sum=$(pins "$program" "$here"/{image.py,product.sh})
  [[ -e $out/$name.tar && $(cat "$out/$name.sum" 2>/dev/null) = "$sum" ]] && return
  root=$(mktemp -d)
  mkdir -p "$root/etc/ssl/certs"
  mkdir -m 1777 "$root/tmp"
  strip -o "$root/$2" "$program"
  cp "$roots" "$root/etc/ssl/certs/"
  ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    install -D "$library" "$root$library"
  done
  "$here/image.py" "localhost/$name:1" "$out/$name.tar" --entrypoint "/$2" "$root"
  rm -rf "$root"
  echo "$sum" >"$out/$name.sum"
}

image quotakeeper quotakeeper
image quotakeeper-proxy quotakeeper-proxy
image counting-provider counting-provider
echo "$out"
