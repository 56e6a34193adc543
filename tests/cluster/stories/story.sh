# What the stories of this folder share; each sources it, and ends with `finish`.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/../cache.sh"
root=$(cd "$here/../.." && pwd)
# The charts' stories say what they check of it.
# shellcheck disable=SC2034
chart=$root/charts/quotakeeper
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

passed=0
story() { say "— $*"; }
# A story that has more to show of a failure defines this anew.
explain_failure() { :; }
holds() { # WHAT COMMAND…: counts what holds; ends the story at what does not
  local what=$1
  shift
  "$@" || { explain_failure; fail "not so: $what"; }
  passed=$((passed + 1))
  say "  ✓ $what"
}
eventually() { # SECONDS COMMAND…: until it succeeds; what it printed last is shown if it never does
  local deadline=$((SECONDS + $1))
  shift
  until "$@" &>/dev/null; do
    ((SECONDS < deadline)) || { "$@"; return; }
    sleep 0.2
  done
}
same() { diff "$1" "$2" >&2; }
finish() { echo "$passed passed, 0 failed"; }

# account NAMESPACE NAME: a kubeconfig that has nothing but that ServiceAccount's token, in $scratch/NAME.kubeconfig.
account() {
  kubectl config view --raw --flatten -o json | TOKEN=$(kubectl -n "$1" create token "$2") python3 -c '
import json, os, sys
config = json.load(sys.stdin)
config["users"] = [{"name": "account", "user": {"token": os.environ["TOKEN"]}}]
for context in config["contexts"]:
    context["context"]["user"] = "account"
json.dump(config, sys.stdout)' >"$scratch/$2.kubeconfig"
}

# on_a_control_plane ARGUMENT…: runs the calling story again with a control plane of its own, unless it has one.
on_a_control_plane() {
  if [[ ${1:-} != inside ]]; then
    rm -rf "$scratch"
    unset KUBECONFIG
    exec "$here/control-plane.sh" run --controllers "$0" inside
  fi
  [[ $(kubectl config current-context) = quotakeeper-test ]] ||
    fail "not an API server for tests; run it without arguments"
}

# helm first in PATH, with nobody's own plugins, repositories or settings. QUOTAKEEPER_HELM=helm3: Helm 3 instead of 4.
use_helm() {
  local built
  built=$("$here/tools.sh" "${QUOTAKEEPER_HELM:-helm}")
  export PATH=$built:$PATH
  export HELM_CONFIG_HOME=$scratch HELM_CACHE_HOME=$scratch HELM_DATA_HOME=$scratch
}
