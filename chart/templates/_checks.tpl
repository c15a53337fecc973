{{/* Refuses values that the schema allows. Nothing is rendered. */}}
{{- define "tierserve.checks" -}}
{{- include "tierserve.rules" . }}
{{- end }}
