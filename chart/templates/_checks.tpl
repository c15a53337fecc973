{{/* Values that the schema allows one by one and that contradict each other. Nothing is rendered; the first one fails. */}}
{{- define "tierserve.checks" -}}
{{- range $key := list "port" "internalPort" }}
{{- if eq (int (index $.Values.server $key)) 0 }}
{{- fail (printf "server.%s is 0, any free port: that is for a laptop, a Service needs a fixed one. Set it to 8080 or the like" $key) }}
{{- end }}
{{- end }}
{{- if eq (int .Values.server.port) (int .Values.server.internalPort) }}
{{- fail (printf "server.port and server.internalPort are both %d: clients must not reach what workers may" (int .Values.server.port)) }}
{{- end }}
{{- include "tierserve.tierChecks" . }}
{{- if and .Values.service.nodePort (eq .Values.service.type "ClusterIP") }}
{{- fail "service.nodePort needs service.type NodePort or LoadBalancer" }}
{{- end }}
{{- if and (eq .Values.service.externalTrafficPolicy "Local") (eq .Values.service.type "ClusterIP") }}
{{- fail "service.externalTrafficPolicy=Local needs service.type NodePort or LoadBalancer" }}
{{- end }}
{{- if and (or .Values.service.loadBalancerClass .Values.service.loadBalancerSourceRanges) (ne .Values.service.type "LoadBalancer") }}
{{- fail "service.loadBalancerClass and service.loadBalancerSourceRanges need service.type LoadBalancer" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.enabled needs a Gateway to hang on: set httpRoute.parentRefs[0].name (kubectl get gateways -A lists them)" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.monitoring) }}
{{- fail "serviceMonitor.enabled, but no network policy lets Prometheus in: name its pods in networkPolicy.monitoring" }}
{{- end }}
{{- if and .Values.blobs.secretName (not .Values.blobs.url) }}
{{- fail "blobs.secretName is for the bucket of blobs.url, and that is empty" }}
{{- end }}
{{- with .Values.autoscaling }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
{{- fail (printf "autoscaling.minReplicas is %d, more than autoscaling.maxReplicas, %d" (int .minReplicas) (int .maxReplicas)) }}
{{- end }}
{{- if and .enabled (not (dig "resources" "requests" "cpu" "" $.Values.pod)) }}
{{- fail "autoscaling.targetCPUPercent is of pod.resources.requests.cpu: set that" }}
{{- end }}
{{- end }}
{{- include "tierserve.unique" (list "pod.extraEnv" "name" .Values.pod.extraEnv (list "TIERSERVE_DATABASE_URL" "TIERSERVE_BLOBS_URL")) }}
{{- include "tierserve.unique" (list "pod.extraVolumes" "name" .Values.pod.extraVolumes (list "state" "config" "api-access" "access" "tmp")) }}
{{- include "tierserve.unique" (list "pod.extraVolumeMounts" "mountPath" .Values.pod.extraVolumeMounts (list "/var/lib/tierserve" "/etc/tierserve" "/var/run/secrets/kubernetes.io/serviceaccount" "/var/run/secrets/tierserve" "/tmp")) }}
{{- end }}

{{- define "tierserve.tierChecks" -}}
{{- $owners := dict .Release.Namespace "" }}
{{- $files := include "tierserve.jobTemplates" . | fromYaml }}
{{- range $name, $tier := .Values.tiers }}
{{- $namespace := $tier.namespace.name }}
{{- if hasKey $owners $namespace }}
{{- $owner := get $owners $namespace | printf "the tier %s" | trimSuffix "the tier " | default "the server itself" }}
{{- fail (printf "tiers.%s.namespace.name is %q, where %s is: a tier's quota is a namespace's, so give it one of its own" $name $namespace $owner) }}
{{- end }}
{{- $_ := set $owners $namespace $name }}
{{- if not (hasKey $files $tier.template) }}
{{- fail (printf "tiers.%s.template is %q, which is no Job template; there are: %s. Add it under jobTemplates" $name $tier.template (keys $files | sortAlpha | join ", ")) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Server-side apply refuses a list with the same key twice. Takes a list: the value's path, the key, the list, what is taken. */}}
{{- define "tierserve.unique" -}}
{{- $path := index . 0 }}
{{- $key := index . 1 }}
{{- $seen := index . 3 }}
{{- range index . 2 }}
{{- $name := get . $key }}
{{- if has $name $seen }}
{{- fail (printf "%s has the %s %q twice, or the chart has it already" $path $key $name) }}
{{- end }}
{{- $seen = append $seen $name }}
{{- end }}
{{- end }}
