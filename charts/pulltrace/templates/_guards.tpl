{{/*
What must not be installed without a person having said so, and what would be installed broken.
*/}}
{{- define "pulltrace.guards" -}}
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
