#!/usr/bin/env bash
# run.sh: the demo on a real Kubernetes: one that it brings up itself and takes down, or with
# QUOTAKEEPER_CLUSTER=existing the one that KUBECONFIG names, which has to have the images (README of tests/cluster).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cluster=$here/../tests/cluster
if [[ ${1:-} != --inside ]]; then
  if [[ ${QUOTAKEEPER_CLUSTER:-} != existing ]] && ! { [[ $(id -u) = 0 ]] && command -v apt-get >/dev/null; }; then
    echo "A Kubernetes of its own needs root and Debian; without them: make demo-local, or name a cluster by KUBECONFIG" \
      "and set QUOTAKEEPER_CLUSTER=existing" >&2
    exit 1
  fi
  echo "Building and starting what the demo needs; the first time takes minutes." >&2
  "$cluster/python.sh" >/dev/null
  "$cluster/product.sh" >/dev/null
  exec "$cluster/cluster.sh" run "${BASH_SOURCE[0]}" --inside
fi
if [[ ${QUOTAKEEPER_CLUSTER:-} != existing ]]; then
  "$cluster/cluster.sh" load "$("$cluster/product.sh")"/*.tar "$("$cluster/python.sh")/python.tar" >/dev/null
fi
PYTHONDONTWRITEBYTECODE=1 exec python3 "$here/on_a_cluster.py"
