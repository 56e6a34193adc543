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
{{- end }}

{{- /* An image by (list . .Values.image). */ -}}
{{- define "quotakeeper.image" -}}
{{- $chart := (index . 0).Chart }}{{ $image := index . 1 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{- $tag := $image.tag | default $chart.AppVersion -}}
{{ $image.repository }}:{{ kindIs "string" $tag | ternary $tag (int64 $tag) }}
{{- end -}}
{{- end }}

{{- define "quotakeeper.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
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
