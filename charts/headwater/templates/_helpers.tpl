{{/* What all names begin with. */}}
{{- define "headwater.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* By what a role's pods are selected; takes (list $ "role"). */}}
{{- define "headwater.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of an object; takes (list $ "role"). */}}
{{- define "headwater.labels" -}}
{{- $root := index . 0 -}}
{{ include "headwater.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image's reference; takes (list $ image). */}}
{{- define "headwater.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Where sidecars and warming jobs send to; empty for the provider itself. */}}
{{- define "headwater.providerUrl" -}}
{{- if .Values.providerUrl -}}
{{- .Values.providerUrl -}}
{{- else if .Values.simulator.enabled -}}
{{- printf "http://%s-simulator.%s.svc:8585" (include "headwater.fullname" .) .Release.Namespace -}}
{{- end -}}
{{- end -}}

{{/* Whether the controller makes the webhook's certificate; empty where it does not. */}}
{{- define "headwater.ownCertificate" -}}
{{- if and .Values.webhook.enabled (not .Values.certManager.enabled) -}}true{{- end -}}
{{- end -}}

{{/* The account that policies know the controller by. */}}
{{- define "headwater.controllerAccount" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "headwater.fullname" . }}-controller
{{- end -}}

{{/* A policy holds for the namespaces that are looked after; nothing for all of them. */}}
{{- define "headwater.boundTo" -}}
{{- with .Values.watchNamespaces }}
matchResources:
  namespaceSelector:
    matchExpressions:
      - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
{{- end }}
{{- end -}}

{{/* What every pod of a role has; takes (list $ "role"). */}}
{{- define "headwater.pod" -}}
{{- $root := index . 0 -}}
{{- $role := index $root.Values (index . 1) -}}
{{- $selector := include "headwater.selector" . | fromYaml -}}
serviceAccountName: {{ include "headwater.fullname" $root }}-{{ index . 1 }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- with $root.Values.runAsUser }}
  runAsUser: {{ . }}
  runAsGroup: {{ . }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $role.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $role.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $role.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $role.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $role.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{- merge (dict "labelSelector" (dict "matchLabels" $selector)) . | toYaml | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What every container of this chart has; takes (list $ "role"). */}}
{{- define "headwater.container" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
image: {{ include "headwater.image" (list $root $root.Values.image) }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
{{- /* What it said last is in the pod's state then, where people look first. */}}
terminationMessagePolicy: FallbackToLogsOnError
resources: {{- toYaml (index $root.Values (index . 1)).resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* Metadata of a role's pods; takes (list $ "role" annotations). */}}
{{- define "headwater.podMetadata" -}}
{{- $role := index (index . 0).Values (index . 1) -}}
labels:
  {{- include "headwater.selector" . | nindent 2 }}
  {{- with $role.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) $role.podAnnotations (index . 2) }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The budget of a role of which there are several; takes (list $ "role"). */}}
{{- define "headwater.disruptionBudget" -}}
{{- $root := index . 0 -}}
{{- $role := index $root.Values (index . 1) -}}
{{- if and $role.podDisruptionBudget.enabled (gt (int $role.replicas) 1) -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "headwater.fullname" $root }}-{{ index . 1 }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "headwater.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "headwater.selector" . | nindent 6 }}
{{- end -}}
{{- end -}}

{{/* What may get in to a role's pods; takes (list $ "role" ports). Kubelets always may. */}}
{{- define "headwater.networkPolicy" -}}
{{- $root := index . 0 -}}
{{- $role := index $root.Values (index . 1) -}}
{{- if $role.networkPolicy.enabled -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "headwater.fullname" $root }}-{{ index . 1 }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "headwater.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "headwater.selector" . | nindent 6 }}
  policyTypes: [Ingress]
  {{- $sources := $role.networkPolicy.sources }}
  {{- with index . 2 }}
  ingress:
    {{- range . }}
    - ports:
        - port: {{ . }}
      {{- if and $sources (eq . "https") }}
      from: {{- toYaml $sources | nindent 8 }}
      {{- end }}
    {{- end }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* The account of a role; takes (list $ "role"). */}}
{{- define "headwater.account" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "headwater.fullname" (index . 0) }}-{{ index . 1 }}
  namespace: {{ (index . 0).Release.Namespace }}
  labels: {{- include "headwater.labels" . | nindent 4 }}
{{- end -}}

{{/* Whether a kind of the Prometheus operator's is rendered; takes (list $ "Kind"). */}}
{{- define "headwater.monitored" -}}
{{- $root := index . 0 -}}
{{- $mode := $root.Values.monitoring.whenMissing -}}
{{- if or (eq $mode "Render") ($root.Capabilities.APIVersions.Has "monitoring.coreos.com/v1") -}}
true
{{- else if eq $mode "Fail" -}}
{{- fail (printf "\n\nThis cluster knows no %s (monitoring.coreos.com/v1): install the Prometheus operator first, or set monitoring.whenMissing to Skip, or to Render where the renderer asks no cluster." (index . 1)) -}}
{{- end -}}
{{- end -}}

{{/* The rule that every role for people has. */}}
{{- define "headwater.readers" -}}
- apiGroups: [headwater.dev]
  resources: [promptprefixes, cachewarmers]
  verbs: [get, list, watch]
{{- end -}}
