#!/usr/bin/env bash
# debian.sh [PACKAGE…]: unpacks Debian packages, by default those that the node runs, into the cache, once, and prints the
# directory. They are not installed: no service of theirs starts, and nothing that this machine has is replaced.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

packages=("$@")
((${#packages[@]})) || packages=(containerd runc containernetworking-plugins nftables busybox)

unpack() {
  local out=$1 archive downloads
  need apt-get=apt dpkg-deb=dpkg
  [[ $(id -u) = 0 ]] || fail "fetching Debian packages needs root"
  downloads=$(mktemp -d)
  mkdir "$downloads/partial"
  fetch() {
    # With what they depend on, as far as this machine lacks it.
    apt-get install --quiet=2 --assume-yes --download-only --reinstall --no-install-recommends \
      -o Dir::Cache::archives="$downloads" -o APT::Sandbox::User=root "${packages[@]}"
  }
  say "fetching from Debian: ${packages[*]}"
  fetch >/dev/null 2>&1 || { apt-get update --quiet=2 && fetch; } || fail "apt-get can't fetch ${packages[*]}"
  for archive in "$downloads"/*.deb; do
    dpkg-deb --extract "$archive" "$out"
  done
  rm -rf "$downloads" "$out"/usr/share/{doc,man,bash-completion,lintian}
}

release=$(. /etc/os-release && echo "$ID-${VERSION_ID:-testing}")
once "cluster-$release-$(pins <(echo "${packages[*]}"))" unpack
