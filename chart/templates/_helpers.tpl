{{/* What the objects in the release's namespace are called. 13 characters are left for the longest suffix. */}}
{{- define "tierserve.fullname" -}}
{{- $name := ternary .Release.Name (printf "%s-tierserve" .Release.Name) (contains "tierserve" .Release.Name) -}}
{{- .Values.fullnameOverride | default $name | replace "." "-" | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{/* By these a Deployment or a Service finds its pods; they never change. Takes a list: the root, the component. */}}
{{- define "tierserve.selectorLabels" -}}
app.kubernetes.io/name: tierserve
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of pods: without the versions, so that a new chart alone restarts no pod. Takes a list: the root, the component. */}}
{{- define "tierserve.podLabels" -}}
{{- $root := index . 0 -}}
{{- $own := include "tierserve.selectorLabels" . | fromYaml -}}
{{- $fixed := dict "app.kubernetes.io/part-of" "tierserve" "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- toYaml (merge (dict) $own $fixed $root.Values.commonLabels) -}}
{{- end }}

{{/* Labels of every other object. Takes a list: the root, the component. */}}
{{- define "tierserve.labels" -}}
{{- $chart := (index . 0).Chart -}}
{{- $version := dict "app.kubernetes.io/version" $chart.AppVersion "helm.sh/chart" (printf "%s-%s" $chart.Name $chart.Version | replace "+" "_") -}}
{{- toYaml (merge (dict) $version (include "tierserve.podLabels" . | fromYaml)) -}}
{{- end }}

{{/* Name, namespace and labels of an object beside the server. Takes a list: the root, the component, a suffix of the name. */}}
{{- define "tierserve.metadata" -}}
name: {{ include "tierserve.fullname" (index . 0) }}{{ index . 2 }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "tierserve.labels" . | nindent 2 }}
{{- end }}

{{/* The same for an object in a tier's namespace. Takes a list: the root, the tier's name, the tier, the object's name. */}}
{{- define "tierserve.tierMetadata" -}}
name: {{ index . 3 }}
namespace: {{ (index . 2).namespace.name }}
labels:
  {{- include "tierserve.labels" (list (index . 0) "tier") | nindent 2 }}
  tierserve.dev/tier: {{ index . 1 }}
{{- end }}

{{- define "tierserve.image" -}}
{{- printf "%s:%s" .Values.server.image.repository (.Values.server.image.tag | default .Chart.AppVersion) -}}
{{- end }}

{{/* The address that the server listens at: as given, unless that is one that only a laptop itself reaches. */}}
{{- define "tierserve.host" -}}
{{- $host := .Values.server.host -}}
{{- ternary "::" $host (or (hasPrefix "127." $host) (has $host (list "localhost" "::1"))) -}}
{{- end }}

{{/* The IP families of a Service, where they are not the cluster's to choose. */}}
{{- define "tierserve.families" -}}
{{- with .Values.service.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.service.ipFamilies }}
ipFamilies: {{ toJson . }}
{{- end }}
{{- end }}

{{/* "yes" where the servers keep nothing on a volume, so that there may be several at once. */}}
{{- define "tierserve.shared" -}}
{{- if and .Values.database.secretName .Values.blobs.url }}yes{{ end -}}
{{- end }}

{{/* Text for a quantity that may be written as a number: Helm reads every number as a float. */}}
{{- define "tierserve.quantity" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ printf "%.0f" . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{/* The files that the server renders Jobs from, as a mapping of name to text. */}}
{{- define "tierserve.jobTemplates" -}}
{{- $files := dict -}}
{{- range $path, $_ := .Files.Glob "files/jobtemplates/*.yaml.j2" -}}
{{- $_ := set $files (base $path) ($.Files.Get $path) -}}
{{- end -}}
{{- toYaml (merge (dict) .Values.jobTemplates $files) -}}
{{- end }}

{{- define "tierserve.pullSecrets" -}}
{{- with .Values.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Pod Security "restricted" and a read-only root, for the server's image. */}}
{{- define "tierserve.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "tierserve.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
capabilities:
  drop: [ALL]
{{- end }}

{{/* The Secret that the chart makes where none is named. */}}
{{- define "tierserve.accessSecret" -}}
{{ include "tierserve.fullname" . }}-access
{{- end }}

{{/* Where the server finds what keys are checked with. */}}
{{- define "tierserve.accessFolder" -}}
/var/run/secrets/tierserve
{{- end }}

{{/* The names of the tiers that are open to callers without a key, or else of those that are not, as a JSON array. Takes a list: the root, which. */}}
{{- define "tierserve.tiersByAccess" -}}
{{- $names := list -}}
{{- range $name, $tier := (index . 0).Values.tiers -}}
{{- if eq (dig "access" "anonymous" false $tier) (index $ 1) -}}
{{- $names = append $names $name -}}
{{- end -}}
{{- end -}}
{{- toJson $names -}}
{{- end }}

{{/* The names of the tiers in which helm test classifies a picture, as a JSON array. */}}
{{- define "tierserve.testedTiers" -}}
{{- if .Values.access.test.secretName }}{{ keys .Values.tiers | sortAlpha | toJson }}{{ else }}{{ include "tierserve.tiersByAccess" (list . true) }}{{ end -}}
{{- end }}

{{/* What the server's environment has by name. */}}
{{- define "tierserve.env" -}}
{{- with .Values.database.secretName }}
- name: TIERSERVE_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $.Values.database.secretKey }}
{{- end }}
{{- with .Values.blobs.url }}
- name: TIERSERVE_BLOBS_URL
  value: {{ . }}
{{- end }}
{{- with .Values.pod.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The egress rule for DNS. */}}
{{- define "tierserve.dnsRule" -}}
- ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - port: {{ . }}
      protocol: UDP
    - port: {{ . }}
      protocol: TCP
    {{- end }}
  {{- with .Values.networkPolicy.dns }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* An egress rule for one port. Takes a list: the port, the peers. */}}
{{- define "tierserve.portRule" -}}
- ports:
    - port: {{ index . 0 }}
      protocol: TCP
  {{- with index . 1 }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* The labels that the server stamps on a tier's workers. Takes the tier's name. */}}
{{- define "tierserve.workerLabels" -}}
app.kubernetes.io/name: tierserve
app.kubernetes.io/managed-by: tierserve
tierserve.dev/tier: {{ . }}
{{- end }}

{{/* What belongs to no namespace has the release's in its name. */}}
{{- define "tierserve.clusterName" -}}
{{ .Release.Namespace }}-{{ include "tierserve.fullname" . }}-token-review
{{- end }}
