#!/usr/bin/env bash
# run.sh: checks the chart's alerts with promtool of Debian's Prometheus: each is tested, has a runbook, fires when it
# should and not before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
alerts=../../charts/quotakeeper/files/alerts.yaml
promtool=$(../cluster/debian.sh prometheus)/usr/bin/promtool
"$promtool" check rules --lint=all --lint-fatal "$alerts"
"$promtool" test rules alerts_test.yaml
names=$(sed -n 's/^  - alert: //p' "$alerts")
[[ -n $names ]]
for name in $names; do
  grep -q "alertname: $name$" alerts_test.yaml || { echo "run.sh: no test has $name fire" >&2; exit 1; }
  grep -q "^## $name$" ../../docs/runbooks.md || { echo "run.sh: docs/runbooks.md has no section $name" >&2; exit 1; }
done
