#!/usr/bin/env bash
# The chart on a real API server: what is installed, who may do what, upgrade, rollback, failed installs, uninstall. Nothing runs,
# since there are no nodes: Pod Security admits the pods, and no more. About a minute.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/story.sh"
on_a_control_plane "$@"
use_helm
system=quotakeeper
operator=system:serviceaccount:$system:quotakeeper-operator
limiter=system:serviceaccount:$system:quotakeeper-limiter
tester=system:serviceaccount:$system:quotakeeper-test
# quietly COMMAND…: succeeds and warns of nothing.
quietly() { "$@" >"$scratch/out" 2>"$scratch/err" && [[ ! -s $scratch/err ]] || { cat "$scratch"/{out,err} >&2; return 1; }; }
release() { quietly helm "$1" quotakeeper "${@:2}" --namespace $system; }

# Every object of the API server, but for what it and its controllers write by themselves.
objects() {
  local kinds
  kinds=$(kubectl api-resources --verbs=list -o name | grep -v '^events\|^componentstatuses$\|^apiservices' | paste -sd,)
  kubectl get "$kinds" --all-namespaces --ignore-not-found \
    -o go-template='{{range .items}}{{.kind}} {{.metadata.namespace}}/{{.metadata.name}}{{"\n"}}{{end}}' |
    grep -v '^Lease kube-system/' | sort -u
}
left() { objects >"$scratch/after" && comm -13 "$scratch/before" "$scratch/after" >"$scratch/left" && diff - "$scratch/left"; }

kubectl create namespace $system >/dev/null
kubectl label namespace $system pod-security.kubernetes.io/{enforce,warn}=restricted >/dev/null
kubectl create namespace gtm >/dev/null
eventually 60 kubectl -n $system get serviceaccount/default configmap/kube-root-ca.crt
eventually 60 kubectl -n gtm get serviceaccount/default configmap/kube-root-ca.crt
objects >"$scratch/before"

story "what is said after an installation"
# The notes are not a template's output: they come with a dry run.
notes() { helm install quotakeeper "$chart" --namespace $system --dry-run=client "$@" | sed -n '/^NOTES:/,$p' >"$scratch/notes"; }
notes
commands() { [[ $(grep -c '^  kubectl ' "$scratch/notes") = "$1" ]]; }
holds "two commands, no more" commands 2
holds "images of this machine alone are told" grep -q 'only on nodes where they were loaded' "$scratch/notes"
notes --set webhook.failurePolicy=Ignore,global.imageRegistry=mirror.example.com
holds "a broken glass is told" grep -q 'start without limits' "$scratch/notes"
holds "images of a registry need no word" bash -c '! grep -q localhost "$0"' "$scratch/notes"

story "it installs"
cat >"$scratch/values" <<'V'
networkPolicy:
  enabled: true
  apiServerCIDRs: [10.0.0.0/28, "fd00::/120"]
  metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
V
accepted() { kubectl apply --server-side --dry-run=server --warnings-as-errors --validate=strict -f "$scratch/rendered" >"$scratch/out"; }
rendered() { helm template quotakeeper "$chart" --namespace $system "$@" >"$scratch/rendered"; }
rendered --values "$scratch/values"
holds "the API server takes every object, hooks too, and warns of nothing" accepted
holds "helm install --dry-run=server" release install "$chart" --dry-run=server --hide-notes
unready() { ! helm install quotakeeper "$chart" --namespace $system --wait --timeout 3s >"$scratch/out" 2>&1; }
holds "an installation whose pods can't start fails" unready
holds "and can be uninstalled, with its hooks" release uninstall --wait
hookless() { [[ -z $(kubectl -n $system get configmap,role,rolebinding -o name | grep quotakeeper) ]]; }
holds "which are gone then" hookless
holds "helm install" release install "$chart"
holds "the CRDs are established" kubectl wait crd/apiquotas.quotakeeper.dev crd/apiproviders.quotakeeper.dev \
  --for=condition=Established --timeout=60s >/dev/null
pods() { [[ $(kubectl -n $system get pods -l "app.kubernetes.io/component=$1" -o name | wc -l) = "$2" ]]; }
holds "two operators are admitted where Pod Security is restricted" eventually 60 pods operator 2
holds "and two limiters" eventually 60 pods limiter 2
holds "helm upgrade --install does the same again" release upgrade --install "$chart"
kubectl -n gtm create -f - >/dev/null <<'Q'
{apiVersion: quotakeeper.dev/v1alpha1, kind: ApiQuota, metadata: {name: kept}, spec: {provider: {name: hubspot, tier: pro}}}
Q

story "who is told where a mistake was made"
checked() { [[ $(kubectl get validatingadmissionpolicies -o jsonpath='{range .items[*]}{.status.observedGeneration}{.status.typeChecking.expressionWarnings}{"\n"}{end}') = $'1\n1\n1\n1' ]]; }
holds "the policies' expressions are of the right types" eventually 60 checked
deployment() { # METADATA TEMPLATE-METADATA: what the API server says of such a Deployment
  kubectl -n gtm create --dry-run=server -f - 2>&1 >/dev/null <<D || true
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, $1}, spec: {selector: {matchLabels: {app: web}},
template: {metadata: {labels: {app: web}, $2}, spec: {containers: [{name: web, image: web}]}}}}
D
}
annotation='annotations: {quotakeeper.dev/quotas: kept}'
warned() { deployment "$annotation" "" | grep -q '^Warning: .*the annotation quotakeeper.dev/quotas does nothing here'; }
holds "an annotation beside the pod template is told" eventually 60 warned
holds "one on the pod template needs no word" test -z "$(deployment "" "$annotation")"
holds "nor a Deployment without" test -z "$(deployment "" "")"
labelled() { kubectl label namespace gtm --overwrite --dry-run=server quotakeeper.dev/inject=yes 2>&1 | grep -q 'write enabled or disabled'; }
holds "a label on a namespace that means nothing is told" eventually 60 labelled
annotated() { # NAMESPACE ANNOTATIONS
  kubectl -n "$1" create --dry-run=server -f - 2>&1 <<P || true
{apiVersion: v1, kind: Pod, metadata: {name: enrich, annotations: {$2}}, spec: {containers: [{name: main, image: main,
securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}], securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}}}
P
}
refused() { annotated gtm 'quotakeeper.dev/quotas: kept' | grep -q 'failed calling webhook "annotation.inject.quotakeeper.dev"'; }
holds "an annotated pod is refused while no operator answers" eventually 60 refused
passes() { annotated "$@" | grep -q created; }
holds "another pod is not asked about" passes gtm ""
holds "nor an annotated one beside the operator" passes $system 'quotakeeper.dev/quotas: kept'
holds "webhook.failurePolicy=Ignore breaks the glass" release upgrade "$chart" --set webhook.failurePolicy=Ignore
holds "and annotated pods pass" eventually 60 passes gtm 'quotakeeper.dev/quotas: kept'
release upgrade "$chart"

story "what the programs may do, and what not"
# Where the user is a ServiceAccount, it asks itself, with a token of its own.
asker() { # USER
  local namespace name
  identity=(--as="$1")
  [[ $1 = system:serviceaccount:* ]] || return 0
  IFS=: read -r _ _ namespace name <<<"$1"
  [[ -s $scratch/$name.kubeconfig ]] || account "$namespace" "$name" || return
  identity=(--kubeconfig "$scratch/$name.kubeconfig")
}
# An answer of the API server's: a word that it does not know, such as a resource, is none.
can() { # USER VERB RESOURCE…
  asker "$1" || return 2
  answer=$(kubectl auth can-i "${identity[@]}" "${@:2}" 2>"$scratch/err") || true
  ! grep -v '^$\|is not namespace scoped' "$scratch/err" >&2 || return 2
}
may() { can "$@" && [[ $answer = yes ]]; }
may_not() { can "$@" && [[ $answer = no ]]; }
rights() { # from a table
  local who word rest account question
  while read -r who word rest; do
    [[ -n $who ]] || continue
    account=${!who}
    read -ra question <<<"$rest"
    case $word in
      may) holds "$who may $rest" may "$account" "${question[@]}" ;;
      not) holds "$who may not $rest" may_not "$account" "${question[@]}" ;;
      *) fail "no such word: $word" ;;
    esac
  done
}
is_itself() { asker "$1" && [[ $(kubectl auth whoami "${identity[@]}" -o jsonpath='{.status.userInfo.username}') = "$1" ]]; }
holds "the operator asks as itself" is_itself $operator
holds "the limiter asks as itself" is_itself $limiter
rights <<'R'
operator may list apiquotas.quotakeeper.dev --all-namespaces
operator may watch apiquotas.quotakeeper.dev --all-namespaces
operator may patch apiquotas.quotakeeper.dev --subresource=status --namespace=gtm
operator not patch apiquotas.quotakeeper.dev --namespace=gtm
operator not update apiquotas.quotakeeper.dev --namespace=gtm
operator not delete apiquotas.quotakeeper.dev --namespace=gtm
operator may watch apiproviders.quotakeeper.dev
operator may patch apiproviders.quotakeeper.dev/openai
operator not delete apiproviders.quotakeeper.dev/openai
operator may watch namespaces
operator not patch namespaces
operator may watch limitranges --all-namespaces
operator not patch limitranges --namespace=gtm
operator may watch resourcequotas --all-namespaces
operator not patch resourcequotas --namespace=gtm
operator may watch pods --all-namespaces
operator may get pods --namespace=gtm
operator not create pods --namespace=gtm
operator not delete pods --namespace=gtm
operator not patch pods --namespace=gtm
operator not create pods --namespace=quotakeeper
operator not get pods --subresource=log --namespace=gtm
operator not create pods --subresource=exec --namespace=gtm
operator may get jobs.batch --namespace=gtm
operator not list jobs.batch --namespace=gtm
operator not create jobs.batch --namespace=gtm
operator may create events.events.k8s.io --namespace=gtm
operator may patch events.events.k8s.io --namespace=gtm
operator not delete events.events.k8s.io --namespace=gtm
operator may watch configmaps --namespace=quotakeeper
operator may patch configmaps/quotakeeper-account-0123456789 --namespace=quotakeeper
operator may delete configmaps/quotakeeper-account-0123456789 --namespace=quotakeeper
operator not list configmaps --namespace=gtm
operator not get configmaps --namespace=kube-system
operator not patch configmaps --namespace=gtm
operator may watch secrets/quotakeeper-limiter-tls --namespace=quotakeeper
operator may watch secrets/quotakeeper-limiter-ca --namespace=quotakeeper
operator may patch secrets/quotakeeper-webhook-tls --namespace=quotakeeper
operator not list secrets --namespace=quotakeeper
operator not get secrets/another --namespace=quotakeeper
operator not create secrets --namespace=quotakeeper
operator not patch secrets/another --namespace=quotakeeper
operator not list secrets --namespace=gtm
operator not list secrets --all-namespaces
operator may update leases.coordination.k8s.io/quotakeeper-operator --namespace=quotakeeper
operator not create leases.coordination.k8s.io --namespace=quotakeeper
operator not update leases.coordination.k8s.io/quotakeeper-limiter --namespace=quotakeeper
operator not update leases.coordination.k8s.io --namespace=kube-system
operator may get deployments.apps --namespace=gtm
operator not list deployments.apps --namespace=gtm
operator not patch deployments.apps --namespace=gtm
operator not patch deployments.apps/quotakeeper-operator --namespace=quotakeeper
operator may patch mutatingwebhookconfigurations.admissionregistration.k8s.io/quotakeeper
operator not patch mutatingwebhookconfigurations.admissionregistration.k8s.io/another
operator not create mutatingwebhookconfigurations.admissionregistration.k8s.io
operator not delete mutatingwebhookconfigurations.admissionregistration.k8s.io/quotakeeper
operator not patch validatingadmissionpolicies.admissionregistration.k8s.io
operator not create tokenreviews.authentication.k8s.io
operator not create serviceaccounts --subresource=token --namespace=quotakeeper
operator not bind clusterroles.rbac.authorization.k8s.io
operator not escalate clusterroles.rbac.authorization.k8s.io
operator not impersonate users
operator not get nodes
operator not patch customresourcedefinitions.apiextensions.k8s.io
limiter may create tokenreviews.authentication.k8s.io
limiter may get /openid/v1/jwks
limiter may watch pods --all-namespaces
limiter not create pods --namespace=gtm
limiter not delete pods --namespace=gtm
limiter may watch configmaps --namespace=quotakeeper
limiter may create configmaps --namespace=quotakeeper
limiter may update configmaps --namespace=quotakeeper
limiter not delete configmaps --namespace=quotakeeper
limiter not list configmaps --namespace=gtm
limiter may watch secrets/quotakeeper-limiter-tls --namespace=quotakeeper
limiter not patch secrets/quotakeeper-limiter-tls --namespace=quotakeeper
limiter not get secrets/quotakeeper-limiter-ca --namespace=quotakeeper
limiter not list secrets/quotakeeper-limiter-ca --namespace=quotakeeper
limiter not watch secrets/quotakeeper-limiter-ca --namespace=quotakeeper
limiter not watch secrets/quotakeeper-webhook-tls --namespace=quotakeeper
limiter not list secrets --namespace=quotakeeper
limiter may create leases.coordination.k8s.io --namespace=quotakeeper
limiter may update leases.coordination.k8s.io/quotakeeper-limiter --namespace=quotakeeper
limiter not update leases.coordination.k8s.io/quotakeeper-operator --namespace=quotakeeper
limiter may get deployments.apps/quotakeeper-limiter --namespace=quotakeeper
limiter not get deployments.apps/quotakeeper-operator --namespace=quotakeeper
limiter not list apiquotas.quotakeeper.dev --all-namespaces
limiter not patch apiquotas.quotakeeper.dev --subresource=status --namespace=gtm
limiter not create events.events.k8s.io --namespace=gtm
limiter not list namespaces
limiter not create pods --subresource=exec --namespace=gtm
limiter not create pods --namespace=quotakeeper
limiter not create serviceaccounts --subresource=token --namespace=quotakeeper
limiter not create secrets --namespace=quotakeeper
limiter not patch mutatingwebhookconfigurations.admissionregistration.k8s.io/quotakeeper
limiter not bind clusterroles.rbac.authorization.k8s.io
limiter not escalate roles.rbac.authorization.k8s.io --namespace=quotakeeper
limiter not impersonate users
limiter not patch apiproviders.quotakeeper.dev/openai
limiter not get nodes
operator not get secrets/sh.helm.release.v1.quotakeeper.v1 --namespace=quotakeeper
limiter not get secrets/sh.helm.release.v1.quotakeeper.v1 --namespace=quotakeeper
R
# These are hooks: there during an uninstallation, and during a test.
helm template quotakeeper "$chart" --namespace $system --show-only templates/open-gate.yaml --show-only templates/tests/check.yaml |
  awk -v RS='---\n' -v ORS='---\n' '!/kind: (Job|ConfigMap)/' >"$scratch/rights"
kubectl apply -f "$scratch/rights" >/dev/null
holds "an uninstallation gives the operator a right" eventually 10 may $operator get secrets/sh.helm.release.v1.quotakeeper.v1 --namespace=$system
rights <<'R'
operator may get configmaps/sh.helm.release.v1.quotakeeper.v32 --namespace=quotakeeper
operator not get secrets/sh.helm.release.v1.another.v1 --namespace=quotakeeper
operator not list secrets --namespace=quotakeeper
operator not watch secrets --namespace=quotakeeper
tester may create apiquotas.quotakeeper.dev/quotakeeper-test --namespace=quotakeeper
tester may delete apiquotas.quotakeeper.dev/quotakeeper-test --namespace=quotakeeper
tester not delete apiquotas.quotakeeper.dev/another --namespace=quotakeeper
tester not list apiquotas.quotakeeper.dev --namespace=quotakeeper
tester not get secrets --namespace=quotakeeper
R
kubectl delete -f "$scratch/rights" >/dev/null
# Their tokens are for whom they run as: nobody else in the namespace has these rights.
holds "the namespace's default account may nothing" may_not \
  system:serviceaccount:$system:default list configmaps --namespace=$system

story "what people may do"
kubectl -n gtm create rolebinding ann --clusterrole=edit --user=ann >/dev/null
kubectl -n gtm create rolebinding bob --clusterrole=view --user=bob >/dev/null
kubectl create clusterrolebinding eve --clusterrole=quotakeeper-provider-editor --user=eve >/dev/null
holds "an editor of a namespace creates quotas there" eventually 60 may ann create apiquotas.quotakeeper.dev --namespace=gtm
holds "but not elsewhere" may_not ann create apiquotas.quotakeeper.dev --namespace=default
holds "nor says what their status is" may_not ann patch apiquotas.quotakeeper.dev --subresource=status --namespace=gtm
holds "a viewer sees them" eventually 60 may bob list apiquotas.quotakeeper.dev --namespace=gtm
holds "and changes none" may_not bob patch apiquotas.quotakeeper.dev --namespace=gtm
holds "whoever the platform belongs to writes providers" may eve create apiproviders.quotakeeper.dev
holds "an editor does not" may_not ann create apiproviders.quotakeeper.dev
kubectl -n gtm delete rolebinding ann bob >/dev/null
kubectl delete clusterrolebinding eve >/dev/null

story "helm test"
untested() { ! helm test quotakeeper --namespace $system --timeout 3s >"$scratch/out" 2>&1; }
holds "says no where nothing runs" untested
untouched() { [[ -z $(kubectl -n $system get apiquota,pod,job,role,rolebinding,serviceaccount -o name | grep /quotakeeper-test) ]]; }
holds "and leaves nothing" eventually 60 untouched

story "what the programs write outlives upgrades, and not an uninstallation"
as() { kubectl --as="$1" -n $system "${@:2}"; }
apply() { as "$1" apply --server-side --field-manager=quotakeeper -f - 2>"$scratch/err" >/dev/null; }
uid=$(as $operator get deployment quotakeeper-operator -o jsonpath='{.metadata.uid}')
owner="ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: quotakeeper-operator, uid: $uid}]"
secret() { echo "{apiVersion: v1, kind: Secret, metadata: {name: $1, $owner}, type: Opaque, stringData: {tls.crt: x}}"; }
holds "the operator makes its Secret by server-side apply, though no right to create names none" \
  apply $operator <<<"$(secret quotakeeper-limiter-tls)"
denied() { ! apply $operator <<<"$(secret another)" && grep -q 'forbidden' "$scratch/err"; }
holds "and no other" denied
holds "it makes an account's ConfigMap" apply $operator <<<"{apiVersion: v1, kind: ConfigMap, metadata: {name: quotakeeper-account-0123456789, $owner}}"
map() { echo "{apiVersion: v1, kind: ConfigMap, metadata: {name: $1, labels: {quotakeeper.dev/config: $2}}}"; }
limiter_may() { kubectl --as=$limiter -n $system "$1" -f - 2>"$scratch/err" >/dev/null <<<"$(map "$2" "$3")"; }
limiter_may_not() { ! limiter_may "$@" && grep -q 'may write its checkpoints and no other ConfigMap' "$scratch/err"; }
holds "the limiter makes no ConfigMap but checkpoints, by a policy that takes a moment" eventually 60 limiter_may_not create quotakeeper-uninstall checkpoint
holds "nor an account by the name of one" limiter_may_not create quotakeeper-checkpoint-0123456789 account
holds "it makes a checkpoint" limiter_may create quotakeeper-checkpoint-0123456789 checkpoint
holds "that becomes no account" limiter_may_not replace quotakeeper-checkpoint-0123456789 account
holds "it changes no account" limiter_may_not replace quotakeeper-account-0123456789 checkpoint
kubectl -n $system delete configmap quotakeeper-checkpoint-0123456789 >/dev/null
as $operator get lease quotakeeper-operator -o json | sed 's/"spec": {/&"holderIdentity": "one",/' >"$scratch/lease"
holds "it takes the Lease" as $operator replace -f "$scratch/lease" >/dev/null
held() { [[ $(kubectl -n $system get lease quotakeeper-operator -o jsonpath='{.spec.holderIdentity}') = one ]]; }
bundle=$(kubectl config view --raw -o jsonpath='{.clusters[0].cluster.certificate-authority-data}')
[[ -n $bundle ]] || bundle=$(base64 -w0 <"$(kubectl config view --raw -o jsonpath='{.clusters[0].cluster.certificate-authority}')")
names=$(kubectl get mutatingwebhookconfiguration quotakeeper -o jsonpath='{.webhooks[*].name}')
entries=$(for name in $names; do echo "{\"name\": \"$name\", \"clientConfig\": {\"caBundle\": \"$bundle\"}}"; done | paste -sd,)
# As the operator does: kubectl would read the object first, which the operator may not.
patch() { # PATH BODY
  local server token
  server=$(kubectl config view --raw -o jsonpath='{.clusters[0].cluster.server}')
  token=$(kubectl -n $system create token quotakeeper-operator)
  TOKEN=$token python3 - "$server$1" "$2" "$scratch/ca" <<'P'
import os, ssl, sys, urllib.request

url, body, ca = sys.argv[1:]
headers = {"Authorization": f"Bearer {os.environ['TOKEN']}", "Content-Type": "application/strategic-merge-patch+json"}
request = urllib.request.Request(url, body.encode(), headers, method="PATCH")
direct = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca))
)
direct.open(request, timeout=30).read()
P
}
base64 -d <<<"$bundle" >"$scratch/ca"
holds "it tells the API server its CA" \
  patch "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/quotakeeper?fieldManager=quotakeeper" "{\"webhooks\": [$entries]}"
# Of its webhook it may change nothing else: each of these would give it rights over other objects.
webhook=/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/quotakeeper
first=${names%% *}
pinned() { # FIELDS
  ! patch $webhook "{\"webhooks\": [{\"name\": \"$first\", $1}]}" 2>"$scratch/err" && grep -q 'HTTP Error 422' "$scratch/err"
}
holds "with another rule it is refused, by a policy that takes a moment" eventually 60 pinned \
  '"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["secrets"]}]'
holds "with another Service" pinned '"clientConfig": {"service": {"namespace": "gtm", "name": "own"}}'
holds "without a condition" pinned '"matchConditions": [{"name": "pod-has-the-annotation", "$patch": "delete"}]'
holds "with other namespaces" pinned '"namespaceSelector": {"matchExpressions": null}'
holds "with more patience" pinned '"timeoutSeconds": 30'
added() { ! patch $webhook "{\"webhooks\": [{\"name\": \"another.quotakeeper.dev\", \"sideEffects\": \"None\", \"admissionReviewVersions\": [\"v1\"], \"clientConfig\": {\"service\": {\"namespace\": \"$system\", \"name\": \"a\"}}}]}" 2>"$scratch/err" && grep -q 'HTTP Error 422' "$scratch/err"; }
holds "with another webhook" added
holds "and its CA again" patch $webhook "{\"webhooks\": [$entries]}"
bundled() { [[ $(kubectl get mutatingwebhookconfiguration quotakeeper -o jsonpath='{.webhooks[*].clientConfig.caBundle}') = "$bundle $bundle $bundle $bundle" ]]; }
image() { [[ $(kubectl -n $system get deployment quotakeeper-operator -o jsonpath='{.spec.template.spec.containers[0].image}') = "localhost/quotakeeper:$1" ]]; }
holds "that is so" bundled
holds "helm upgrade to another image" release upgrade "$chart" --set image.tag=2,operator.replicas=3
holds "takes place" image 2
holds "and keeps the CA" bundled
holds "and who holds the Lease" held
holds "helm rollback" release rollback
holds "takes place too" image "$(sed -n 's/^appVersion: //p' "$chart/Chart.yaml")"
holds "and keeps the CA" bundled
holds "and who holds the Lease" held
holds "and every quota" kubectl -n gtm get apiquota kept >/dev/null
again() { ! helm install second "$chart" --namespace gtm >/dev/null 2>"$scratch/err" && grep -q 'quotakeeper' "$scratch/err"; }
holds "a second installation in the cluster is refused" again

story "it goes"
holds "helm uninstall, though no operator answers its hook" release uninstall
crds=$'CustomResourceDefinition <no value>/apiproviders.quotakeeper.dev\nCustomResourceDefinition <no value>/apiquotas.quotakeeper.dev'
definitions() { left <<<"ApiQuota gtm/kept"$'\n'"$crds"; }
holds "the definitions stay, and the quotas, and nothing else" eventually 60 definitions
holds "the next installation takes them over" release install "$chart"
holds "with the quotas" kubectl -n gtm get apiquota kept >/dev/null
release uninstall
other() { quietly helm "$1" other "${@:2}" --namespace $system; }
holds "one of another name does so with --take-ownership" \
  other install "$chart" --take-ownership --set crds.keep=false,uninstall.openGate=false
holds "with crds.keep=false helm uninstall" other uninstall
nothing() { left </dev/null; }
holds "leaves nothing at all" eventually 60 nothing

finish
