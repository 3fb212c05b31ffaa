{{- define "pulltrace.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/*
Name of the objects. A release name may contain dots, and nameOverride may contain capital letters, but a Service name
may contain neither.
*/}}
{{- define "pulltrace.fullname" -}}
{{- $name := include "pulltrace.name" . -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- regexReplaceAll "[._]" (default $full .Values.fullnameOverride | lower) "-" | trunc 56 | trimSuffix "-" -}}
{{- end -}}

{{- define "pulltrace.namespace" -}}
{{- default .Release.Namespace .Values.namespace -}}
{{- end -}}

{{/*
An object's labels. Call with (dict "root" $ "component" "agent"), or without a component for objects that agent and
server share. "labels" are the object's own: they override commonLabels, which override the chart's labels. Each key
appears only once, because some tools reject duplicate keys.
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
A pod's labels. None of them contains the chart's version, because every upgrade would then restart every agent.
*/}}
{{- define "pulltrace.podLabels" -}}
{{- $which := merge (dict "app.kubernetes.io/component" .component) (fromYaml (include "pulltrace.selectorLabels" .)) -}}
{{- toYaml (merge (dict) (default (dict) .labels) (default (dict) .root.Values.commonLabels) $which) -}}
{{- end -}}

{{/*
An upgrade cannot change selectors, so these are still the labels of chart 0.1.0.
*/}}
{{- define "pulltrace.selectorLabels" -}}
app.kubernetes.io/name: {{ printf "%s-%s" (include "pulltrace.name" .root) .component | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- end -}}

{{/*
The agent's or the server's image reference. Call with (dict "root" $ "component" "agent"). global.imageRegistry
replaces the repository's registry, which is the first part of its path if that part contains a dot or a port, or is
localhost. A released chart pins the digest of its own version.
*/}}
{{- define "pulltrace.image" -}}
{{- $image := (index .root.Values .component).image -}}
{{- $repository := $image.repository -}}
{{- with .root.Values.global.imageRegistry -}}
{{- $path := regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" $repository "" -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $path -}}
{{- end -}}
{{- $pinned := index .root.Chart.Annotations (printf "pulltrace/%s-digest" .component) -}}
{{- if $image.digest -}}
{{ $repository }}@{{ $image.digest }}
{{- else if $image.tag -}}
{{ $repository }}:{{ $image.tag }}
{{- else if $pinned -}}
{{ $repository }}:{{ .root.Chart.AppVersion }}@{{ $pinned }}
{{- else -}}
{{ $repository }}:{{ .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/*
Image pull secrets: the chart's own and the global ones, which may be bare names, as in many other charts.
*/}}
{{- define "pulltrace.imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range concat .Values.imagePullSecrets .Values.global.imagePullSecrets -}}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- with uniq $secrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/*
The agent's or the server's service account. Call with (dict "root" $ "component" "agent").
*/}}
{{- define "pulltrace.serviceAccountName" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- $ours := printf "%s-%s" (include "pulltrace.fullname" .root) .component -}}
{{- default ($account.create | ternary $ours "default") $account.name -}}
{{- end -}}

{{/*
The pod fields whose values have the same names for the agent and the server. Call with (dict "root" $ "component"
"agent").
*/}}
{{- define "pulltrace.podSpec" -}}
{{- $values := index .root.Values .component -}}
serviceAccountName: {{ include "pulltrace.serviceAccountName" . | quote }}
# Kubernetes would otherwise set a variable PULLTRACE_SERVER_PORT=tcp://… in each pod of the namespace.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ int64 $values.terminationGracePeriodSeconds }}
{{- include "pulltrace.imagePullSecrets" .root }}
{{- with $values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $field := list "priorityClassName" "runtimeClassName" "hostNetwork" "dnsPolicy" "dnsConfig" "hostAliases"
  "initContainers" "tolerations" "nodeSelector" "affinity" "topologySpreadConstraints" -}}
{{- with get $values $field }}
{{ toYaml (dict $field .) }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
The container fields whose values have the same names for the agent and the server. Call with (dict "root" $ "component"
"agent").
*/}}
{{- define "pulltrace.container" -}}
{{- $values := index .root.Values .component -}}
name: pulltrace-{{ .component }}
image: {{ include "pulltrace.image" . | quote }}
imagePullPolicy: {{ $values.image.pullPolicy }}
args:
  {{- toYaml (prepend $values.extraArgs .component) | nindent 2 }}
{{- range $field := list "securityContext" "resources" "lifecycle" -}}
{{- with get $values $field }}
{{ toYaml (dict $field .) }}
{{- end }}
{{- end }}
{{- with $values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $field := list "startupProbe" "livenessProbe" "readinessProbe" -}}
{{- with get $values $field }}
{{ $field }}:
  {{- include "pulltrace.probe" (dict "root" $.root "probe" .) | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
Environment variables: "ours" (a YAML list), except those that "extra" also contains, followed by "extra". Server-side
apply rejects a variable that occurs twice.
*/}}
{{- define "pulltrace.variables" -}}
{{- $given := list -}}
{{- range .extra }}{{ $given = append $given .name }}{{ end -}}
{{- $all := list -}}
{{- range fromYamlArray .ours -}}
{{- if not (has .name $given) }}{{ $all = append $all . }}{{ end -}}
{{- end -}}
{{- toYaml (concat $all .extra) -}}
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
A duration such as 1m30s, in seconds.
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
How agents authenticate: serviceAccount, token or none.
*/}}
{{- define "pulltrace.authMode" -}}
{{- $auth := .Values.agent.auth -}}
{{- default (ternary "token" "serviceAccount" (or (ne $auth.token "") (ne $auth.existingSecret ""))) $auth.mode -}}
{{- end -}}

{{- define "pulltrace.url" -}}
http{{ if .Values.server.tls.secretName }}s{{ end }}://{{ include "pulltrace.fullname" . }}-server.{{ include "pulltrace.namespace" . }}.svc:{{ .Values.server.service.port }}
{{- end -}}

{{/*
"true" if agents verify the server's certificate with a CA from its Secret.
*/}}
{{- define "pulltrace.hasCA" -}}
{{- if and .Values.server.tls.secretName .Values.server.tls.caKey }}true{{ end -}}
{{- end -}}

{{/*
The volume with the CA certificate, but without the private key in the same Secret, which agents must not have.
*/}}
{{- define "pulltrace.caVolume" -}}
- name: server-ca
  secret:
    secretName: {{ .Values.server.tls.secretName | quote }}
    items:
      - key: {{ .Values.server.tls.caKey | quote }}
        path: ca.crt
{{- end -}}

{{- define "pulltrace.caMount" -}}
- name: server-ca
  mountPath: /etc/pulltrace/ca
  readOnly: true
{{- end -}}

{{/*
A probe. Any other handler replaces the default httpGet, and httpGet uses HTTPS if the server does. Call with (dict
"root" $ "probe" …).
*/}}
{{- define "pulltrace.probe" -}}
{{- $probe := deepCopy .probe -}}
{{- if or $probe.exec $probe.tcpSocket $probe.grpc -}}
{{- $probe = omit $probe "httpGet" -}}
{{- end -}}
{{- if and .root.Values.server.tls.secretName $probe.httpGet -}}
{{- $_ := set $probe.httpGet "scheme" "HTTPS" -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}

{{/*
"true" if the chart creates the Secret with the token.
*/}}
{{- define "pulltrace.ownsSecret" -}}
{{- if and (eq (include "pulltrace.authMode" .) "token") (not .Values.agent.auth.existingSecret) }}true{{ end -}}
{{- end -}}

{{- define "pulltrace.secretName" -}}
{{- default (printf "%s-agent-token" (include "pulltrace.fullname" .)) .Values.agent.auth.existingSecret -}}
{{- end -}}

{{/*
The token in base64: from the values, otherwise from the previous revision, otherwise a new one. It is stored in
.Values, because it is needed three times per rendering and has to be the same each time.
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
Environment variables that the agent and the server share.
*/}}
{{- define "pulltrace.env" -}}
- name: PULLTRACE_LOG_LEVEL
  value: {{ .Values.config.logLevel | quote }}
{{- if eq (include "pulltrace.authMode" .) "token" }}
- name: PULLTRACE_AGENT_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "pulltrace.secretName" . | quote }}
      key: {{ .Values.agent.auth.existingSecret | empty | ternary "token" .Values.agent.auth.existingSecretKey | quote }}
{{- end }}
{{- end -}}

{{/*
A pod's annotations: the user's, and the checksum of a token that the chart manages. A new token therefore restarts the agents
and the server.
*/}}
{{- define "pulltrace.podAnnotations" -}}
{{- if include "pulltrace.ownsSecret" .root }}
checksum/token: {{ include "pulltrace.token" .root | sha256sum }}
{{- end }}
{{- with .annotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}
