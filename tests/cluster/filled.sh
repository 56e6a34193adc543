#!/usr/bin/env bash
# filled.sh [--clients] COMMAND…: runs COMMAND with a cluster of its own that has this checkout's programs and the SDKs as
# images, and with --clients the programs that take their CAs from files.
# With QUOTAKEEPER_CLUSTER=existing it is the cluster that KUBECONFIG names, which has to have the images.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

if [[ ${1:-} != --inside ]]; then
  makers=(python)
  if [[ ${1:-} = --clients ]]; then
    makers+=(clients)
    shift
  fi
  (($#)) || fail "run what? filled.sh [--clients] COMMAND…"
  if [[ ${QUOTAKEEPER_CLUSTER:-} != existing ]]; then
    [[ $(id -u) = 0 ]] && command -v apt-get >/dev/null || fail "a Kubernetes of its own needs root and Debian; \
name one that you have by KUBECONFIG and set QUOTAKEEPER_CLUSTER=existing, or see what needs no cluster: make demo-local"
  fi
  # Before the cluster is up: what is built takes the machine.
  archives=()
  for maker in "${makers[@]}" product; do
    folder=$("$here/$maker.sh")
    archives+=("$folder"/*.tar)
  done
  exec "$here/cluster.sh" run "${BASH_SOURCE[0]}" --inside "${#archives[@]}" "${archives[@]}" "$@"
fi
archives=("${@:3:$2}")
shift $((2 + $2))
if [[ ${QUOTAKEEPER_CLUSTER:-} != existing ]]; then
  "$here/cluster.sh" load "${archives[@]}" >/dev/null
fi
# For a node that joins.
export QUOTAKEEPER_IMAGE_ARCHIVES="${archives[*]}"
exec "$@"
