#!/usr/bin/env bash
# run.sh [STORY…]: the stories of this folder, or some of them, on a cluster of their own: started, filled with this
# checkout's programs, taken down. With QUOTAKEEPER_CLUSTER=existing on the cluster that KUBECONFIG names, which has to
# have the images.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cluster=$here/../cluster
if [[ ${1:-} != --inside ]]; then
  "$cluster/python.sh" >/dev/null
  "$cluster/product.sh" >/dev/null
  exec "$cluster/cluster.sh" run "${BASH_SOURCE[0]}" --inside "$@"
fi
shift
if [[ ${QUOTAKEEPER_CLUSTER:-} != existing ]]; then
  "$cluster/cluster.sh" load "$("$cluster/product.sh")"/*.tar "$("$cluster/python.sh")/python.tar" >/dev/null
fi
cd "$here"
export PYTHONDONTWRITEBYTECODE=1
if (($#)); then
  exec python3 -m unittest --verbose "$@"
fi
# The one that uninstalls comes last.
exec python3 -m unittest --verbose test_real_pods_stay_inside_the_quota test_killed_processes_cost_capacity_only \
  test_a_small_workload_gets_its_half test_the_gate_opens
