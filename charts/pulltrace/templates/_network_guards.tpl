{{/*
Guards for networks and for additional network policy rules.
*/}}
{{- define "pulltrace.networkGuards" -}}
{{- $policy := .Values.networkPolicy -}}
{{- range concat .Values.server.service.loadBalancerSourceRanges $policy.egress.apiServerCIDRs -}}
{{- $_ := include "pulltrace.network" . -}}
{{- end -}}
{{- range $rule := concat $policy.extraServerRules $policy.egress.extraServerRules $policy.egress.extraAgentRules -}}
{{- range .ports -}}
{{- if and .endPort (lt (int .endPort) (int .port)) -}}
{{- fail (printf "\n\nnetworkPolicy: the endPort %d of an additional rule is below its port %d.\n" (int .endPort) (int .port)) -}}
{{- end -}}
{{- end -}}
{{- range concat (default (list) $rule.from) (default (list) $rule.to) -}}
{{- with .ipBlock -}}
{{- $cidr := .cidr -}}
{{- $network := include "pulltrace.network" $cidr -}}
{{- range .except -}}
{{- $part := include "pulltrace.network" . -}}
{{- if or (eq $part $network) (not (hasPrefix $network $part)) -}}
{{- fail (printf "\n\nnetworkPolicy: %s in `except` of an additional rule is not part of %s.\n" . $cidr) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
The IP version of a network such as 10.0.0.0/8, and its prefix as bits. Fails if bits beyond the prefix are set, which
newer versions of Kubernetes reject.
*/}}
{{- define "pulltrace.network" -}}
{{- $length := int (regexFind "[0-9]+$" .) -}}
{{- $address := regexReplaceAll "/.*" . "" -}}
{{- $version := contains ":" $address | ternary 6 4 -}}
{{- $bits := "" -}}
{{- if eq $version 4 -}}
{{- range splitList "." $address }}{{ $bits = printf "%s%08b" $bits (int .) }}{{ end -}}
{{- else -}}
{{- $halves := splitList "::" $address -}}
{{- $left := splitList ":" (first $halves) | compact -}}
{{- $right := list -}}
{{- if gt (len $halves) 1 }}{{ $right = splitList ":" (last $halves) | compact }}{{ end -}}
{{- range $left }}{{ $bits = printf "%s%016b" $bits (int64 (printf "0x%s" .)) }}{{ end -}}
{{- $bits = printf "%s%s" $bits (repeat (int (mul 16 (sub (sub 8 (len $left)) (len $right)))) "0") -}}
{{- range $right }}{{ $bits = printf "%s%016b" $bits (int64 (printf "0x%s" .)) }}{{ end -}}
{{- end -}}
{{- if contains "1" (substr $length (len $bits) $bits) -}}
{{- fail (printf "\n\nThe network %s has bits set beyond its prefix /%d, which Kubernetes rejects.\n" . $length) -}}
{{- end -}}
{{ $version }}/{{ substr 0 $length $bits }}
{{- end -}}
