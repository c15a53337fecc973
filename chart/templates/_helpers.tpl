{{/* What this chart is called: in a chart that contains it several times, the alias. It is the same in all names and selectors. */}}
{{- define "tierserve.name" -}}
{{- include "tierserve.bounded" (.Values.nameOverride | default .Chart.Name) -}}
{{- end }}

{{/* What the objects in the release's namespace are called. A part of another chart always has its own name in it, so that
     two of them never have the same, and no name starts with a digit, which Services refuse. */}}
{{- define "tierserve.fullname" -}}
{{- $own := include "tierserve.name" . -}}
{{- $name := printf "%s-%s" .Release.Name $own -}}
{{- if and .Chart.IsRoot (contains $own .Release.Name) }}{{ $name = .Release.Name }}{{ end -}}
{{- if not (regexMatch "^[a-z]" $name) }}{{ $name = printf "tierserve-%s" $name }}{{ end -}}
{{- include "tierserve.bounded" (.Values.fullnameOverride | default $name) -}}
{{- end }}

{{/* Text as a part of names. 13 characters of 63 are left for the longest suffix; whatever is longer ends in a hash of its own. */}}
{{- define "tierserve.bounded" -}}
{{- $name := . | lower | replace "." "-" | replace "_" "-" | trimAll "-" -}}
{{- if gt (len $name) 50 }}{{ $name = printf "%s-%s" (trunc 41 $name | trimSuffix "-") (sha256sum . | trunc 8) }}{{ end -}}
{{- $name -}}
{{- end }}

{{/* One mapping of several, as YAML: where two have a key, the later one wins, even with empty text. Takes a list. */}}
{{- define "tierserve.layered" -}}
{{- $all := dict -}}
{{- range . }}{{ range $key, $value := . }}{{ $_ := set $all $key $value }}{{ end }}{{ end -}}
{{- toYaml $all -}}
{{- end }}

{{/* By these a Deployment or a Service finds its pods; they never change. Takes a list: the root, the component. */}}
{{- define "tierserve.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tierserve.name" (index . 0) | quote }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 | quote }}
{{- end }}

{{/* Labels of pods: without the versions, so that a new chart alone restarts no pod. Takes a list: the root, the component. */}}
{{- define "tierserve.podLabels" -}}
{{- $root := index . 0 -}}
{{- $own := include "tierserve.selectorLabels" . | fromYaml -}}
{{- $fixed := dict "app.kubernetes.io/part-of" "tierserve" "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- include "tierserve.layered" (list $fixed $own) -}}
{{- end }}

{{/* Text as the value of a label. */}}
{{- define "tierserve.label" -}}
{{- . | replace "+" "_" | trunc 63 | trimAll "-_." -}}
{{- end }}

{{/* The metadata of every object is made here. Takes a dict: root, component, name; and if it has them: namespace, labels, annotations. */}}
{{- define "tierserve.described" -}}
{{- $chart := .root.Chart -}}
{{- $version := dict "app.kubernetes.io/version" (include "tierserve.label" $chart.AppVersion) "helm.sh/chart" (include "tierserve.label" (printf "%s-%s" $chart.Name $chart.Version)) -}}
{{- $own := include "tierserve.podLabels" (list .root .component) | fromYaml -}}
{{- $labels := include "tierserve.layered" (list .root.Values.commonLabels .labels $version $own) | fromYaml -}}
{{- $annotations := include "tierserve.layered" (list .root.Values.commonAnnotations .annotations) | fromYaml -}}
{{- $all := dict "name" .name "labels" $labels -}}
{{- with .namespace }}{{ $_ := set $all "namespace" . }}{{ end -}}
{{- with $annotations }}{{ $_ := set $all "annotations" . }}{{ end -}}
{{- toYaml $all -}}
{{- end }}

{{/* The metadata of an object beside the server. Takes a list: the root, the component, a suffix of the name; and if it has them: annotations, labels. */}}
{{- define "tierserve.metadata" -}}
{{- $root := index . 0 -}}
{{- $more := concat (slice . 3) (list dict dict) -}}
{{- $name := printf "%s%s" (include "tierserve.fullname" $root) (index . 2) -}}
{{- include "tierserve.described" (dict "root" $root "component" (index . 1) "name" $name "namespace" $root.Release.Namespace "annotations" (index $more 0) "labels" (index $more 1)) -}}
{{- end }}

{{/* The same for an object in a tier's namespace. Takes a list: the root, the tier's name, the tier, the object's name. */}}
{{- define "tierserve.tierMetadata" -}}
{{- include "tierserve.described" (dict "root" (index . 0) "component" "tier" "name" (index . 3) "namespace" (index . 2).namespace.name "labels" (dict "tierserve.dev/tier" (index . 1))) -}}
{{- end }}

{{/* The same for what belongs to no namespace. No other release has its name: neither a namespace's nor an object's has a colon. */}}
{{- define "tierserve.clusterMetadata" -}}
{{- include "tierserve.described" (dict "root" . "component" "server" "name" (include "tierserve.clusterName" .)) -}}
{{- end }}

{{- define "tierserve.image" -}}
{{- $image := .Values.server.image -}}
{{- $name := printf "%s:%s" (include "tierserve.repository" (list . $image.repository)) ($image.tag | default .Chart.AppVersion) -}}
{{- with $image.digest }}{{ $name = printf "%s@%s" (splitList "@" $name | first) . }}{{ end -}}
{{- quote $name -}}
{{- end }}

{{/* A repository, in the registry of all images where there is one. Takes a list: the root, the repository. */}}
{{- define "tierserve.repository" -}}
{{- $repository := index . 1 -}}
{{- $registry := dig "imageRegistry" "" ((index . 0).Values.global | default dict) -}}
{{- if and $registry $repository -}}
{{- $first := splitList "/" $repository | first -}}
{{- if and (ne $first $repository) (or (regexMatch "[.:]" $first) (eq $first "localhost")) }}{{ $repository = trimPrefix (printf "%s/" $first) $repository }}{{ end -}}
{{- $repository = printf "%s/%s" $registry $repository -}}
{{- end -}}
{{- $repository -}}
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
{{- $names := list -}}
{{- range concat (.Values.imagePullSecrets | default list) (dig "imagePullSecrets" list (.Values.global | default dict)) }}
{{- if kindIs "map" . }}{{ $names = append $names .name }}{{ else }}{{ $names = append $names . }}{{ end -}}
{{- end -}}
{{- with uniq $names -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Pod Security "restricted" and a read-only root, for the server's image. */}}
{{- define "tierserve.podSecurityContext" -}}
runAsNonRoot: true
{{- with int64 .Values.runAsUser }}
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "tierserve.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- with int64 .Values.runAsUser }}
runAsUser: {{ . }}
runAsGroup: {{ . }}
{{- end }}
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

{{/* The tiers that are enabled, by name, as JSON: no template reads .Values.tiers itself. */}}
{{- define "tierserve.tiers" -}}
{{- $found := dict -}}
{{- range $name, $tier := .Values.tiers }}{{ if dig "enabled" true $tier }}{{ $_ := set $found $name $tier }}{{ end }}{{ end -}}
{{- toJson $found -}}
{{- end }}

{{/* A tier's quota, with the keys of the capacity that it leaves out, as YAML. Takes a list: the root, the tier. */}}
{{- define "tierserve.quota" -}}
{{- include "tierserve.layered" (list (index . 0).Values.capacity (index . 1).quota) -}}
{{- end }}

{{/* How many of a tier's Jobs fit into a part of some resources; empty if they take nothing of them. Takes a list: the resources, the part, the tier. */}}
{{- define "tierserve.fitting" -}}
{{- $job := (index . 2).job | default dict -}}
{{- $one := dict "cpu" (get $job "cpu" | default "900m") "memory" (get $job "memory" | default "512Mi") "pods" 1.0 "gpus" (get $job "gpus" | default 0.0) -}}
{{- $out := dict -}}
{{- $least := "" -}}
{{- range $key, $amount := index . 0 -}}
{{- include "tierserve.rules.number" (list (index $one $key) $out) -}}
{{- with $out.number -}}
{{- include "tierserve.rules.number" (list $amount $out) -}}
{{- $fits := floor (addf (divf (mulf $out.number (index $ 1)) .) 1e-6) -}}
{{- if kindIs "string" $least }}{{ $least = $fits }}{{ else }}{{ $least = minf $least $fits }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if kindIs "float64" $least }}{{ printf "%.0f" $least }}{{ end -}}
{{- end }}

{{/* The names of the tiers that are open to callers without a key, or else of those that are not, as a JSON array. Takes a list: the root, which. */}}
{{- define "tierserve.tiersByAccess" -}}
{{- $names := list -}}
{{- range $name, $tier := include "tierserve.tiers" (index . 0) | fromJson -}}
{{- if eq (dig "access" "anonymous" false $tier) (index $ 1) -}}
{{- $names = append $names $name -}}
{{- end -}}
{{- end -}}
{{- toJson $names -}}
{{- end }}

{{/* The names of the tiers in which helm test classifies a picture, as a JSON array. */}}
{{- define "tierserve.testedTiers" -}}
{{- if .Values.access.test.secretName }}{{ include "tierserve.tiers" . | fromJson | keys | sortAlpha | toJson }}{{ else }}{{ include "tierserve.tiersByAccess" (list . true) }}{{ end -}}
{{- end }}

{{/* What the server's environment has by name. */}}
{{- define "tierserve.env" -}}
{{- with .Values.database.secretName }}
- name: TIERSERVE_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ . | quote }}
      key: {{ $.Values.database.secretKey | quote }}
{{- end }}
{{- with .Values.blobs.url }}
- name: TIERSERVE_BLOBS_URL
  value: {{ . | quote }}
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
tierserve.dev/tier: {{ . | quote }}
{{- end }}

{{- define "tierserve.clusterName" -}}
{{ .Release.Namespace }}:{{ include "tierserve.fullname" . }}:token-review
{{- end }}
