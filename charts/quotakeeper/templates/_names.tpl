{{- define "quotakeeper.selector" -}}
app.kubernetes.io/name: quotakeeper
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "quotakeeper.labels" -}}
app.kubernetes.io/name: quotakeeper
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Labels of pods, of (list . "operator" .Values.operator). Nothing that changes with the chart alone: that would
restart them. */ -}}
{{- define "quotakeeper.podLabels" -}}
{{- include "quotakeeper.selector" (index . 1) }}
{{- with merge (dict) (index . 2).podLabels (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* An image by (list . .Values.image). The registry of all images takes the place of the repository's own, which is
its first part if that has a dot or a port, or is localhost. */ -}}
{{- define "quotakeeper.image" -}}
{{- $top := index . 0 }}{{ $image := index . 1 -}}
{{- $repository := $image.repository }}
{{- with ($top.Values.global).imageRegistry }}
{{- $parts := splitList "/" $repository }}
{{- if and (gt (len $parts) 1) (or (contains "." (first $parts)) (contains ":" (first $parts)) (eq (first $parts) "localhost")) }}
{{- $parts = rest $parts }}
{{- end }}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (join "/" $parts) }}
{{- end }}
{{- if $image.digest -}}
{{ $repository }}@{{ $image.digest }}
{{- else -}}
{{- $tag := $image.tag | default $top.Chart.AppVersion -}}
{{ $repository }}:{{ kindIs "string" $tag | ternary $tag (int64 $tag) }}
{{- end -}}
{{- end }}

{{- /* Names of Secrets, as JSON, of (list . .Values.imagePullSecrets): the global ones first, each once. */ -}}
{{- define "quotakeeper.pullSecretNames" -}}
{{- $names := list }}
{{- range concat (default list ((index . 0).Values.global).imagePullSecrets) (index . 1) }}
{{- $names = append $names (kindIs "map" . | ternary (get (kindIs "map" . | ternary . dict) "name") .) }}
{{- end }}
{{- $names | uniq | toJson }}
{{- end }}

{{- define "quotakeeper.pullSecrets" -}}
{{- with include "quotakeeper.pullSecretNames" (list . .Values.imagePullSecrets) | fromJsonArray }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What Pod Security's level `restricted` asks for. The images name a numeric user of their own. */ -}}
{{- define "quotakeeper.podSecurity" -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "quotakeeper.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Where pods go, of .Values.operator or .Values.limiter. */ -}}
{{- define "quotakeeper.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The environment of operator and limiter, of .Values.operator or .Values.limiter. */ -}}
{{- define "quotakeeper.environment" -}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: QUOTAKEEPER_LOG_FORMAT
  value: {{ .logFormat }}
{{- with .log }}
- name: QUOTAKEEPER_LOG
  value: {{ . | quote }}
{{- end }}
{{- with .extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The token by which the limiter knows the operator; where programs look for it by themselves. */ -}}
{{- define "quotakeeper.limiterToken" -}}
name: limiter-token
projected:
  sources:
  - serviceAccountToken: {audience: quotakeeper.dev/limiter, expirationSeconds: 3600, path: token}
{{- end }}

{{- define "quotakeeper.probes" -}}
# A start takes as long as the API server lets it.
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 1
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 2
  timeoutSeconds: 2
{{- end }}

{{- /* Spreads a component's pods over nodes, where that can be. */ -}}
{{- define "quotakeeper.spread" -}}
- topologyKey: kubernetes.io/hostname
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "quotakeeper.selector" . | nindent 6 }}
  # Of this version's pods, else an upgrade spreads over those that go.
  matchLabelKeys: [pod-template-hash]
{{- end }}

{{- /* And over zones. Not by another constraint of spread: the scheduler ignores nodes that lack the label of one of
them, and so the nodes of clusters without zones. */ -}}
{{- define "quotakeeper.zones" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
  - weight: 100
    podAffinityTerm:
      topologyKey: topology.kubernetes.io/zone
      labelSelector:
        matchLabels: {{- include "quotakeeper.selector" . | nindent 10 }}
      matchLabelKeys: [pod-template-hash]
{{- end }}
