{{- define "paritygate.fullname" -}}
{{- if contains "paritygate" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-paritygate" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "paritygate.account" -}}
{{- default (include "paritygate.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "paritygate.selector" -}}
app.kubernetes.io/name: paritygate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- /* managed-by is Helm here: what the operator makes says `paritygate`, and the two must not be taken for each other. */ -}}
{{- define "paritygate.labels" -}}
{{ include "paritygate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "paritygate.image" -}}
{{- with .Values.images.operator -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "paritygate.pinned" -}}
{{- $image := index .root.Values.images .name -}}
name: {{ printf "%s@%s" $image.repository (required (printf "images.%s.digest is required: the digest (sha256:…) of the %s image, so that what is judged is what serves" .name .name) $image.digest) }}
{{- with $image.identity }}
{{ dict "identity" . | toYaml }}
{{- end }}
{{- end -}}

{{- /* What the operator does with what belongs to migrations; in each namespace, or in all. */ -}}
{{- define "paritygate.rules" -}}
- apiGroups: [paritygate.dev]
  resources: [modelmigrations]
  verbs: [get, list, watch]
- apiGroups: [paritygate.dev]
  resources: [modelmigrations/status]
  verbs: [patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
# `create` only ever as a dry run: it asks admission whether a Job's pod would be taken.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, create]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, create, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
  {{- with .Values.secretNames }}
  resourceNames: {{ toJson . }}
  {{- end }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{- /* CEL: whether a request comes from somebody else than `users` and `groups`. */ -}}
{{- define "paritygate.others" -}}
!(request.userInfo.username in [{{ range $index, $one := .users }}{{ if $index }}, {{ end }}'{{ $one }}'{{ end }}])
{{- with .groups }} && !request.userInfo.?groups.orValue([]).exists(g, g in [{{ range $index, $one := . }}{{ if $index }}, {{ end }}'{{ $one }}'{{ end }}]){{ end }}
{{- end -}}

{{- /* Of a duration such as 1h30m. */ -}}
{{- define "paritygate.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 -}}
{{- $total := 0 -}}
{{- range regexFindAll "[0-9]+(ms|s|m|h|d)" . -1 -}}
{{- $total = add $total (mul (regexFind "^[0-9]+" . | int64) (get $units (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- $total -}}
{{- end -}}

{{- /* Puts a policy in force: in the namespaces that are looked after, or everywhere. */ -}}
{{- define "paritygate.binding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ include "paritygate.fullname" .root }}-{{ .policy }}
  labels:
    {{- include "paritygate.labels" .root | nindent 4 }}
spec:
  policyName: {{ include "paritygate.fullname" .root }}-{{ .policy }}
  validationActions: {{ toJson .root.Values.admissionPolicy.actions }}
  {{- with .root.Values.namespaces }}
  matchResources:
    namespaceSelector:
      matchExpressions:
      - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
  {{- end }}
{{- end -}}
