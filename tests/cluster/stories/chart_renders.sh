#!/usr/bin/env bash
# The chart's templates and values, by helm alone: lint, goldens, refusals. Seconds, without a cluster, once helm is
# built. UPDATE_GOLDEN=1 writes charts/goldens anew.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/story.sh"
unset KUBECONFIG
goldens=$root/charts/goldens
use_helm
rendered() { helm template quotakeeper "$chart" --namespace quotakeeper --kube-version 1.36 "$@"; }
has() { rendered "${@:2}" >"$scratch/rendered" && grep -qE -- "$1" "$scratch/rendered"; }
lacks() { rendered "${@:2}" >"$scratch/rendered" && ! grep -qE -- "$1" "$scratch/rendered"; }

cat >"$scratch/ca.pem" <<'C'
-----BEGIN CERTIFICATE-----
MIIB
-----END CERTIFICATE-----
C
cat >"$scratch/everything.yaml" <<'V'
global: {imageRegistry: mirror.example.com/proxied, imagePullSecrets: [{name: mirror}, everywhere]}
commonLabels: {cost-center: "42"}
image: {repository: "registry.example.com:5000/team/quotakeeper", tag: 20260101, digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000", pullPolicy: Always}
imagePullSecrets: [registry]
operator:
  replicas: 3
  log: info,quotakeeper_operator=debug
  logFormat: json
  podLabels: {team: platform}
  podAnnotations: {example.com/scrape: "true"}
  priorityClassName: system-cluster-critical
  nodeSelector: {kubernetes.io/os: linux}
  tolerations: [{key: infra, operator: Exists}]
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: pool, operator: In, values: [infra]}]}]}}}
  topologySpreadConstraints: [{topologyKey: kubernetes.io/hostname, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app.kubernetes.io/component: operator}}}]
  extraEnv: [{name: HTTPS_PROXY, value: "http://proxy.example.com:3128"}]
  revisionHistoryLimit: 3
  serviceAccount: {annotations: {example.com/role: operator}}
  podDisruptionBudget: {enabled: true, maxUnavailable: 50%}
limiter:
  # A volume is for one.
  replicas: 1
  leaseSeconds: 20
  offlinePercent: 10
  offlineSeconds: 600
  podDisruptionBudget: {enabled: true, maxUnavailable: 50%}
  log: debug
  logFormat: json
  ledger: {sizeLimit: 2Gi}
  persistence: {enabled: true, storageClass: fast, accessModes: [ReadWriteOncePod], size: 2Gi, annotations: {example.com/backup: "true"}, fsGroup: 1000}
  extraEnv: [{name: SSL_CERT_FILE, value: /etc/ssl/cert.pem}]
  topologySpreadConstraints: [{topologyKey: topology.kubernetes.io/zone, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {team: platform}}}]
  revisionHistoryLimit: 3
  serviceAccount: {annotations: {example.com/role: limiter}}
  podLabels: {team: platform}
  podAnnotations: {example.com/scrape: "true"}
  priorityClassName: system-cluster-critical
  nodeSelector: {kubernetes.io/os: linux}
  tolerations: [{key: infra, operator: Exists}]
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: pool, operator: In, values: [infra]}]}]}}}
proxy:
  image: {repository: team/quotakeeper-proxy, tag: "1.2", pullPolicy: Always}
  imagePullSecrets: [registry, other]
  log: info,quotakeeper::access=info
  resources: {requests: {cpu: 50m, memory: 128Mi}, limits: {cpu: 500m, memory: 512Mi}}
  guaranteedCPU: "1"
webhook: {failurePolicy: Ignore, timeoutSeconds: 10, namespaceSelector: {matchLabels: {team: gtm}}, objectSelector: {matchExpressions: [{key: skip, operator: DoesNotExist}]}}
uninstall: {timeoutSeconds: 5}
rbac: {aggregate: false}
networkPolicy: {enabled: true, apiServerCIDRs: [10.0.0.0/28, "fd00::/120"], metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}
metrics:
  podMonitor: {enabled: true, sidecars: true, interval: 10s, labels: {release: prometheus}}
  grafanaDashboard: {enabled: true, labels: {dashboards: platform}}
  prometheusRule: {enabled: true, without: [QuotakeeperDemandExceedsQuota], runbooks: "https://wiki.example.com/runbooks", labels: {release: prometheus}}
V

story "what it is made of"
holds "helm lint finds nothing" helm lint --strict --quiet "$chart"
holds "nor with every value set" helm lint --strict --quiet "$chart" --values "$scratch/everything.yaml" --set-file trust.extraCAs="$scratch/ca.pem"
for file in apiquotas.quotakeeper.dev.yaml apiproviders.quotakeeper.dev.yaml; do
  holds "files/crds/$file is the generated one" same "$root/crds/$file" "$chart/files/crds/$file"
done
for file in webhook.yaml policy.yaml; do
  holds "files/$file is that of crates/inject (cp crates/inject/$file charts/quotakeeper/files/)" \
    same "$root/crates/inject/$file" "$chart/files/$file"
done
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -1)
holds "the chart's appVersion is the programs'" grep -qx "appVersion: $version" "$chart/Chart.yaml"

story "what is rendered"
mkdir -p "$goldens"
# The objects of a YAML file, each by its kind and name: Helm 3 and 4 differ in blank lines and in the order.
mkdir -p "$scratch/parser/templates"
printf 'apiVersion: v2\nname: parser\nversion: 0.1.0\n' >"$scratch/parser/Chart.yaml"
cat >"$scratch/parser/templates/objects.yaml" <<'T'
{{- $objects := list }}
{{- range .Files.Get "objects" | printf "\n%s" | splitList "\n---\n" }}{{ $objects = fromYaml . | append $objects }}{{ end }}
{{- dict "objects" $objects | toJson }}
T
objects() { # FILE
  cp "$1" "$scratch/parser/objects"
  helm template parser "$scratch/parser" | grep '^{' | python3 -c '
import json, sys
objects = [each for each in json.load(sys.stdin)["objects"] if each]
name = lambda each: (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"])
print(json.dumps(sorted(objects, key=name), indent=1, sort_keys=True))'
}
golden() { # NAME OPTION…
  rendered --set crds.enabled=false "${@:2}" | sed 's/[[:space:]]*$//' >"$scratch/golden"
  [[ -z ${UPDATE_GOLDEN:-} ]] || cp "$scratch/golden" "$goldens/$1.yaml"
  objects "$goldens/$1.yaml" >"$scratch/expected" && objects "$scratch/golden" >"$scratch/parsed" &&
    same "$scratch/expected" "$scratch/parsed" || { echo "if the change is intended, run: make generate-all" >&2; return 1; }
}
holds "with the defaults it is as in charts/goldens/default.yaml" golden default
holds "with everything set, as in charts/goldens/everything.yaml" golden everything \
  --values "$scratch/everything.yaml" --set-file trust.extraCAs="$scratch/ca.pem"
rendered >"$scratch/one"
rendered >"$scratch/two"
holds "twice the same: GitOps sees no change" same "$scratch/one" "$scratch/two"
rendered --set crds.keep=false -s templates/crds.yaml | grep -v '^# Source\|^$\|^---' |
  sed '/^  labels:$/,/^  name:/{/^  labels:$/d;/^    [a-z.]*\/[a-z-]*: /d}' >"$scratch/crds"
grep -hv "^$" "$chart"/files/crds/*.yaml >"$scratch/expected"
holds "the CRDs are the generated ones, but for their labels" same "$scratch/expected" "$scratch/crds"
kept() { [[ $(rendered "$@" | grep -c 'helm.sh/resource-policy: keep') = 2 ]]; }
holds "both are kept by default" kept
holds "and not with crds.keep=false" lacks 'resource-policy' --set crds.keep=false
holds "without crds.enabled there are none" lacks '^kind: CustomResourceDefinition' --set crds.enabled=false
holds "no certificate is rendered" lacks 'caBundle:|PRIVATE KEY'
holds "another namespace is used everywhere" bash -c '
  ! helm template q "$0" --namespace elsewhere --set crds.enabled=false |
    grep -E "namespace: *(quotakeeper|default|RELEASE)|RELEASE_NAMESPACE|quotakeeper, kube-system"' "$chart"
holds "a tag that is a number is written out" has 'image: localhost/quotakeeper:20260101$' --set image.tag=20260101
holds "a registry of all images takes the place of their own" has 'image: mirror.example.com:5000/a/quotakeeper:' --set global.imageRegistry=mirror.example.com:5000/a
holds "of the sidecar's too" has '--proxy-image=mirror.example.com:5000/a/quotakeeper-proxy:' --set global.imageRegistry=mirror.example.com:5000/a/
one_of_each=(--set operator.replicas=1 --set limiter.replicas=1)
holds "one operator and one limiter have no disruption budget" lacks '^kind: PodDisruptionBudget' "${one_of_each[@]}"
holds "one limiter is replaced before another begins" has 'strategy: \{type: Recreate\}' --set limiter.replicas=1
holds "and needs no Lease" lacks 'lease-seconds' --set limiter.replicas=1
holds "several share a Lease" has '--lease-seconds=20$' --set limiter.leaseSeconds=20
holds "and nothing is granted without it" lacks 'offline-' --set limiter.offlineSeconds=600
holds "unless a part is chosen" has '--offline-percent=20$' --set limiter.offlinePercent=20
holds "a volume of several limiters is refused" bash -c '! helm template q "$0" --kube-version 1.36 --set limiter.persistence.enabled=true 2>"$1" && grep -q "set limiter.replicas=1" "$1"' "$chart" "$scratch/refusal"
holds "the pre-delete hook can be left out" lacks 'helm.sh/hook: pre-delete' --set uninstall.openGate=false
revisions=$(sed -n 's/^pub const REVISIONS: u64 = \(.*\);/\1/p' "$root/crates/operator/src/release.rs")
records() { [[ $(rendered --show-only templates/open-gate.yaml | grep -c '  - sh.helm.release.v1.quotakeeper.v') = "$revisions" ]]; }
holds "the hook may read the $revisions records that its program looks at" records
holds "Kubernetes before 1.33 is refused" bash -c '! helm template q "$0" --kube-version 1.32 2>"$1" && grep -q "kubeVersion: >=1.33" "$1"' "$chart" "$scratch/refusal"

story "every value matters"
holds "the README lists them as values.yaml explains them" "$root/charts/values_table.py" --check
cat >"$scratch/otherwise.yaml" <<'V'
crds: {enabled: false, keep: false}
limiter: {podDisruptionBudget: {enabled: false}, persistence: {existingClaim: mine}, resources: {requests: {cpu: "1"}, limits: {cpu: "1"}}}
operator: {podDisruptionBudget: {enabled: false}, resources: {requests: {cpu: "1"}, limits: {cpu: "1"}}}
proxy: {image: {digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000"}}
webhook:
  namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}
  objectSelector: {matchLabels: {proxied: "true"}}
trust: {extraCAs: "-----BEGIN CERTIFICATE-----"}
uninstall: {openGate: false}
metrics: {podMonitor: {sidecars: false}}
V
# As JSON, by helm, which needs a chart for it.
mkdir -p "$scratch/values/templates"
printf 'apiVersion: v2\nname: values\nversion: 0.1.0\n' >"$scratch/values/Chart.yaml"
echo '{{ .Values | toJson }}' >"$scratch/values/templates/values.yaml"
helm template values "$scratch/values" --values "$scratch/everything.yaml" --values "$scratch/otherwise.yaml" |
  grep '^{' >"$scratch/all.json"
holds "each of the schema changes what is rendered" \
  python3 "$(dirname "${BASH_SOURCE[0]}")/values_matter.py" "$chart" "$scratch/all.json"

story "what is refused, with the value's place"
refused() { # SENTENCE OPTION…
  ! rendered "${@:2}" >/dev/null 2>"$scratch/refusal" || return 1
  grep -qF -- "$1" "$scratch/refusal" || { cat "$scratch/refusal" >&2; return 1; }
}
refuses() { holds "${*:2}" refused "$1" "${@:2}"; }
refuses "additional properties 'webhok' not allowed" --set webhok.failurePolicy=Fail
refuses "at '/crds': additional properties 'kep' not allowed" --set crds.kep=true
refuses "at '/limiter/replicas': maximum: got 6, want 5" --set limiter.replicas=6
refuses "at '/operator/resources': additional properties 'limit' not allowed" --set operator.resources.limit.memory=1Gi
refuses "at '/limiter/offlinePercent': maximum: got 51, want 50" --set limiter.offlinePercent=51
refuses "at '/operator/replicas': minimum: got 0, want 1" --set operator.replicas=0
refuses "at '/webhook/failurePolicy': value must be one of 'Fail', 'Ignore'" --set webhook.failurePolicy=fail
refuses "at '/image/digest'" --set image.digest=sha256:1
refuses "at '/image/repository'" --set image.repository=quotakeeper:1
refuses "at '/image/pullPolicy': value must be one of" --set image.pullPolicy=Sometimes
refuses "at '/image/tag'" --set-json image.tag=1.5
refuses "at '/limiter/ledger/sizeLimit'" --set limiter.ledger.sizeLimit=big
refuses "at '/trust/extraCAs'" --set trust.extraCAs=ca.pem
{ cat "$scratch/ca.pem"; echo "-----BEGIN PRIVATE KEY-----"; } >"$scratch/key.pem"
refuses "at '/trust/extraCAs': 'not' failed" --set-file trust.extraCAs="$scratch/key.pem"
refuses "at '/crds/enabled': got string, want boolean" --set-string crds.enabled=true
refuses "at '/proxy/imagePullSecrets/0': got object, want string" --set "proxy.imagePullSecrets[0].name=registry"
refuses "at '/proxy/resources/limits/cpu'" --set proxy.resources.limits.cpu=lots
refuses "at '/commonLabels/app.kubernetes.io~1name'" --set-string commonLabels.app\\.kubernetes\\.io/name=mine
refuses "at '/operator/extraEnv/0/name'" --set "operator.extraEnv[0].name=POD_NAME"
refuses "at '/webhook/timeoutSeconds': minimum" --set webhook.timeoutSeconds=2
refuses "at '/proxy/resources/requests/memory'" --set proxy.resources.requests.memory=64mb
refuses "at '/networkPolicy/apiServerCIDRs/0'" --set "networkPolicy.apiServerCIDRs={10.0.0.1}"
refuses "at '/networkPolicy/metricsFrom/0': additional properties 'labels' not allowed" --set "networkPolicy.metricsFrom[0].labels.a=b"
refuses "at '/uninstall/timeoutSeconds': maximum" --set uninstall.timeoutSeconds=3600
paths() { # the schema's names or the values', a path on each line
  python3 - "$chart/$1" <<'P'
import json, re, sys

def schema_paths(schema, path=()):
    if "$ref" in schema:
        schema = whole["definitions"][schema["$ref"].split("/")[-1]]
    for name, value in schema.get("properties", {}).items():
        if name not in ("requests", "limits", "claims", "matchLabels", "matchExpressions"):
            yield path + (name,)
            yield from schema_paths(value, path + (name,))

def value_paths(lines):
    above = []
    for line in lines:
        if found := re.match(r"( *)([A-Za-z]+):", line):
            indent, name = len(found[1]), found[2]
            above = [each for each in above if each[0] < indent] + [(indent, name)]
            if name not in ("requests", "limits"):
                yield tuple(each[1] for each in above)

text = open(sys.argv[1])
if sys.argv[1].endswith(".json"):
    whole = json.load(text)
    found = schema_paths(whole)
else:
    found = value_paths(text)
print("\n".join(sorted(".".join(path) for path in found)))
P
}
paths values.schema.json >"$scratch/allowed"
paths values.yaml >"$scratch/given"
holds "every value that is allowed stands in values.yaml, and no other" same "$scratch/allowed" "$scratch/given"

finish
