#!/usr/bin/env bash
# filled.sh COMMAND…: runs COMMAND with a cluster of its own that has this checkout's programs and the SDKs as images.
# With QUOTAKEEPER_CLUSTER=existing it is the cluster that KUBECONFIG names, which has to have the images.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

if [[ ${1:-} != --inside ]]; then
  (($#)) || fail "run what? filled.sh COMMAND…"
  if [[ ${QUOTAKEEPER_CLUSTER:-} != existing ]]; then
    [[ $(id -u) = 0 ]] && command -v apt-get >/dev/null || fail "a Kubernetes of its own needs root and Debian; \
name one that you have by KUBECONFIG and set QUOTAKEEPER_CLUSTER=existing, or see what needs no cluster: make demo-local"
  fi
  # Before the cluster is up: what is built takes the machine.
  python=$("$here/python.sh")
  product=$("$here/product.sh")
  exec "$here/cluster.sh" run "${BASH_SOURCE[0]}" --inside "$python" "$product" "$@"
fi
python=$2 product=$3
shift 3
if [[ ${QUOTAKEEPER_CLUSTER:-} != existing ]]; then
  "$here/cluster.sh" load "$product"/*.tar "$python/python.tar" >/dev/null
fi
exec "$@"
