#!/usr/bin/env bash
# Installs the pinned SDKs outside the checkout, once for each content of the pins, and prints where.
# Several may run at once: the first installs, the others wait. What a broken run left is made anew.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/quotakeeper
say() { echo "sdk: $*" >&2; }
fail() { say "$*"; exit 1; }

for tool in python3 node npm flock sha256sum; do
  command -v "$tool" >/dev/null || fail "$tool is missing; install it (Debian: python3, nodejs, npm, util-linux, coreutils)"
done
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "python3 is $version; 3.10 or newer is needed"
node_version=$(node --version)
node -e 'process.exit(Number(process.versions.node.split(".")[0] < 20))' || fail "node is $node_version; 20 or newer is needed"

pins=$(cat "$here"/{requirements.txt,package.json,package-lock.json} <(echo "$version ${node_version%%.*} $(uname -m)") | sha256sum | cut -c1-16)
home=$cache/sdk-$pins
mkdir -p "$cache"
exec 9>"$cache/sdk.lock"
flock 9

if [[ ! -e $home/complete ]]; then
  rm -rf "$home"
  mkdir -p "$home"
  if ! python3 -c 'import ensurepip' 2>/dev/null; then
    [[ $(id -u) = 0 ]] && command -v apt-get >/dev/null || fail "python3 can't make a venv; install python3-venv"
    say "installing python3-venv, which Debian keeps apart from python3"
    { apt-get update -qq && apt-get install -y -qq python3-venv; } >&2
  fi
  say "installing the Python SDKs into $home/python"
  python3 -m venv "$home/python"
  "$home/python/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt" >&2
  say "installing the Node SDK into $home/node"
  mkdir "$home/node"
  cp "$here"/package.json "$here"/package-lock.json "$home/node"
  (cd "$home/node" && npm ci --no-audit --no-fund --loglevel=error >&2)
  touch "$home/complete"
fi
say "ready: $("$home/python/bin/python" -m pip freeze --disable-pip-version-check | grep -E '^(openai|anthropic|hubspot-api-client)==' | tr '\n' ' ')and node's openai $(node -p "require('$home/node/node_modules/openai/package.json').version")"
echo "$home"
