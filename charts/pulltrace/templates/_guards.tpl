{{/*
Conditions under which the installation fails: risks that have not been acknowledged, and values that are valid by
themselves but contradict each other.
*/}}
{{- define "pulltrace.guards" -}}
{{- if not (and .Values.metrics .Values.rbac) -}}
{{- fail `

--reuse-values keeps the default values of the installed chart, which does not have all values that this
chart needs. Keep only the values that you have set, and take the rest from this chart:

    helm upgrade --reset-then-reuse-values …
` -}}
{{- end -}}
{{- include "pulltrace.acknowledgements" . -}}
{{- include "pulltrace.consistency" . -}}
{{- include "pulltrace.networkGuards" . -}}
{{- range $component := list "agent" "server" -}}
{{- include "pulltrace.workloadGuards" (dict "root" $ "component" $component "values" (index $.Values $component)) -}}
{{- end -}}
{{- end -}}

{{- define "pulltrace.acknowledgements" -}}
{{- $agent := .Values.agent -}}
{{- if and $agent.runtimeSocket.enabled (not $agent.runtimeSocket.risksAcknowledged) -}}
{{- fail `

The agent needs the node's containerd socket, and anyone with access to that socket can become root on the node.
The agent only reads, listens on no port and has no capabilities; SECURITY.md describes the risk and what limits it.
To acknowledge it:

    --set agent.runtimeSocket.risksAcknowledged=true

To install only the server, which shows waiting pods and failures but no progress:

    --set agent.runtimeSocket.enabled=false
` -}}
{{- end -}}
{{- $service := .Values.server.service -}}
{{- if and (ne $service.type "ClusterIP") (not $service.exposureAcknowledged) -}}
{{- fail (printf `

With server.service.type=%s, anyone who can connect to the Service can see nodes, pods and images, because there
is no login. To acknowledge that:

    --set server.service.exposureAcknowledged=true

Otherwise leave it at ClusterIP, and put an authenticating proxy in front of an Ingress or HTTPRoute.
` $service.type) -}}
{{- end -}}
{{- if gt (int .Values.server.replicas) 1 -}}
{{- fail `

server.replicas above 1 does not work: each server keeps its state in memory and would receive only some of the
reports, so the dashboard would show different pulls on each request. Leave it at 1. While the server restarts, agents
keep their observations, and report them afterwards.
` -}}
{{- end -}}
{{- end -}}

{{- define "pulltrace.consistency" -}}
{{- if and (eq (include "pulltrace.authMode" .) "serviceAccount") (semverCompare "<1.30-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf `

agent.auth.mode=serviceAccount needs Kubernetes 1.30: in older versions, an agent's token does not name its node. This
cluster runs %s. Let the agents share a secret instead:

    --set agent.auth.mode=token
` .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]" (include "pulltrace.fullname" .)) -}}
{{- fail (printf `

The Service would be named %s-server, but many versions of Kubernetes require that a name begins with a letter:

    --set fullnameOverride=pulltrace
` (include "pulltrace.fullname" .)) -}}
{{- end -}}
{{- $service := .Values.server.service -}}
{{- $ports := list (int $service.port) (int $service.metricsPort) -}}
{{- $names := list "http" "metrics" -}}
{{- range $service.extraPorts -}}
{{- if or (has (int .port) $ports) (has .name $names) -}}
{{- fail (printf "\n\nserver.service.extraPorts repeats the port %d or the name %s.\n" (int .port) .name) -}}
{{- end -}}
{{- $ports = append $ports (int .port) -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- if eq (int $service.port) (int $service.metricsPort) -}}
{{- fail (printf "\n\nserver.service.port and server.service.metricsPort are both %d: they must differ.\n" (int $service.port)) -}}
{{- end -}}
{{- if and $service.nodePort (eq (int $service.nodePort) (int $service.metricsNodePort)) -}}
{{- fail (printf "\n\nserver.service.nodePort and metricsNodePort are both %d: they must differ.\n" (int $service.nodePort)) -}}
{{- end -}}
{{- $least := dict "reportInterval" "500ms" "heartbeatInterval" "500ms" "historyTTL" "1s" "stallTimeout" "1s" -}}
{{- range $name, $minimum := $least -}}
{{- $given := get $.Values.config $name -}}
{{- if and $given (lt (float64 (include "pulltrace.seconds" $given)) (float64 (include "pulltrace.seconds" $minimum))) -}}
{{- fail (printf `

config.%s=%s is too short: it must be at least %s, or the pods would exit with an error.
` $name $given $minimum) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail `

ingress.enabled=true needs a host:

    --set ingress.hosts[0].host=pulltrace.example.org
` -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not (has .Values.ingress.servicePort $names)) -}}
{{- fail (printf "\n\ningress.servicePort=%s is not a port of the Service: %s.\n" .Values.ingress.servicePort (join ", " $names)) -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail `

httpRoute.enabled=true needs a Gateway to attach to:

    --set httpRoute.parentRefs[0].name=public --set httpRoute.parentRefs[0].namespace=gateways
` -}}
{{- end -}}
{{- if and .Values.commonLabels (include "pulltrace.selectorLabel" .Values.commonLabels) -}}
{{- fail (printf "\n\ncommonLabels has %s, which selects the pods and cannot be changed. nameOverride changes the name.\n"
  (include "pulltrace.selectorLabel" .Values.commonLabels)) -}}
{{- end -}}
{{- end -}}

{{/*
The labels in a dict that select pods, or nothing if there are none.
*/}}
{{- define "pulltrace.selectorLabel" -}}
{{- pick . "app.kubernetes.io/instance" "app.kubernetes.io/name" | keys | sortAlpha | join " and " -}}
{{- end -}}

{{/*
The numeric value of a Kubernetes quantity such as 128Mi or 100m.
*/}}
{{- define "pulltrace.quantity" -}}
{{- $units := dict "m" 1e-3 "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576
  "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- $text := toString . -}}
{{- $unit := regexFind "[A-Za-z]+$" $text -}}
{{- mulf (float64 (trimSuffix $unit $text)) (get $units $unit) -}}
{{- end -}}
