{{- define "pulltrace.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "pulltrace.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 56 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "pulltrace.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 56 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 56 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "pulltrace.namespace" -}}
{{- default .Release.Namespace .Values.namespace -}}
{{- end -}}

{{/*
What every object carries. Call with (dict "root" $ "component" "agent"); no component for what belongs to both. "labels"
are the object's own: they win over commonLabels, which win over ours. A key stands once: not every tool takes two.
*/}}
{{- define "pulltrace.labels" -}}
{{- $ours := dict
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/managed-by" .root.Release.Service
  "app.kubernetes.io/part-of" "pulltrace"
  "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $which := dict
  "app.kubernetes.io/name" (include "pulltrace.name" .root)
  "app.kubernetes.io/instance" .root.Release.Name -}}
{{- if .component }}{{ $which = fromYaml (include "pulltrace.podLabels" .) }}{{ end -}}
{{- toYaml (merge (dict) (default (dict) .labels) (default (dict) .root.Values.commonLabels) $which $ours) -}}
{{- end -}}

{{/*
What pods carry: nothing that changes with the chart's version, or each upgrade would restart every agent.
*/}}
{{- define "pulltrace.podLabels" -}}
{{- $which := merge (dict "app.kubernetes.io/component" .component) (fromYaml (include "pulltrace.selectorLabels" .)) -}}
{{- toYaml (merge (dict) (default (dict) .labels) (default (dict) .root.Values.commonLabels) $which) -}}
{{- end -}}

{{/*
Selectors cannot be changed by an upgrade: these are those of chart 0.1.0.
*/}}
{{- define "pulltrace.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pulltrace.name" .root }}-{{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "pulltrace.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end -}}

{{- define "pulltrace.socketPath" -}}
{{- $paths := dict
  "kubernetes" "/run/containerd/containerd.sock"
  "k3s" "/run/k3s/containerd/containerd.sock"
  "rke2" "/run/k3s/containerd/containerd.sock"
  "k0s" "/run/k0s/containerd.sock"
  "microk8s" "/var/snap/microk8s/common/run/containerd.sock" -}}
{{- default (get $paths .Values.agent.containerd.distribution) .Values.agent.containerd.socketPath -}}
{{- end -}}

{{- define "pulltrace.watchNamespaces" -}}
{{- $given := .Values.config.watchNamespaces -}}
{{- if kindIs "slice" $given }}{{ join "," $given }}{{ else }}{{ nospace (default "" $given) }}{{ end -}}
{{- end -}}

{{/*
A duration like 1m30s, in seconds.
*/}}
{{- define "pulltrace.seconds" -}}
{{- $units := dict "ns" 1e-9 "us" 1e-6 "µs" 1e-6 "ms" 1e-3 "s" 1 "m" 60 "h" 3600 -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9.]+[a-zµ]+" . -1 -}}
{{- $unit := regexFind "[a-zµ]+" . -}}
{{- $sum = addf $sum (mulf (float64 (trimSuffix $unit .)) (get $units $unit)) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/*
Who may report: serviceAccount, token or none.
*/}}
{{- define "pulltrace.authMode" -}}
{{- $auth := .Values.agent.auth -}}
{{- default (ternary "token" "serviceAccount" (or (ne $auth.token "") (ne $auth.existingSecret ""))) $auth.mode -}}
{{- end -}}

{{- define "pulltrace.url" -}}
http{{ if .Values.server.tls.secretName }}s{{ end }}://{{ include "pulltrace.fullname" . }}-server.{{ include "pulltrace.namespace" . }}.svc:{{ .Values.server.service.port }}
{{- end -}}

{{/*
"true" when agents verify the server by a CA in its Secret.
*/}}
{{- define "pulltrace.hasCA" -}}
{{- if and .Values.server.tls.secretName .Values.server.tls.caKey }}true{{ end -}}
{{- end -}}

{{/*
The CA alone, for those who must not have the key beside it.
*/}}
{{- define "pulltrace.caVolume" -}}
- name: server-ca
  secret:
    secretName: {{ .Values.server.tls.secretName }}
    items:
      - key: {{ .Values.server.tls.caKey }}
        path: ca.crt
{{- end -}}

{{- define "pulltrace.caMount" -}}
- name: server-ca
  mountPath: /etc/pulltrace/ca
  readOnly: true
{{- end -}}

{{/*
A probe of the server, over HTTPS where it speaks that. Call with (dict "root" $ "probe" …).
*/}}
{{- define "pulltrace.probe" -}}
{{- $probe := deepCopy .probe -}}
{{- if and .root.Values.server.tls.secretName $probe.httpGet -}}
{{- $_ := set $probe.httpGet "scheme" "HTTPS" -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}

{{/*
The chart makes the Secret, unless the token is elsewhere or reports are open.
*/}}
{{- define "pulltrace.ownsSecret" -}}
{{- if and (eq (include "pulltrace.authMode" .) "token") (not .Values.agent.auth.existingSecret) }}true{{ end -}}
{{- end -}}

{{- define "pulltrace.secretName" -}}
{{- default (printf "%s-agent-token" (include "pulltrace.fullname" .)) .Values.agent.auth.existingSecret -}}
{{- end -}}

{{/*
The token, base64: as given, else as the last release had it, else new. It is remembered in .Values because it is asked
for three times in one rendering, and each time must get the same answer.
*/}}
{{- define "pulltrace.token" -}}
{{- $auth := .Values.agent.auth -}}
{{- if not (hasKey $auth "_encoded") -}}
{{- $kept := lookup "v1" "Secret" (include "pulltrace.namespace" .) (include "pulltrace.secretName" .) -}}
{{- $encoded := randAlphaNum 48 | b64enc -}}
{{- if $auth.token -}}
{{- $encoded = b64enc $auth.token -}}
{{- else if $kept -}}
{{- $encoded = default $encoded (get (default dict $kept.data) "token") -}}
{{- end -}}
{{- $_ := set $auth "_encoded" $encoded -}}
{{- end -}}
{{- $auth._encoded -}}
{{- end -}}

{{/*
Environment both halves share.
*/}}
{{- define "pulltrace.env" -}}
- name: PULLTRACE_LOG_LEVEL
  value: {{ .Values.config.logLevel | quote }}
{{- if eq (include "pulltrace.authMode" .) "token" }}
- name: PULLTRACE_AGENT_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "pulltrace.secretName" . }}
      key: {{ if .Values.agent.auth.existingSecret }}{{ .Values.agent.auth.existingSecretKey }}{{ else }}token{{ end }}
{{- end }}
{{- end -}}

{{/*
Annotations of a pod: the user's, and the token's sum where the chart owns it, so that a new token restarts both halves.
*/}}
{{- define "pulltrace.podAnnotations" -}}
{{- if include "pulltrace.ownsSecret" .root }}
checksum/token: {{ include "pulltrace.token" .root | sha256sum }}
{{- end }}
{{- with .annotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}
