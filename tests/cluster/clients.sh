#!/usr/bin/env bash
# clients.sh: makes localhost/clients:1 once, of programs that take their CAs from files rather than from variables, and
# prints its folder: Debian's wget, which is GnuTLS's, and a Java runtime with tests/sdk/Calls.java.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"
source "$here/rootfs.sh"
calls=$here/../sdk/Calls.java

make_image() {
  local out=$1 root=$1/root jdk=$1/jdk
  say "making an image of wget and Java"
  # Java needs libstdc++. A shell without a wget of its own, unlike busybox.
  rootfs "$root" wget dash libstdc++6 zlib1g ca-certificates
  rootfs "$jdk" default-jdk-headless
  # No more of a JDK than the program needs: a fifth of its size.
  cp "$calls" "$jdk/"
  within "$jdk" javac -d /calls /Calls.java
  within "$jdk" jlink --add-modules java.base,java.net.http,jdk.crypto.ec --strip-java-debug-attributes --no-man-pages \
    --no-header-files --output /runtime
  mkdir -p "$root/opt"
  mv "$jdk/runtime" "$root/opt/java"
  mv "$jdk/calls" "$root/opt/calls"
  ln -sf dash "$root/bin/sh"
  "$here/image.py" localhost/clients:1 "$out/clients.tar" --env PATH=/opt/java/bin:/usr/bin:/bin --entrypoint /bin/sh "$root"
  rm -rf "$root" "$jdk"
}

# within ROOT PROGRAM ARGUMENT…: runs a program of the JDK in ROOT, which finds its files by /proc.
within() {
  local root=$1 program=/usr/lib/jvm/default-java/bin/$2
  shift 2
  mkdir -p "$root/proc"
  unshare --mount sh -ec 'mount --rbind /proc "$0/proc" && exec chroot "$0" "$@"' "$root" "$program" "$@"
}

once "cluster-clients-$(pins "$here"/{image.py,clients.sh,rootfs.sh} "$calls" <(echo "$release"))" make_image
