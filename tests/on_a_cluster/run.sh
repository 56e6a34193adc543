#!/usr/bin/env bash
# run.sh [STORY…]: the stories of this folder, or some of them, such as test_the_gate_opens, on a cluster of their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# The one that uninstalls comes last.
(($#)) || set -- test_real_pods_stay_inside_the_quota test_killed_processes_cost_capacity_only \
  test_a_small_workload_gets_its_half test_the_author_reads_it_where_the_job_is test_an_upgrade_costs_no_call \
  test_the_gate_opens
export PYTHONDONTWRITEBYTECODE=1
exec ../cluster/filled.sh python3 -m unittest --verbose "$@"
