#!/usr/bin/env bash
# The programs themselves, with the arguments, the environment and the rights that the chart gives them, against a
# real API server: they come up, a quota comes into force, the gate opens, and nothing is ever forbidden to them. They
# run as processes here, since there are no nodes. Half a minute once they are built.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../cache.sh"
root=$(cd "$here/../.." && pwd)
if [[ ${1:-} != inside ]]; then
  need cargo=cargo curl=curl
  (cd "$root" && cargo build --quiet -p quotakeeper --bin quotakeeper) >&2
  unset KUBECONFIG
  exec "$here/control-plane.sh" run --controllers "${BASH_SOURCE[0]}" inside
fi
[[ $(kubectl config current-context) = quotakeeper-test ]] || fail "not an API server for tests; run it without arguments"
program=${CARGO_TARGET_DIR:-$root/target}/debug/quotakeeper
chart=$root/charts/quotakeeper
built=$("$here/tools.sh" helm)
export PATH=$built:$PATH
scratch=$(mktemp -d)
processes=()
end() {
  ((${#processes[@]} == 0)) || kill -KILL "${processes[@]}" 2>/dev/null || true
  wait 2>/dev/null
  rm -rf "$scratch"
}
trap end EXIT
export HELM_CONFIG_HOME=$scratch HELM_CACHE_HOME=$scratch HELM_DATA_HOME=$scratch

passed=0
story() { say "— $*"; }
holds() { # WHAT COMMAND…
  local what=$1
  shift
  "$@" || { tail -n 20 "$scratch"/*.log >&2; fail "not so: $what"; }
  passed=$((passed + 1))
  say "  ✓ $what"
}
eventually() { # SECONDS COMMAND…
  local deadline=$((SECONDS + $1))
  shift
  until "$@" &>/dev/null; do
    ((SECONDS < deadline)) || { "$@"; return; }
    sleep 0.2
  done
}
system=quotakeeper
free_port() {
  local port
  while :; do
    port=$((32100 + RANDOM % 500))
    (: </dev/tcp/127.0.0.1/$port) 2>/dev/null || break
  done
  echo "$port"
}

# account NAME: a kubeconfig that has nothing but that ServiceAccount's token.
account() {
  kubectl config view --raw --flatten -o json | TOKEN=$(kubectl -n $system create token "$1") python3 -c '
import json, os, sys
config = json.load(sys.stdin)
config["users"] = [{"name": "account", "user": {"token": os.environ["TOKEN"]}}]
for context in config["contexts"]:
    context["context"]["user"] = "account"
json.dump(config, sys.stdout)' >"$scratch/$1.kubeconfig"
}
# container KIND/NAME: what the kubelet would start, its arguments and plain variables, a line each. A file: as rendered.
container() {
  local source=(get -n "$system" "$1")
  [[ $1 != *.yaml ]] || source=(create --dry-run=client -f "$1")
  kubectl "${source[@]}" -o json | python3 -c '
import json, sys
spec = json.load(sys.stdin)["spec"]
container = spec.get("template", {"spec": spec})["spec"]["containers"][0]
for variable in container.get("env", []):
    if "value" in variable:
        print("env", variable["name"] + "=" + variable["value"])
for argument in container["args"]:
    print("arg", argument)'
}
# start NAME ACCOUNT CONTAINER VARIABLE=VALUE…: the container's program, as the account.
start() {
  local name=$1 who=$2 variables arguments lines
  account "$who"
  lines=$(container "$3")
  mapfile -t variables < <(sed -n 's/^env //p' <<<"$lines")
  mapfile -t arguments < <(sed -n 's/^arg //p' <<<"$lines")
  env -i PATH="$PATH" KUBECONFIG="$scratch/$who.kubeconfig" POD_NAMESPACE=$system POD_NAME="$name-1" \
    QUOTAKEEPER_LOG=info,kube=warn "${variables[@]}" "${@:4}" "$program" "${arguments[@]}" >"$scratch/$name.log" 2>&1 &
  processes+=($!)
}
ready() { [[ $(curl --silent --noproxy '*' --output /dev/null --write-out '%{http_code}' "http://127.0.0.1:$1/readyz") = 200 ]]; }

kubectl create namespace $system >/dev/null
kubectl create namespace gtm >/dev/null
# The webhook can't be called: there is no network of Services.
helm install quotakeeper "$chart" --namespace $system --set webhook.failurePolicy=Ignore >/dev/null
kubectl wait crd/apiquotas.quotakeeper.dev --for=condition=Established --timeout=60s >/dev/null
kubectl -n gtm create -f - >/dev/null <<'Q'
{apiVersion: quotakeeper.dev/v1alpha1, kind: ApiQuota, metadata: {name: crm}, spec: {provider: {name: hubspot, tier: pro}}}
Q

story "the programs come up as their ServiceAccounts"
sessions=$(free_port) limiter=$(free_port) operator=$(free_port) webhook=$(free_port)
mkdir "$scratch/ledger"
start limiter quotakeeper-limiter deployment/quotakeeper-limiter \
  QUOTAKEEPER_LISTEN=127.0.0.1:"$sessions" QUOTAKEEPER_METRICS=127.0.0.1:"$limiter" QUOTAKEEPER_LEDGER="$scratch/ledger/ledger.redb"
kubectl -n $system create token quotakeeper-operator --audience quotakeeper.dev/limiter >"$scratch/token"
reach=(QUOTAKEEPER_LIMITER=https://127.0.0.1:"$sessions" QUOTAKEEPER_TOKEN_FILE="$scratch/token")
start operator quotakeeper-operator deployment/quotakeeper-operator "${reach[@]}" \
  QUOTAKEEPER_METRICS=127.0.0.1:"$operator" QUOTAKEEPER_WEBHOOK_LISTEN=127.0.0.1:"$webhook"
holds "the operator is ready" eventually 60 ready "$operator"
holds "the limiter is ready, with the certificate that the operator made" eventually 60 ready "$limiter"
holds "a quota comes into force" kubectl -n gtm wait apiquota/crm --for=condition=Programmed --timeout=60s >/dev/null
holds "and is ready" kubectl -n gtm wait apiquota/crm --for=condition=Ready --timeout=60s >/dev/null
holds "the built-in providers are there" kubectl get apiprovider hubspot openai >/dev/null

story "a pod without its proxy is told of"
kubectl -n gtm create -f - >/dev/null <<'D'
{apiVersion: apps/v1, kind: Deployment, metadata: {name: enrich}, spec: {selector: {matchLabels: {app: enrich}}, template: {
metadata: {labels: {app: enrich}, annotations: {quotakeeper.dev/quotas: crm}}, spec: {containers: [{name: main, image: main}]}}}}
D
told() { kubectl -n gtm events --for deployment/enrich | grep -q NotInjected; }
holds "by an Event on its Deployment" eventually 90 told
kubectl -n gtm delete deployment enrich >/dev/null

story "helm test asks what it may"
helm template quotakeeper "$chart" --namespace $system --show-only templates/tests/check.yaml |
  sed 's/--timeout=120/--timeout=2/' >"$scratch/check.yaml"
kubectl apply -f "$scratch/check.yaml" >/dev/null
kubectl -n $system wait apiquota/quotakeeper-test --for=condition=Programmed --timeout=60s >/dev/null
start check quotakeeper-test pod/quotakeeper-test
checked=${processes[-1]}
unset 'processes[-1]'
ended_badly() { ! wait "$1"; }
holds "it says no, since no pods run" ended_badly "$checked"
said() { diff <(sed 's/;.*//' "$scratch/check.log") - >&2; }
holds "and of nothing else that anything is missing: its quota is in force" said <<'S'
quotakeeper: 0 of 2 pods of the Deployment quotakeeper-operator are ready
quotakeeper: 0 of 1 pods of the Deployment quotakeeper-limiter are ready
S
kubectl delete -f "$scratch/check.yaml" >/dev/null

story "what is in force goes with its quota"
kubectl -n gtm delete apiquota crm >/dev/null
undocumented() { [[ -z $(kubectl -n $system get configmaps -l quotakeeper.dev/config=account -o name) ]]; }
holds "its document is removed" eventually 60 undocumented

story "before an uninstallation the gate is opened"
helm template quotakeeper "$chart" --namespace $system --show-only templates/open-gate.yaml >"$scratch/open-gate.yaml"
start open-gate quotakeeper-operator "$scratch/open-gate.yaml" "${reach[@]}"
opened=${processes[-1]}
unset 'processes[-1]'
holds "the hook's program ends well" wait "$opened"
holds "and has opened it" test "$(kubectl -n $system get configmap quotakeeper-gate -o jsonpath='{.data.open}')" = true

story "nothing was forbidden"
holds "to any of them" bash -c '! grep -i forbidden "$@" >&2' - "$scratch"/{limiter,operator,check,open-gate}.log

story "what they made goes with them"
kill -TERM "${processes[@]}"
wait "${processes[@]}" || true
processes=()
helm uninstall quotakeeper --namespace $system --no-hooks >/dev/null
gone() { diff <(kubectl -n $system get secrets,leases,configmaps -o name) - <<<configmap/kube-root-ca.crt; }
holds "Secrets, Leases and ConfigMaps are collected" eventually 60 gone

echo "$passed passed, 0 failed"
