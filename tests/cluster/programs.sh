#!/usr/bin/env bash
# programs.sh: builds this checkout's programs and prints their folder. QUOTAKEEPER_BUILT says that they are built:
# `make` builds them with all tests at once.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"
root=$here/../..
need cargo=cargo
if [[ -z ${QUOTAKEEPER_BUILT:-} ]]; then
  (cd "$root" && cargo build --quiet -p quotakeeper -p quotakeeper-proxy -p counting-provider --bins) >&2
fi
echo "${CARGO_TARGET_DIR:-$root/target}/debug"
