{{/* Refuses values that break a rule of rules.yaml, with every sentence; server/settings/rules.py reads the same file.

A template can return text only, so those below put what they find into the dict `out` that they are given. */}}
{{- define "tierserve.rules" -}}
{{- $book := .Files.Get "rules.yaml" | fromYaml }}
{{- $root := .Values | toJson | fromJson }}
{{- $_ := set $root "tiers" (include "tierserve.tiers" . | fromJson) }}
{{- $_ := set $root "templates" (include "tierserve.jobTemplates" . | fromYaml | keys | sortAlpha) }}
{{- $_ := set $root "release" .Release.Namespace }}
{{- include "tierserve.rules.fill" (list $root $book.defaults) }}
{{- $out := dict "broken" list }}
{{- range $form := $book.forms }}
{{- range $kind := list "values" "keys" }}
{{- range $pattern := index $form $kind }}
{{- include "tierserve.rules.places" (list $root $pattern $out) }}
{{- range $place := $out.places }}
{{- $text := ternary $place.key $place.value (eq $kind "keys") }}
{{- if and (kindIs "string" $text) $text (not (regexMatch (printf "^(%s)$" $form.pattern) $text)) }}
{{- $shown := regexFind "^(?s:.{0,100})" $text | toRawJson }}
{{- $is := ternary (printf "%s has the key %s" $place.around $shown) (printf "%s is %s" $place.at $shown) (eq $kind "keys") }}
{{- $_ := set $out "broken" (printf "%s: not %s" (ternary $place.at $is (hasKey $form "secret")) $form.is | append $out.broken) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- range $rule := $book.rules }}
{{- $seen := dict }}
{{- range $rule.taken }}
{{- $_ := set $seen (toJson .) "" }}
{{- end }}
{{- range $pattern := $rule.each | default (list "") }}
{{- include "tierserve.rules.places" (list $root $pattern $out) }}
{{- range $place := $out.places }}
{{- $_ := set $place "root" $root }}
{{- $refused := true }}
{{- if $rule.unique }}
{{- include "tierserve.rules.operand" (list $rule.unique $place $out) }}
{{- $key := toJson $out.value }}
{{- $refused = hasKey $seen $key }}
{{- $_ := set $place "told" (dict "value" $out.value "other" (index $seen $key)) }}
{{- $_ := set $seen $key ($refused | ternary (index $seen $key) $place.at) }}
{{- else }}
{{- range $condition := $rule.when }}
{{- include "tierserve.rules.holds" (list $condition $place $out) }}
{{- $refused = and $refused $out.holds }}
{{- end }}
{{- end }}
{{- if $refused }}
{{- include "tierserve.rules.sentence" (list $rule.says $place $out) }}
{{- $_ := set $out "broken" (append $out.broken $out.sentence) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- if $out.broken }}
{{- fail (uniq $out.broken | join "\n") }}
{{- end }}
{{- end }}

{{/* Adds to a mapping what the second one has beyond it. Takes a list: the mapping, the defaults. */}}
{{- define "tierserve.rules.fill" -}}
{{- $value := index . 0 }}
{{- range $key, $default := index . 1 }}
{{- if eq $key "*" }}
{{- range $item := $value }}
{{- include "tierserve.rules.fill" (list $item $default) }}
{{- end }}
{{- else if not (hasKey $value $key) }}
{{- $_ := set $value $key $default }}
{{- else if kindIs "map" $default }}
{{- include "tierserve.rules.fill" (list (index $value $key) $default) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Sets `places`: what is there at the places of a pattern. Takes a list: the root, the pattern, `out`. */}}
{{- define "tierserve.rules.places" -}}
{{- $found := list (dict "at" "" "value" (index . 0)) }}
{{- range $part := without (index . 1 | splitList ".") "" }}
{{- $next := list }}
{{- range $place := $found }}
{{- if kindIs "map" $place.value }}
{{- range $key, $value := $place.value }}
{{- if or (eq $part "*") (eq $part $key) }}
{{- $at := $key | replace "." "\\." | replace "\n" "\\n" | printf "%s.%s" $place.at | trimPrefix "." }}
{{- $next = append $next (dict "at" $at "around" $place.at "key" $key "value" $value) }}
{{- end }}
{{- end }}
{{- else if and (kindIs "slice" $place.value) (eq $part "*") }}
{{- range $index, $value := $place.value }}
{{- $next = append $next (dict "at" (printf "%s[%d]" $place.at $index) "around" $place.at "key" (toString $index) "value" $value) }}
{{- end }}
{{- end }}
{{- end }}
{{- $found = $next }}
{{- end }}
{{- $_ := set (index . 2) "places" $found }}
{{- end }}

{{/* Sets `value`: what an operand of a condition stands for, or nil. Takes a list: the operand, the place, `out`. */}}
{{- define "tierserve.rules.operand" -}}
{{- $operand := index . 0 }}
{{- $place := index . 1 }}
{{- $out := index . 2 }}
{{- $value := $operand }}
{{- if kindIs "map" $operand }}
{{- $sum := hasKey $operand "sum" }}
{{- $value = ternary 0.0 1.0 $sum }}
{{- range $each := $operand.sum | default $operand.product }}
{{- include "tierserve.rules.operand" (list $each $place $out) }}
{{- $value = ternary (addf $value $out.value) (mulf $value $out.value) $sum }}
{{- end }}
{{- else if not (kindIs "string" $operand) }}
{{- else if eq $operand "@" }}
{{- $value = $place.key }}
{{- else if or (hasPrefix "." $operand) (hasPrefix "$." $operand) }}
{{- $value = ternary $place.root $place.value (hasPrefix "$" $operand) }}
{{- range $key := without (trimPrefix "$" $operand | splitList ".") "" }}
{{- if kindIs "map" $value }}
{{- $value = index $value $key }}
{{- else }}
{{- $value = index (dict) $key }}
{{- end }}
{{- end }}
{{- end }}
{{- $_ := set $out "value" $value }}
{{- end }}

{{/* Sets `number`: that of a quantity, or nil. Takes a list: the value, `out`. */}}
{{- define "tierserve.rules.number" -}}
{{- $value := index . 0 }}
{{- $number := index (dict) "" }}
{{- if kindIs "float64" $value }}
{{- $number = $value }}
{{- else if kindIs "string" $value }}
{{- $digits := regexFind "^([0-9]+(\\.[0-9]*)?|\\.[0-9]+)([eE][+-]?[0-9]{1,2})?" $value }}
{{- $scales := dict "" 1.0 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 }}
{{- $powers := dict "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 }}
{{- with index (merge $scales $powers) (trimPrefix $digits $value) }}
{{- if $digits }}
{{- $number = mulf $digits . }}
{{- end }}
{{- end }}
{{- end }}
{{- $_ := set (index . 1) "number" $number }}
{{- end }}

{{/* Sets `holds`. Takes a list: the condition, the place, `out`. */}}
{{- define "tierserve.rules.holds" -}}
{{- $place := index . 1 }}
{{- $out := index . 2 }}
{{- $relation := index (index . 0) 1 }}
{{- include "tierserve.rules.operand" (list (index (index . 0) 0) $place $out) }}
{{- $left := $out.value }}
{{- $right := "" }}
{{- if ne $relation "empty" }}
{{- include "tierserve.rules.operand" (list (index (index . 0) 2) $place $out) }}
{{- $right = $out.value }}
{{- end }}
{{- $holds := false }}
{{- if eq $relation "empty" }}
{{- $holds = or (kindIs "invalid" $left) (has (toJson $left) (list `""` "[]" "{}")) }}
{{- else if or (kindIs "invalid" $left) (kindIs "invalid" $right) }}
{{- else if eq $relation "==" }}
{{- $holds = eq (toJson $left) (toJson $right) }}
{{- else if eq $relation "!=" }}
{{- $holds = ne (toJson $left) (toJson $right) }}
{{- else if eq $relation "in" }}
{{- $holds = has $left $right }}
{{- else if eq $relation "outside" }}
{{- $holds = not (has $left $right) }}
{{- else if eq $relation "starts" }}
{{- $holds = hasPrefix $right $left }}
{{- else if eq $relation "ends" }}
{{- $holds = hasSuffix $right $left }}
{{- else }}
{{- include "tierserve.rules.number" (list $left $out) }}
{{- $left = $out.number }}
{{- include "tierserve.rules.number" (list $right $out) }}
{{- $right = $out.number }}
{{- if or (kindIs "invalid" $left) (kindIs "invalid" $right) }}
{{- else if eq $relation "<" }}
{{- $holds = lt $left $right }}
{{- else if eq $relation "<=" }}
{{- $holds = le $left $right }}
{{- else if eq $relation ">" }}
{{- $holds = gt $left $right }}
{{- else if eq $relation ">=" }}
{{- $holds = ge $left $right }}
{{- else }}
{{- fail (printf "rules.yaml has an unknown relation: %s" $relation) }}
{{- end }}
{{- end }}
{{- $_ := set $out "holds" $holds }}
{{- end }}

{{/* Sets `sentence`: what a rule says of a place. Takes a list: the text with operands in braces, the place, `out`. */}}
{{- define "tierserve.rules.sentence" -}}
{{- $place := index . 1 }}
{{- $out := index . 2 }}
{{- $texts := regexSplit "\\{[^}]*\\}" (index . 0) -1 }}
{{- $sentence := first $texts }}
{{- range $index, $operand := regexFindAll "\\{[^}]*\\}" (index . 0) -1 }}
{{- $name := $operand | trimPrefix "{" | trimSuffix "}" }}
{{- if eq $name "at" }}
{{- $_ := set $out "value" $place.at }}
{{- else if has $name (list "value" "other") }}
{{- $_ := set $out "value" (index $place.told $name) }}
{{- else }}
{{- include "tierserve.rules.operand" (list $name $place $out) }}
{{- end }}
{{- $text := $out.value }}
{{- if kindIs "slice" $text }}
{{- $text = join ", " $text }}
{{- else if kindIs "float64" $text }}
{{- $text = eq $text (floor $text) | ternary (printf "%.0f" $text) (toRawJson $text) }}
{{- end }}
{{- $text = toString $text | replace "\n" "\\n" | regexFind "^(?s:.{0,100})" }}
{{- $sentence = printf "%s%s%s" $sentence $text (index $texts (add1 $index)) }}
{{- end }}
{{- $_ := set $out "sentence" $sentence }}
{{- end }}
