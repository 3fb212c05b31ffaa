{{/*
What must not be installed without a person having said so, and what would be installed broken.
*/}}
{{- define "pulltrace.guards" -}}
{{- if not .Values.metrics -}}
{{- fail `

--reuse-values keeps the defaults of the chart that is installed, and that one is older than values this chart needs.
Keep what you have set yourself, and take the rest from this chart:

    helm upgrade --reset-then-reuse-values …
` -}}
{{- end -}}
{{- $agent := .Values.agent -}}
{{- if and $agent.runtimeSocket.enabled (not $agent.runtimeSocket.risksAcknowledged) -}}
{{- fail `

The agent needs the node's containerd socket, and you have not said yet that you know what that means:
whoever holds that socket can become root on the node. The agent only reads, listens on nothing and has
no capabilities; SECURITY.md says what stops what. If that is fine:

    --set agent.runtimeSocket.risksAcknowledged=true

A server without agents shows nothing. If you want one anyway:

    --set agent.runtimeSocket.enabled=false
` -}}
{{- end -}}
{{- $service := .Values.server.service -}}
{{- if and (ne $service.type "ClusterIP") (not $service.exposureAcknowledged) -}}
{{- fail (printf `

server.service.type=%s lets whoever reaches it read nodes, pods and images: reading has no login, by design.
If that is meant:

    --set server.service.exposureAcknowledged=true

Else leave it at ClusterIP, and put an authenticating proxy before an Ingress or HTTPRoute.
` $service.type) -}}
{{- end -}}
{{- if gt (int .Values.server.replicas) 1 -}}
{{- fail `

server.replicas above 1 does not work yet: the state is in memory, each server would get a share of the
reports, and the dashboard would show a different share at each request. Leave it at 1: agents keep what
they saw while a server restarts, and tell it again.
` -}}
{{- end -}}
{{- if and (eq (include "pulltrace.authMode" .) "serviceAccount") (semverCompare "<1.30-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf `

agent.auth.mode=serviceAccount needs Kubernetes 1.30: before, an agent's token does not say its node. This is %s.
Let agents share a secret:

    --set agent.auth.mode=token
` .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- $labels := dict
  "commonLabels" .Values.commonLabels "agent.podLabels" $agent.podLabels "server.podLabels" .Values.server.podLabels -}}
{{- range $value, $given := $labels -}}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" -}}
{{- if hasKey (default (dict) $given) $label -}}
{{- fail (printf `

%s has %s, by which pods are found: it cannot be another. nameOverride changes the name.
` $value $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $least := dict "reportInterval" "500ms" "heartbeatInterval" "500ms" "historyTTL" "1s" "stallTimeout" "1s" -}}
{{- range $name, $minimum := $least -}}
{{- $given := get $.Values.config $name -}}
{{- if and $given (lt (float64 (include "pulltrace.seconds" $given)) (float64 (include "pulltrace.seconds" $minimum))) -}}
{{- fail (printf `

config.%s=%s is too short: it must be at least %s, and the pods would say so and end.
` $name $given $minimum) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail `

ingress.enabled=true needs a host:

    --set ingress.hosts[0].host=pulltrace.example.org
` -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail `

httpRoute.enabled=true needs a Gateway to attach to:

    --set httpRoute.parentRefs[0].name=public --set httpRoute.parentRefs[0].namespace=gateways
` -}}
{{- end -}}
{{- end -}}
