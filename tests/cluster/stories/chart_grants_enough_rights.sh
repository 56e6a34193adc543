#!/usr/bin/env bash
# The programs themselves, with the arguments, the environment and the rights that the chart gives them, against a
# real API server: they come up, a quota comes into force, the gate opens when Helm uninstalls and at no other time, and
# nothing is ever forbidden to them. They
# run as processes here, since there are no nodes. Half a minute once they are built.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/story.sh"
if [[ ${1:-} != inside ]]; then
  need curl=curl
  programs=$("$here/programs.sh")
  export PROGRAM=$programs/quotakeeper
fi
on_a_control_plane "$@"
program=$PROGRAM
use_helm
processes=()
end() {
  ((${#processes[@]} == 0)) || kill -KILL "${processes[@]}" 2>/dev/null || true
  wait 2>/dev/null
  rm -rf "$scratch"
}
trap end EXIT
explain_failure() { tail -n 20 "$scratch"/*.log >&2; }
system=quotakeeper

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
# Apart from those of the control plane and of other tests, and below those that the system hands out.
ports=$(free_ports 32500 200 4)
read -r sessions limiter operator webhook <<<"${ports//$'\n'/ }"
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

# gate STATUS RELEASE: runs the hook's program as its ServiceAccount; what it says is in gate-STATUS.log.
rights=$scratch/open-gate-rights.yaml
gate() {
  helm template "$2" "$chart" --namespace $system --show-only templates/open-gate.yaml >"$scratch/all.yaml"
  awk -v RS='---\n' -v ORS='---\n' '!/kind: Job/' "$scratch/all.yaml" >"$rights"
  awk -v RS='---\n' '/kind: Job/' "$scratch/all.yaml" >"$scratch/open-gate.yaml"
  kubectl apply -f "$rights" >/dev/null
  kubectl -n $system create token quotakeeper-open-gate --audience quotakeeper.dev/limiter >"$scratch/gate-token"
  start "gate-$1" quotakeeper-open-gate "$scratch/open-gate.yaml" QUOTAKEEPER_LIMITER=https://127.0.0.1:"$sessions" \
    QUOTAKEEPER_TOKEN_FILE="$scratch/gate-token" QUOTAKEEPER_JOB_UID="$(cat /proc/sys/kernel/random/uuid)"
  last
}
# last: ends as the last program that was started.
last() {
  local process=${processes[-1]}
  unset 'processes[-1]'
  wait "$process"
}
closed() { [[ -z $(kubectl -n $system get configmap quotakeeper-gate --ignore-not-found -o name) ]]; }
reads() { [[ $(kubectl -n gtm get apiquota crm -o jsonpath='{.status.summary.status}') == $1 ]]; }
happened() { kubectl -n "$1" events --for "$2" | grep -q "$3"; }

story "a hook that is applied as an ordinary Job opens nothing"
holds "where Helm has no release its program ends well" gate unknown another
holds "and says so" grep -q 'the gate stays closed: Helm has no release another in the namespace quotakeeper' "$scratch/gate-unknown.log"
holds "where the release stands too" gate standing quotakeeper
holds "and says so, and what to do" grep -q 'release quotakeeper is deployed, not uninstalling.*open-gate --yes' "$scratch/gate-standing.log"
refusals() { [[ $(kubectl -n $system get events --field-selector reason=GateStaysClosed,type=Warning -o name | wc -l) = 2 ]]; }
holds "and its Job is told by an Event" eventually 10 refusals
unasked() { ! "$program" open-gate 2>"$scratch/gate-unasked.log" && grep -q 'confirm with --yes' "$scratch/gate-unasked.log"; }
holds "a person has to confirm" unasked
holds "the gate is closed" closed

story "before an uninstallation the gate is opened"
kubectl -n $system label secret sh.helm.release.v1.quotakeeper.v1 --overwrite status=uninstalling modifiedAt="$(date +%s)" >/dev/null
holds "the hook's program ends well" gate going quotakeeper
holds "and all proxies know" grep -q 'the gate is open until .*, and 0 proxies know' "$scratch/gate-going.log"
until=$(kubectl -n $system get configmap quotakeeper-gate -o jsonpath='{.data.openUntil}')
soon() { local left=$(($(date -d "$until" +%s) - $(date +%s))); ((left > 0 && left <= 900)); }
holds "for at most 15 minutes" soon
holds "the quota says until when" eventually 60 reads 'GateOpen until *'
holds "and that it is not enforced" kubectl -n gtm wait apiquota/crm --for=condition=Ready=False --timeout=60s >/dev/null
holds "and tells by an Event" eventually 60 happened gtm apiquota/crm 'Warning *GateOpen'
kubectl -n $system label secret sh.helm.release.v1.quotakeeper.v1 --overwrite status=deployed >/dev/null
kubectl -n $system delete configmap quotakeeper-gate >/dev/null
holds "who deletes the ConfigMap closes it" eventually 60 reads Ready
holds "which is told too" eventually 60 happened gtm apiquota/crm 'Normal *GateClosed'
confirmed() {
  env -i KUBECONFIG="$scratch/quotakeeper-operator.kubeconfig" POD_NAMESPACE=$system "${reach[@]}" \
    "$program" open-gate --yes --wait 2>"$scratch/gate-confirmed.log"
}
holds "with the operator's rights a person opens it" confirmed
holds "and it is open" grep -q 'the gate is open until .*, and 0 proxies know' "$scratch/gate-confirmed.log"
kubectl -n $system delete configmap quotakeeper-gate >/dev/null
kubectl delete -f "$rights" >/dev/null

story "what is in force goes with its quota"
kubectl -n gtm delete apiquota crm >/dev/null
undocumented() { [[ -z $(kubectl -n $system get configmaps -l quotakeeper.dev/config=account -o name) ]]; }
holds "its document is removed" eventually 60 undocumented

story "nothing was forbidden"
holds "to any of them" bash -c '! grep -i forbidden "$@" >&2' - "$scratch"/{limiter,operator,check}.log "$scratch"/gate-*.log

story "what they made goes with them"
kill -TERM "${processes[@]}"
wait "${processes[@]}" || true
processes=()
helm uninstall quotakeeper --namespace $system --no-hooks >/dev/null
gone() { diff <(kubectl -n $system get secrets,leases,configmaps -o name) - <<<configmap/kube-root-ca.crt; }
holds "Secrets, Leases and ConfigMaps are collected" eventually 60 gone

finish
