#!/usr/bin/env bash
# run.sh [STORY…]: the stories of this folder, or some of them, such as test_the_gate_opens, on a cluster of their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
exec ../cluster/filled.sh --clients python3 run.py "$@"
