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
  account $system "$who"
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
start_operator() { # NAME
  start "$1" quotakeeper-operator deployment/quotakeeper-operator "${reach[@]}" \
    QUOTAKEEPER_METRICS=127.0.0.1:"$operator" QUOTAKEEPER_WEBHOOK_LISTEN=127.0.0.1:"$webhook"
}
start_operator operator
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
  sed 's/--timeout=120/--timeout=5/' >"$scratch/check.yaml"
kubectl apply -f "$scratch/check.yaml" >/dev/null
start check quotakeeper-test job/quotakeeper-test
checked=${processes[-1]}
unset 'processes[-1]'
ended_badly() { ! wait "$1"; }
holds "it says no, since no pods run" ended_badly "$checked"
said() { diff <(sed 's/;.*//' "$scratch/check.log") - >&2; }
holds "and of nothing else that anything is missing: its quota is in force" said <<'S'
quotakeeper: 0 of 2 pods of the Deployment quotakeeper-operator are ready
quotakeeper: 0 of 2 pods of the Deployment quotakeeper-limiter are ready
S
kubectl delete -f "$scratch/check.yaml" >/dev/null
holds "it has deleted the quota" test -z "$(kubectl -n $system get apiquotas -o name)"

# There is no network of Services: the webhook's name leads to this machine.
kubectl -n $system delete service quotakeeper-webhook >/dev/null
kubectl -n $system create service externalname quotakeeper-webhook --external-name localhost >/dev/null
kubectl patch mutatingwebhookconfiguration quotakeeper --type=json >/dev/null --patch \
  "[{\"op\": \"replace\", \"path\": \"/webhooks/3/clientConfig/service/port\", \"value\": $webhook}]"
# hook RELEASE: creates the hook as Helm does, rights first; what its author is told is in hook.log.
hook() {
  helm template "$1" "$chart" --namespace $system --show-only templates/open-gate.yaml >"$scratch/hook.yaml"
  kubectl delete -f "$scratch/hook.yaml" --ignore-not-found >/dev/null
  awk -v RS='---\n' -v ORS='---\n' '!/kind: ConfigMap/' "$scratch/hook.yaml" | kubectl apply -f - >/dev/null
  kubectl apply -f "$scratch/hook.yaml" >/dev/null 2>"$scratch/hook.log"
}
told() { # RELEASE SENTENCE
  hook "$1" && grep -q "^Warning: quotakeeper: $2" "$scratch/hook.log" || { cat "$scratch/hook.log" >&2; return 1; }
}
closed() { [[ -z $(kubectl -n $system get configmap quotakeeper-gate --ignore-not-found -o name) ]]; }
reads() { [[ $(kubectl -n gtm get apiquota crm -o jsonpath='{.status.summary.status}') == $1 ]]; }
happened() { kubectl -n "$1" events --for "$2" | grep -q "$3"; }

story "a hook that is applied as an ordinary object opens nothing"
holds "where Helm has no release its author is told" eventually 60 told unknown 'the gate stays closed: Helm has no release unknown'
holds "where the release stands too, and what to do" \
  told quotakeeper 'the gate stays closed: .* quotakeeper is deployed, not uninstalling.*open-gate --yes'
unasked() { ! "$program" open-gate 2>"$scratch/gate-unasked.log" && grep -q 'confirm with --yes' "$scratch/gate-unasked.log"; }
holds "a person has to confirm" unasked
holds "the gate is closed" closed

story "before an uninstallation the gate is opened"
kubectl -n $system label secret sh.helm.release.v1.quotakeeper.v1 --overwrite status=uninstalling >/dev/null
holds "the hook opens it, and all proxies know" told quotakeeper 'the gate is open until .*, and 0 proxies know'
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
kubectl delete -f "$scratch/hook.yaml" >/dev/null

story "what is in force goes with its quota"
kubectl -n gtm delete apiquota crm >/dev/null
undocumented() { [[ -z $(kubectl -n $system get configmaps -l quotakeeper.dev/config=account -o name) ]]; }
holds "its document is removed" eventually 60 undocumented

story "a replica that ends answers reviews until the API server sends them elsewhere"
ending=${processes[-1]}
unset 'processes[-1]'
kill -TERM "$ending"
released() { [[ -z $(kubectl -n $system get lease quotakeeper-operator -o jsonpath='{.spec.holderIdentity}') ]]; }
holds "it has given up its Lease" eventually 60 released
answers() { [[ $(curl --silent --insecure --noproxy '*' "https://127.0.0.1:$webhook/healthz") = ok ]]; }
holds "and still answers" answers
holds "and ends" wait "$ending"

story "nothing was forbidden"
holds "to any of them" bash -c '! grep -i forbidden "$@" >&2' - "$scratch"/{limiter,operator,check}.log "$scratch"/gate-*.log

story "helm uninstall opens the gate, and takes away what they made"
start_operator another
holds "another replica is ready" eventually 60 ready "$operator"
uninstalled() { helm uninstall quotakeeper --namespace $system >"$scratch/out" 2>&1; }
holds "helm uninstall ends well" uninstalled
holds "the gate was opened" grep -q 'an uninstall is announced: the gate is open' "$scratch/another.log"
kill -TERM "${processes[@]}"
wait "${processes[@]}" || true
processes=()
gone() { diff <(kubectl -n $system get secrets,leases,configmaps -o name | grep -v '^configmap/quotakeeper-checkpoint-') - <<<configmap/kube-root-ca.crt; }
holds "Secrets, Leases and ConfigMaps are collected" eventually 60 gone

finish
