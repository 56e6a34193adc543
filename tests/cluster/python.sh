#!/usr/bin/env bash
# python.sh: makes localhost/python:1 once, of Debian's Python and the SDKs that tests/sdk pins, and prints its folder.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"
source "$here/rootfs.sh"
sdk=$here/../sdk

make_image() {
  local out=$1 root=$1/root version
  say "making an image of Python and the SDKs"
  rootfs "$root" python3 ca-certificates busybox
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

once "cluster-python-$(pins "$here"/{image.py,python.sh,rootfs.sh} "$sdk"/requirements.txt "$sdk"/*.py <(echo "$release"))" make_image
