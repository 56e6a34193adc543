# A root of an image, of Debian packages; sourced by the scripts that make such images, beside cache.sh.
# shellcheck shell=bash

# rootfs ROOT PACKAGE…: fills ROOT with the packages and all that they need, whatever this machine has, with the system's
# CAs and the users of a pod.
rootfs() {
  local root=$1 downloads archive
  shift
  need apt-get=apt dpkg-deb=dpkg python3=python3
  [[ $(id -u) = 0 ]] || fail "fetching Debian packages needs root"
  downloads=$(mktemp -d)
  mkdir -p "$downloads/partial" "$root"
  # Against an empty list of installed packages.
  : >"$downloads/status"
  fetch() {
    apt-get install --quiet=2 --assume-yes --download-only --no-install-recommends \
      -o Dir::Cache::archives="$downloads" -o Dir::State::status="$downloads/status" -o APT::Sandbox::User=root "$@"
  }
  fetch "$@" >/dev/null 2>&1 || { apt-get update --quiet=2 && fetch "$@" >/dev/null; } || fail "apt-get can't fetch $*"
  for archive in "$downloads"/*.deb; do
    dpkg-deb --extract "$archive" "$root"
  done
  rm -rf "$downloads" "$root"/usr/share/{doc,man,locale,perl*,lintian} "$root"/usr/lib/*/{perl*,gconv} "$root"/var
  mkdir -p "$root"/etc/ssl/certs "$root"/home
  mkdir -p -m 1777 "$root/tmp"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  # Where OpenSSL looks; the package that makes the link is not needed otherwise.
  mkdir -p "$root/usr/lib/ssl"
  ln -sf /etc/ssl/certs/ca-certificates.crt "$root/usr/lib/ssl/cert.pem"
  printf '%s\n' root:x:0:0::/:/bin/sh nonroot:x:65532:65532::/tmp:/bin/sh >"$root/etc/passwd"
  printf '%s\n' root:x:0: nonroot:x:65532: >"$root/etc/group"
}

# The Debian release that the packages are of.
release=$(. /etc/os-release && echo "$ID-${VERSION_ID:-testing}")
