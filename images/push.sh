#!/usr/bin/env bash
# push.sh REGISTRY: pushes the images of make.sh to a registry, such as registry.example.com/team. Log in before,
# with `skopeo login`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
registry=${1:-}
[[ -n $registry ]] || { echo "push.sh: which registry? push.sh registry.example.com/team" >&2; exit 2; }
command -v skopeo >/dev/null || { echo "push.sh: skopeo is missing (Debian: skopeo)" >&2; exit 1; }
out=$("$here/make.sh")
version=${out##*-}
for name in quotakeeper quotakeeper-proxy; do
  skopeo copy "oci-archive:$out/$name.tar" "docker://$registry/$name:$version"
done
cat <<U
In your values:
  image: {repository: $registry/quotakeeper}
  proxy: {image: {repository: $registry/quotakeeper-proxy}}
U
