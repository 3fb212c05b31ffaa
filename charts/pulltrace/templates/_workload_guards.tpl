{{/*
Guards for the agent's and the server's workload: the API server rejects pods in which these values contradict each
other. Call with (dict "root" $ "component" "agent" "values" .Values.agent).
*/}}
{{- define "pulltrace.workloadGuards" -}}
{{- with include "pulltrace.selectorLabel" (default (dict) .values.podLabels) -}}
{{- fail (printf "\n\n%s.podLabels has %s, which selects the pods and cannot be changed. nameOverride changes the name.\n"
  $.component .) -}}
{{- end -}}
{{- $own := fromYaml (include "pulltrace.ownContainer" .) -}}
{{- $ours := merge (dict "name" (printf "pulltrace-%s" .component)) $own (dict "env" .values.extraEnv
  "resources" .values.resources "lifecycle" .values.lifecycle "securityContext" .values.securityContext) -}}
{{- $_ := set $ours "volumeMounts" (concat $own.volumeMounts .values.extraVolumeMounts) -}}
{{- $volumes := list -}}
{{- range $own.volumeMounts }}{{ $volumes = append $volumes .name }}{{ end -}}
{{- range .values.extraVolumes }}{{ $volumes = append $volumes .name }}{{ end -}}
{{- with include "pulltrace.repeated" $volumes -}}
{{- fail (printf "\n\n%s.extraVolumes repeats the name %s.\n" $.component .) -}}
{{- end -}}
{{- range .values.extraVolumes -}}
{{- $paths := list -}}
{{- range (default (dict) .projected).sources -}}
{{- range $source := . -}}
{{- with $source.path }}{{ $paths = append $paths . }}{{ end -}}
{{- range $source.items }}{{ $paths = append $paths .path }}{{ end -}}
{{- end -}}
{{- end -}}
{{- with include "pulltrace.repeated" $paths -}}
{{- fail (printf "\n\n%s.extraVolumes: the volume has two files %s.\n" $.component .) -}}
{{- end -}}
{{- end -}}
{{- $containers := concat (list $ours) .values.initContainers .values.extraContainers -}}
{{- $names := list -}}
{{- range $containers }}{{ $names = append $names .name }}{{ end -}}
{{- with include "pulltrace.repeated" $names -}}
{{- fail (printf "\n\n%s has two containers named %s.\n" $.component .) -}}
{{- end -}}
{{- range $containers -}}
{{- include "pulltrace.containerGuards" (dict "component" $.component "container" . "volumes" $volumes
  "pod" $.values) -}}
{{- end -}}
{{- $hostPorts := list -}}
{{- range concat (list $ours) .values.extraContainers -}}
{{- range .ports -}}
{{- $port := .hostPort -}}
{{- if $.values.hostNetwork }}{{ $port = .containerPort }}{{ end -}}
{{- with $port }}{{ $hostPorts = append $hostPorts (int .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- with include "pulltrace.repeated" $hostPorts -}}
{{- fail (printf "\n\n%s.extraContainers use the node's port %s twice.\n" $.component .) -}}
{{- end -}}
{{- $constraints := list -}}
{{- range .values.topologySpreadConstraints -}}
{{- $constraints = append $constraints (printf "%s with %s" .topologyKey .whenUnsatisfiable) -}}
{{- end -}}
{{- with include "pulltrace.repeated" $constraints -}}
{{- fail (printf "\n\n%s.topologySpreadConstraints repeats %s.\n" $.component .) -}}
{{- end -}}
{{- $addresses := list -}}
{{- range .values.hostAliases }}{{ $addresses = append $addresses .ip }}{{ end -}}
{{- with include "pulltrace.repeated" $addresses -}}
{{- fail (printf "\n\n%s.hostAliases repeats the address %s.\n" $.component .) -}}
{{- end -}}
{{- $sysctls := list -}}
{{- range (default (dict) .values.podSecurityContext).sysctls -}}
{{- if and $.values.hostNetwork (regexMatch "^net[./]" .name) -}}
{{- fail (printf "\n\n%s.podSecurityContext: %s cannot be set with hostNetwork.\n" $.component .name) -}}
{{- end -}}
{{- $sysctls = append $sysctls .name -}}
{{- end -}}
{{- with include "pulltrace.repeated" $sysctls -}}
{{- fail (printf "\n\n%s.podSecurityContext repeats the sysctl %s.\n" $.component .) -}}
{{- end -}}
{{- range $which := list "podAffinity" "podAntiAffinity" -}}
{{- $affinity := default (dict) (get (default (dict) $.values.affinity) $which) -}}
{{- $terms := default (list) $affinity.requiredDuringSchedulingIgnoredDuringExecution -}}
{{- range $affinity.preferredDuringSchedulingIgnoredDuringExecution }}{{ $terms = append $terms .podAffinityTerm }}{{ end -}}
{{- range $terms -}}
{{- with include "pulltrace.repeated" (concat (default (list) .matchLabelKeys) (default (list) .mismatchLabelKeys)) -}}
{{- fail (printf "\n\n%s.affinity.%s names the label key %s twice.\n" $.component $which .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
The default volume mounts and ports of the component's main container, as YAML. Call like the guards above.
*/}}
{{- define "pulltrace.ownContainer" -}}
{{- $mounts := list -}}
{{- $ports := list -}}
{{- if eq .component "agent" -}}
{{- $mounts = append $mounts (dict "name" "containerd" "mountPath" (dir (include "pulltrace.socketPath" .root))) -}}
{{- if .values.soci.root -}}
{{- $mounts = append $mounts (dict "name" "soci" "mountPath" "/run/pulltrace/soci") -}}
{{- end -}}
{{- if eq (include "pulltrace.authMode" .root) "serviceAccount" -}}
{{- $mounts = append $mounts (dict "name" "token" "mountPath" "/var/run/secrets/pulltrace") -}}
{{- end -}}
{{- if include "pulltrace.hasCA" .root -}}
{{- $mounts = append $mounts (dict "name" "server-ca" "mountPath" "/etc/pulltrace/ca") -}}
{{- end -}}
{{- else -}}
{{- $ports = list (dict "name" "http" "containerPort" 8080) (dict "name" "metrics" "containerPort" 9090) -}}
{{- if .values.tls.secretName -}}
{{- $mounts = append $mounts (dict "name" "tls" "mountPath" "/etc/pulltrace/tls") -}}
{{- end -}}
{{- end -}}
{{- toYaml (dict "volumeMounts" $mounts "ports" $ports) -}}
{{- end -}}

{{/*
Guards for one container. Call with (dict "component" "agent" "container" … "volumes" (list …) "pod" .Values.agent).
*/}}
{{- define "pulltrace.containerGuards" -}}
{{- $container := .container -}}
{{- $where := printf "%s: the container %s" .component $container.name -}}
{{- $paths := list -}}
{{- range $container.volumeMounts -}}
{{- if not (has .name $.volumes) -}}
{{- fail (printf "\n\n%s mounts the volume %s, which is not in %s.extraVolumes.\n" $where .name $.component) -}}
{{- end -}}
{{- $paths = append $paths .mountPath -}}
{{- end -}}
{{- with include "pulltrace.repeated" $paths -}}
{{- fail (printf "\n\n%s mounts two volumes at %s.\n" $where .) -}}
{{- end -}}
{{- $variables := list -}}
{{- range $container.env }}{{ $variables = append $variables .name }}{{ end -}}
{{- with include "pulltrace.repeated" $variables -}}
{{- fail (printf "\n\n%s has the variable %s twice.\n" $where .) -}}
{{- end -}}
{{- $ports := list -}}
{{- range $container.ports -}}
{{- $ports = append $ports (printf "%d/%s" (int .containerPort) (default "TCP" .protocol)) -}}
{{- with .name }}{{ $ports = append $ports . }}{{ end -}}
{{- if and $.pod.hostNetwork .hostPort (ne (int .hostPort) (int .containerPort)) -}}
{{- fail (printf "\n\n%s: on the node's network, hostPort %d must equal containerPort %d.\n" $where (int .hostPort) (int .containerPort)) -}}
{{- end -}}
{{- end -}}
{{- with include "pulltrace.repeated" $ports -}}
{{- fail (printf "\n\n%s has the port %s twice.\n" $where .) -}}
{{- end -}}
{{- $resized := list -}}
{{- range $container.resizePolicy }}{{ $resized = append $resized .resourceName }}{{ end -}}
{{- with include "pulltrace.repeated" $resized -}}
{{- fail (printf "\n\n%s has two resize policies for %s.\n" $where .) -}}
{{- end -}}
{{- if and (eq "Unmasked" (default "" (default (dict) $container.securityContext).procMount)) (ne "false" (toString $.pod.hostUsers)) -}}
{{- fail (printf "\n\n%s: procMount=Unmasked needs server.hostUsers=false; agents cannot have it.\n" $where) -}}
{{- end -}}
{{- range $hook := $container.lifecycle -}}
{{- if and $hook.sleep (gt (int64 $hook.sleep.seconds) (int64 $.pod.terminationGracePeriodSeconds)) -}}
{{- fail (printf "\n\n%s sleeps %d s, but %s.terminationGracePeriodSeconds is %d.\n"
  $where (int64 $hook.sleep.seconds) $.component (int64 $.pod.terminationGracePeriodSeconds)) -}}
{{- end -}}
{{- end -}}
{{- include "pulltrace.resourceGuards" (dict "where" $where "resources" (default (dict) $container.resources)) -}}
{{- end -}}

{{/*
Guards for a container's resources. Only some resources can be overcommitted; for all others, such as example.org/gpu, a
container's request must equal its limit. Call with (dict "where" "…" "resources" …).
*/}}
{{- define "pulltrace.resourceGuards" -}}
{{- $limits := default (dict) .resources.limits -}}
{{- range $name, $request := .resources.requests -}}
{{- $limit := get $limits $name -}}
{{- $requested := float64 (include "pulltrace.quantity" $request) -}}
{{- if and $limit (gt $requested (float64 (include "pulltrace.quantity" $limit))) -}}
{{- fail (printf "\n\n%s requests more %s (%v) than its limit allows (%v).\n" $.where $name $request $limit) -}}
{{- end -}}
{{- if and (contains "/" $name) (not (and $limit (eq $requested (float64 (include "pulltrace.quantity" $limit))))) -}}
{{- fail (printf "\n\n%s must have a limit of %s that equals its request (%v).\n" $.where $name $request) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
The items that occur more than once in a list, comma-separated.
*/}}
{{- define "pulltrace.repeated" -}}
{{- $seen := list -}}
{{- $twice := list -}}
{{- range . -}}
{{- if has . $seen }}{{ $twice = append $twice . }}{{ end -}}
{{- $seen = append $seen . -}}
{{- end -}}
{{- $twice | uniq | join ", " -}}
{{- end -}}
