#!/usr/bin/env bash
# images.sh DEBIAN COREDNS: makes the images that the node starts with, once, and prints their directory.
# localhost/busybox:1 is for pods of tests; the same file is the sandbox's process.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"
debian=$1 coredns=$2

make_images() {
  local out=$1 root=$1/root program applet library
  need python3=python3 ldd=libc-bin
  mkdir -p "$root"/{bin,etc,home}
  mkdir -m 1777 "$root/tmp"
  # With its libraries: a static one can't resolve names.
  program=$debian/bin/busybox
  [[ -e $program ]] || program=$debian/usr/bin/busybox
  cp "$program" "$root/bin/"
  ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    install -D "$library" "$root$library"
  done
  for applet in $("$root/bin/busybox" --list); do
    [[ $applet = busybox ]] || ln -s busybox "$root/bin/$applet"
  done
  printf '%s\n' root:x:0:0::/:/bin/sh nonroot:x:65532:65532::/home:/bin/sh >"$root/etc/passwd"
  printf '%s\n' root:x:0: nonroot:x:65532: >"$root/etc/group"
  "$here/image.py" localhost/pause:1 "$out/pause.tar" --entrypoint /bin/sleep --entrypoint 2147483647 "$root"
  "$here/image.py" localhost/busybox:1 "$out/busybox.tar" "$root"
  "$here/image.py" localhost/coredns:1 "$out/coredns.tar" --entrypoint /coredns "$coredns/coredns=/coredns"
  rm -rf "$root"
}

once "cluster-images-$(pins "$here"/{image.py,images.sh} <(echo "${debian##*/} ${coredns##*/}"))" make_images
