#!/usr/bin/env bash
# python.sh: makes localhost/python:1 once, of Debian's Python and the SDKs that tests/sdk pins, and prints its folder.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"
sdk=$here/../sdk

make_image() {
  local out=$1 root=$1/root downloads version
  need apt-get=apt dpkg-deb=dpkg python3=python3
  [[ $(id -u) = 0 ]] || fail "fetching Debian packages needs root"
  say "making an image of Python and the SDKs"
  downloads=$(mktemp -d)
  mkdir -p "$downloads/partial" "$root"
  # All that Python needs, whatever this machine has: against an empty list of installed packages.
  : >"$downloads/status"
  fetch() {
    apt-get install --quiet=2 --assume-yes --download-only --no-install-recommends \
      -o Dir::Cache::archives="$downloads" -o Dir::State::status="$downloads/status" -o APT::Sandbox::User=root \
      python3 ca-certificates busybox
  }
  fetch >/dev/null 2>&1 || { apt-get update --quiet=2 && fetch >/dev/null; } || fail "apt-get can't fetch python3"
  local archive
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
  version=$(basename "$root"/usr/lib/python3.*)
  python3 -m venv "$out/pip"
  "$out/pip/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
    --python-version "${version#python}" --only-binary :all: \
    --target "$root/usr/local/lib/$version/dist-packages" --requirement "$sdk/requirements.txt"
  mkdir "$root/programs"
  cp "$sdk"/*.py "$root/programs"
  chroot "$root" "/usr/bin/$version" -m compileall -q "/usr/lib/$version" "/usr/local/lib/$version" || true
  "$here/image.py" localhost/python:1 "$out/python.tar" --env HOME=/tmp --env PYTHONUNBUFFERED=1 \
    --entrypoint "/usr/bin/$version" "$root"
  rm -rf "$root" "$out/pip"
}

release=$(. /etc/os-release && echo "$ID-${VERSION_ID:-testing}")
once "cluster-python-$(pins "$here"/{image.py,python.sh} "$sdk"/requirements.txt "$sdk"/*.py <(echo "$release"))" make_image
