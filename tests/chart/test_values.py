"""Every value of the chart, one by one, with its effect on the rendered objects."""

import re
from typing import Any

import pytest

from tests.chart.rendering import CHART, render, values

pytestmark = pytest.mark.chart

AGENT = "DaemonSet/pulltrace-agent"
SERVER = "Deployment/pulltrace-server"
TEST = "Pod/pulltrace-test"
AGENT_POD = f"{AGENT}#spec.template.spec"
SERVER_POD = f"{SERVER}#spec.template.spec"
AGENT_BOX = f"{AGENT_POD}.containers.[pulltrace-agent]"
SERVER_BOX = f"{SERVER_POD}.containers.[pulltrace-server]"
SERVICE = "Service/pulltrace-server"
SECRET = "Secret/pulltrace-agent-token"
DIGEST = "sha256:" + "ab" * 32
HOSTS = [{"host": "pulls.example.org"}]
GATEWAY = [{"name": "public"}]
RULES = "PrometheusRule/pulltrace#spec.groups.0.rules"
TAINTS = [{"key": "gpu", "operator": "Exists"}]
AFFINITY = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}}
BOX = [{"name": "box", "image": "example.org/box:1"}]
FROM = [{"secretRef": {"name": "more"}}]
HOOK = {"preStop": {"sleep": {"seconds": 1}}}
ALIASES = [{"ip": "192.0.2.1", "hostnames": ["a.example.org"]}]
EXPOSED = {"server.service.type": "LoadBalancer", "server.service.exposureAcknowledged": True}
NODE_PORTS = {"server.service.type": "NodePort", "server.service.exposureAcknowledged": True}
LOGIN = [{"name": "login", "port": 4180, "targetPort": 4180}]
EGRESS = {"networkPolicy.enabled": True, "networkPolicy.egress.enabled": True}
RULES_IN = [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 8080}]}]
RULES_OUT = [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]
ENV = [{"name": "NO_PROXY", "value": ".svc"}]
VOLUMES = [{"name": "more", "emptyDir": {}}]
MOUNTS = [{"name": "more", "mountPath": "/more"}]
LIMITS = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}
PROBE = {"httpGet": {"path": "/elsewhere", "port": "http"}, "periodSeconds": 7}
SPREAD = [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]
RELABEL = [{"action": "labeldrop", "regex": "pod"}]
MONITOR = {"metrics.serviceMonitor.enabled": True}
RULE = {"metrics.prometheusRule.enabled": True}
DASHBOARD = {"metrics.dashboard.enabled": True}
OPERATOR = {**DASHBOARD, "metrics.dashboard.grafanaOperator.enabled": True}
INGRESS = {"ingress.enabled": True, "ingress.hosts": HOSTS}
ROUTE = {"httpRoute.enabled": True, "httpRoute.parentRefs": GATEWAY}
POLICY = {"networkPolicy.enabled": True}
ROLES = ("ClusterRole", "ClusterRoleBinding")
API_RULE = "NetworkPolicy/pulltrace-server#spec.egress.1"
SERVICE_MONITOR = "ServiceMonitor/pulltrace-server"
ENDPOINT = f"{SERVICE_MONITOR}#spec.endpoints.0"

# A value's path, the value, other values that it needs, and the expected contents of the rendered objects.
CASES: list[tuple[str, Any, dict[str, Any], dict[str, Any]]] = [
    ("nameOverride", "pt", {}, {"Deployment/pulltrace-pt-server#metadata.labels.app~kubernetes~io/name": "pt-server"}),
    ("fullnameOverride", "watch", {}, {"Service/watch-server#metadata.name": "watch-server"}),
    (
        "namespace",
        "other",
        {},
        {
            f"{SERVER}#metadata.namespace": "other",
            f"{AGENT_BOX}.env.[PULLTRACE_SERVER_URL].value": "http://pulltrace-server.other.svc:8080",
            "ClusterRoleBinding/pulltrace-pod-reader#subjects.0.namespace": "other",
        },
    ),
    (
        "commonLabels",
        {"team": "platform"},
        {"agent.auth.mode": "token"},
        {
            f"{SERVICE}#metadata.labels.team": "platform",
            f"{AGENT}#spec.template.metadata.labels.team": "platform",
            f"{SECRET}#metadata.labels.team": "platform",
        },
    ),
    (
        "imagePullSecrets",
        [{"name": "regcred"}],
        {},
        {f"{place}.imagePullSecrets": [{"name": "regcred"}] for place in (AGENT_POD, SERVER_POD, f"{TEST}#spec")},
    ),
    (
        "extraObjects",
        [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-extra"}}],
        {},
        {"ConfigMap/pulltrace-extra#apiVersion": "v1"},
    ),
    ("agent.image.repository", "example.org/a", {}, {f"{AGENT_BOX}.image": "example.org/a:0.2.0"}),
    ("agent.image.tag", "dev", {}, {f"{AGENT_BOX}.image": "ghcr.io/d44b/pulltrace-agent:dev"}),
    (
        "agent.image.digest",
        DIGEST,
        {"agent.image.tag": "dev"},
        {f"{AGENT_BOX}.image": f"ghcr.io/d44b/pulltrace-agent@{DIGEST}"},
    ),
    ("agent.image.pullPolicy", "Always", {}, {f"{AGENT_BOX}.imagePullPolicy": "Always"}),
    ("agent.runtimeSocket.enabled", False, {}, {AGENT: None, "ServiceAccount/pulltrace-agent": None}),
    ("agent.runtimeSocket.risksAcknowledged", True, {}, {f"{AGENT}#kind": "DaemonSet"}),
    (
        "agent.containerd.distribution",
        "k3s",
        {},
        {f"{AGENT_BOX}.env.[PULLTRACE_CONTAINERD_SOCKET].value": "/run/k3s/containerd/containerd.sock"},
    ),
    (
        "agent.containerd.socketPath",
        "/opt/cd/cd.sock",
        {"agent.containerd.distribution": "k3s"},
        {
            f"{AGENT_BOX}.env.[PULLTRACE_CONTAINERD_SOCKET].value": "/opt/cd/cd.sock",
            f"{AGENT_BOX}.volumeMounts.[containerd]": {
                "name": "containerd",
                "mountPath": "/opt/cd",
                "readOnly": True,
            },
            f"{AGENT_POD}.volumes.[containerd].hostPath": {"path": "/opt/cd", "type": "Directory"},
        },
    ),
    (
        "agent.soci.root",
        "/var/lib/soci-snapshotter-grpc",
        {},
        {
            f"{AGENT_BOX}.env.[PULLTRACE_SOCI_ROOT].value": "/run/pulltrace/soci",
            f"{AGENT_BOX}.volumeMounts.[soci]": {
                "name": "soci",
                "mountPath": "/run/pulltrace/soci",
                "readOnly": True,
            },
            f"{AGENT_POD}.volumes.[soci].hostPath": {
                "path": "/var/lib/soci-snapshotter-grpc",
                "type": "DirectoryOrCreate",
            },
        },
    ),
    (
        "agent.auth.mode",
        "none",
        {},
        {
            SECRET: None,
            f"{AGENT_BOX}.env.[PULLTRACE_AGENT_TOKEN]": None,
            f"{SERVER_BOX}.env.[PULLTRACE_AGENT_TOKEN]": None,
        },
    ),
    (
        "agent.auth.mode",
        "serviceAccount",
        {},
        {
            SECRET: None,
            f"{AGENT_BOX}.env.[PULLTRACE_AGENT_TOKEN_FILE].value": "/var/run/secrets/pulltrace/token",
            f"{AGENT_BOX}.volumeMounts.[token].mountPath": "/var/run/secrets/pulltrace",
            f"{SERVER_BOX}.env.[PULLTRACE_AGENT_SERVICE_ACCOUNT].value": "pulltrace/pulltrace-agent",
            "ClusterRole/pulltrace-token-reviewer#rules": [
                {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}
            ],
        },
    ),
    (
        "server.tls.secretName",
        "mine",
        {},
        {
            f"{SERVER_POD}.volumes.[tls].secret": {"secretName": "mine"},
            f"{SERVER_BOX}.volumeMounts.[tls].mountPath": "/etc/pulltrace/tls",
            f"{SERVER_BOX}.env.[PULLTRACE_TLS_CERT_FILE].value": "/etc/pulltrace/tls/tls.crt",
            f"{SERVER_BOX}.env.[PULLTRACE_TLS_KEY_FILE].value": "/etc/pulltrace/tls/tls.key",
        },
    ),
    (
        "server.tls.caKey",
        "",
        {"server.tls.secretName": "mine"},
        {
            f"{AGENT_BOX}.env.[PULLTRACE_SERVER_CA_FILE]": None,
            f"{AGENT_BOX}.env.[PULLTRACE_SERVER_URL].value": "https://pulltrace-server.pulltrace.svc:8080",
        },
    ),
    (
        "agent.auth.token",
        "s3cret",
        {},
        {
            f"{SECRET}#data.token": "czNjcmV0",
            f"{AGENT_BOX}.env.[PULLTRACE_AGENT_TOKEN].valueFrom.secretKeyRef": {
                "name": "pulltrace-agent-token",
                "key": "token",
            },
        },
    ),
    (
        "agent.auth.existingSecret",
        "mine",
        {"agent.auth.token": "ignored"},
        {
            SECRET: None,
            f"{AGENT_BOX}.env.[PULLTRACE_AGENT_TOKEN].valueFrom.secretKeyRef": {"name": "mine", "key": "token"},
            f"{SERVER_BOX}.env.[PULLTRACE_AGENT_TOKEN].valueFrom.secretKeyRef": {"name": "mine", "key": "token"},
        },
    ),
    (
        "agent.auth.existingSecretKey",
        "bearer",
        {"agent.auth.existingSecret": "mine"},
        {f"{SERVER_BOX}.env.[PULLTRACE_AGENT_TOKEN].valueFrom.secretKeyRef.key": "bearer"},
    ),
    ("agent.resources", LIMITS, {}, {f"{AGENT_BOX}.resources": LIMITS}),
    ("agent.tolerations", TAINTS, {}, {f"{AGENT_POD}.tolerations": TAINTS}),
    ("agent.nodeSelector", {"pool": "gpu"}, {}, {f"{AGENT_POD}.nodeSelector.pool": "gpu"}),
    ("agent.affinity", AFFINITY, {}, {f"{AGENT_POD}.affinity": AFFINITY}),
    ("agent.priorityClassName", "high", {}, {f"{AGENT_POD}.priorityClassName": "high"}),
    (
        "agent.updateStrategy",
        {"type": "OnDelete", "rollingUpdate": None},
        {},
        {f"{AGENT}#spec.updateStrategy": {"type": "OnDelete"}},
    ),
    ("agent.podAnnotations", {"a": "b"}, {}, {f"{AGENT}#spec.template.metadata.annotations.a": "b"}),
    ("agent.podLabels", {"a": "b"}, {}, {f"{AGENT}#spec.template.metadata.labels.a": "b"}),
    (
        "agent.podSecurityContext",
        {"seccompProfile": {"type": "Localhost", "localhostProfile": "pulltrace/agent.json"}},
        {},
        {
            f"{AGENT_POD}.securityContext.seccompProfile.localhostProfile": "pulltrace/agent.json",
            f"{AGENT_POD}.securityContext.seccompProfile.type": "Localhost",
            f"{AGENT_POD}.securityContext.runAsUser": 0,
        },
    ),
    (
        "agent.securityContext",
        {"seLinuxOptions": {"type": "spc_t"}},
        {},
        {
            f"{AGENT_BOX}.securityContext.seLinuxOptions.type": "spc_t",
            f"{AGENT_BOX}.securityContext.readOnlyRootFilesystem": True,
        },
    ),
    ("agent.extraEnv", ENV, {}, {f"{AGENT_BOX}.env.[NO_PROXY].value": ".svc"}),
    ("agent.extraArgs", ["--x"], {}, {f"{AGENT_BOX}.args": ["agent", "--x"]}),
    ("agent.extraVolumes", VOLUMES, {}, {f"{AGENT_POD}.volumes.[more].emptyDir": {}}),
    (
        "agent.extraVolumeMounts",
        MOUNTS,
        {"agent.extraVolumes": VOLUMES},
        {f"{AGENT_BOX}.volumeMounts.[more].mountPath": "/more"},
    ),
    (
        "server.image.repository",
        "example.org/s",
        {},
        {f"{SERVER_BOX}.image": "example.org/s:0.2.0", f"{TEST}#spec.containers.0.image": "example.org/s:0.2.0"},
    ),
    ("server.image.tag", "dev", {}, {f"{SERVER_BOX}.image": "ghcr.io/d44b/pulltrace-server:dev"}),
    ("server.image.digest", DIGEST, {}, {f"{SERVER_BOX}.image": f"ghcr.io/d44b/pulltrace-server@{DIGEST}"}),
    ("server.image.pullPolicy", "Never", {}, {f"{SERVER_BOX}.imagePullPolicy": "Never"}),
    ("server.replicas", 0, {}, {f"{SERVER}#spec.replicas": 0}),
    (
        "server.strategy",
        {"type": "Recreate", "rollingUpdate": None},
        {},
        {f"{SERVER}#spec.strategy": {"type": "Recreate"}},
    ),
    ("server.resources", LIMITS, {}, {f"{SERVER_BOX}.resources": LIMITS}),
    (
        "server.service.type",
        "NodePort",
        {"server.service.exposureAcknowledged": True},
        {f"{SERVICE}#spec.type": "NodePort"},
    ),
    (
        "server.service.port",
        80,
        {**ROUTE},
        {
            f"{SERVICE}#spec.ports.[http].port": 80,
            f"{AGENT_BOX}.env.[PULLTRACE_SERVER_URL].value": "http://pulltrace-server.pulltrace.svc:80",
            "HTTPRoute/pulltrace#spec.rules.0.backendRefs.0.port": 80,
        },
    ),
    ("server.service.metricsPort", 9100, {}, {f"{SERVICE}#spec.ports.[metrics].port": 9100}),
    (
        "server.service.exposureAcknowledged",
        True,
        {"server.service.type": "LoadBalancer"},
        {f"{SERVICE}#spec.type": "LoadBalancer"},
    ),
    ("server.service.annotations", {"a": "b"}, {}, {f"{SERVICE}#metadata.annotations": {"a": "b"}}),
    ("server.startupProbe", PROBE, {}, {f"{SERVER_BOX}.startupProbe.httpGet.path": "/elsewhere"}),
    ("server.livenessProbe", PROBE, {}, {f"{SERVER_BOX}.livenessProbe.periodSeconds": 7}),
    ("server.readinessProbe", PROBE, {}, {f"{SERVER_BOX}.readinessProbe.periodSeconds": 7}),
    ("server.tolerations", TAINTS, {}, {f"{SERVER_POD}.tolerations": TAINTS}),
    ("server.nodeSelector", {"pool": "infra"}, {}, {f"{SERVER_POD}.nodeSelector.pool": "infra"}),
    ("server.affinity", AFFINITY, {}, {f"{SERVER_POD}.affinity": AFFINITY}),
    ("server.topologySpreadConstraints", SPREAD, {}, {f"{SERVER_POD}.topologySpreadConstraints": SPREAD}),
    ("server.priorityClassName", "high", {}, {f"{SERVER_POD}.priorityClassName": "high"}),
    ("server.podAnnotations", {"a": "b"}, {}, {f"{SERVER}#spec.template.metadata.annotations.a": "b"}),
    ("server.podLabels", {"a": "b"}, {}, {f"{SERVER}#spec.template.metadata.labels.a": "b"}),
    ("server.podSecurityContext", {"runAsUser": 7}, {}, {f"{SERVER_POD}.securityContext.runAsUser": 7}),
    ("server.securityContext", {"runAsUser": 7}, {}, {f"{SERVER_BOX}.securityContext.runAsUser": 7}),
    ("server.extraEnv", ENV, {}, {f"{SERVER_BOX}.env.[NO_PROXY].value": ".svc"}),
    ("server.extraArgs", ["--x"], {}, {f"{SERVER_BOX}.args": ["server", "--x"]}),
    ("server.extraVolumes", VOLUMES, {}, {f"{SERVER_POD}.volumes": VOLUMES}),
    ("server.extraVolumeMounts", MOUNTS, {"server.extraVolumes": VOLUMES}, {f"{SERVER_BOX}.volumeMounts": MOUNTS}),
    (
        "config.logLevel",
        "debug",
        {},
        {f"{box}.env.[PULLTRACE_LOG_LEVEL].value": "debug" for box in (AGENT_BOX, SERVER_BOX)},
    ),
    (
        "config.watchNamespaces",
        "default, shop",
        {},
        {
            f"{SERVER_BOX}.env.[PULLTRACE_WATCH_NAMESPACES].value": "default,shop",
            "ClusterRole/pulltrace-pod-reader": None,
            "ClusterRoleBinding/pulltrace-pod-reader": None,
            "Role/pulltrace-pod-reader#metadata.namespace": "default",
            "Role/shop/pulltrace-pod-reader#rules.0.verbs": ["list", "watch"],
            "RoleBinding/shop/pulltrace-pod-reader#roleRef.kind": "Role",
        },
    ),
    ("config.historyTTL", "1h30m", {}, {f"{SERVER_BOX}.env.[PULLTRACE_HISTORY_TTL].value": "1h30m"}),
    ("config.reportInterval", "500ms", {}, {f"{AGENT_BOX}.env.[PULLTRACE_REPORT_INTERVAL].value": "500ms"}),
    ("config.heartbeatInterval", "5s", {}, {f"{AGENT_BOX}.env.[PULLTRACE_HEARTBEAT_INTERVAL].value": "5s"}),
    ("config.stallTimeout", "1m", {}, {f"{SERVER_BOX}.env.[PULLTRACE_STALL_TIMEOUT].value": "1m"}),
    (
        "server.openTelemetry.endpoint",
        "http://collector:4318",
        {},
        {f"{SERVER_BOX}.env.[OTEL_EXPORTER_OTLP_ENDPOINT].value": "http://collector:4318"},
    ),
    ("config.corsOrigin", "https://a.org", {}, {f"{SERVER_BOX}.env.[PULLTRACE_CORS_ORIGIN].value": "https://a.org"}),
    ("ingress.enabled", True, {"ingress.hosts": HOSTS}, {"Ingress/pulltrace#kind": "Ingress"}),
    ("ingress.className", "nginx", INGRESS, {"Ingress/pulltrace#spec.ingressClassName": "nginx"}),
    ("ingress.annotations", {"a": "b"}, INGRESS, {"Ingress/pulltrace#metadata.annotations": {"a": "b"}}),
    (
        "ingress.hosts",
        [{"host": "a.example.org", "paths": [{"path": "/pulls", "pathType": "Exact"}]}, {"host": "b.example.org"}],
        {"ingress.enabled": True},
        {
            "Ingress/pulltrace#spec.rules.0.http.paths.0.path": "/pulls",
            "Ingress/pulltrace#spec.rules.0.http.paths.0.pathType": "Exact",
            "Ingress/pulltrace#spec.rules.1.http.paths.0.path": "/",
            "Ingress/pulltrace#spec.rules.1.http.paths.0.pathType": "Prefix",
            "Ingress/pulltrace#spec.rules.1.http.paths.0.backend.service": {
                "name": "pulltrace-server",
                "port": {"name": "http"},
            },
        },
    ),
    ("ingress.tls", [{"secretName": "t"}], INGRESS, {"Ingress/pulltrace#spec.tls": [{"secretName": "t"}]}),
    ("httpRoute.enabled", True, ROUTE, {"HTTPRoute/pulltrace#spec.rules.0.backendRefs.0.name": "pulltrace-server"}),
    ("httpRoute.parentRefs", GATEWAY, ROUTE, {"HTTPRoute/pulltrace#spec.parentRefs": GATEWAY}),
    ("httpRoute.hostnames", ["a.example.org"], ROUTE, {"HTTPRoute/pulltrace#spec.hostnames": ["a.example.org"]}),
    (
        "httpRoute.path",
        "/pulls",
        ROUTE,
        {
            "HTTPRoute/pulltrace#spec.rules.0.matches.0.path.value": "/pulls",
            "HTTPRoute/pulltrace#spec.rules.0.filters.0.urlRewrite.path.replacePrefixMatch": "/",
            "HTTPRoute/pulltrace#spec.rules.1.filters.0.requestRedirect.path.replaceFullPath": "/pulls/",
        },
    ),
    ("httpRoute.annotations", {"a": "b"}, ROUTE, {"HTTPRoute/pulltrace#metadata.annotations": {"a": "b"}}),
    (
        "httpRoute.filters",
        [{"type": "ExtensionRef"}],
        ROUTE,
        {"HTTPRoute/pulltrace#spec.rules.0.filters": [{"type": "ExtensionRef"}]},
    ),
    ("networkPolicy.enabled", True, {}, {"NetworkPolicy/pulltrace-server#spec.ingress.0.ports.0.port": 8080}),
    (
        "networkPolicy.allowedNamespaces",
        ["web"],
        POLICY,
        {
            "NetworkPolicy/pulltrace-server#spec.ingress.1.from.0.namespaceSelector.matchLabels": {
                "kubernetes.io/metadata.name": "web"
            }
        },
    ),
    (
        "networkPolicy.allowMetricsScrape",
        True,
        POLICY,
        {
            "NetworkPolicy/pulltrace-server#spec.ingress.1.ports.0.port": 9090,
            "NetworkPolicy/pulltrace-server#spec.ingress.1.from": [{"namespaceSelector": {}}],
        },
    ),
    (
        "networkPolicy.prometheusNamespace",
        "mon",
        {**POLICY, "networkPolicy.allowMetricsScrape": True},
        {
            "NetworkPolicy/pulltrace-server#spec.ingress.1.from.0.namespaceSelector.matchLabels": {
                "kubernetes.io/metadata.name": "mon"
            }
        },
    ),
    ("metrics.serviceMonitor.enabled", True, {}, {"ServiceMonitor/pulltrace-server#spec.endpoints.0.port": "metrics"}),
    (
        "metrics.serviceMonitor.labels",
        {"release": "kps"},
        MONITOR,
        {"ServiceMonitor/pulltrace-server#metadata.labels.release": "kps"},
    ),
    (
        "metrics.serviceMonitor.interval",
        "15s",
        MONITOR,
        {"ServiceMonitor/pulltrace-server#spec.endpoints.0.interval": "15s"},
    ),
    (
        "metrics.serviceMonitor.scrapeTimeout",
        "9s",
        MONITOR,
        {"ServiceMonitor/pulltrace-server#spec.endpoints.0.scrapeTimeout": "9s"},
    ),
    (
        "metrics.serviceMonitor.metricRelabelings",
        RELABEL,
        MONITOR,
        {"ServiceMonitor/pulltrace-server#spec.endpoints.0.metricRelabelings": RELABEL},
    ),
    (
        "metrics.serviceMonitor.relabelings",
        RELABEL,
        MONITOR,
        {"ServiceMonitor/pulltrace-server#spec.endpoints.0.relabelings": RELABEL},
    ),
    ("metrics.prometheusRule.enabled", True, {}, {f"{RULES}.0.alert": "PulltraceDown"}),
    (
        "metrics.prometheusRule.labels",
        {"release": "kps"},
        RULE,
        {"PrometheusRule/pulltrace#metadata.labels.release": "kps"},
    ),
    ("metrics.prometheusRule.alertLabels", {"team": "p"}, RULE, {f"{RULES}.0.labels.team": "p"}),
    ("metrics.prometheusRule.disabled", ["PulltraceDown"], RULE, {f"{RULES}.0.alert": "PulltraceAgentLost"}),
    ("metrics.dashboard.enabled", True, {}, {"ConfigMap/pulltrace-dashboard#metadata.namespace": "pulltrace"}),
    (
        "metrics.dashboard.namespace",
        "grafana",
        DASHBOARD,
        {"ConfigMap/pulltrace-dashboard#metadata.namespace": "grafana"},
    ),
    (
        "metrics.dashboard.labels",
        {"grafana_dashboard": "yes"},
        DASHBOARD,
        {"ConfigMap/pulltrace-dashboard#metadata.labels.grafana_dashboard": "yes"},
    ),
    (
        "metrics.dashboard.annotations",
        {"grafana_folder": "Nodes"},
        DASHBOARD,
        {"ConfigMap/pulltrace-dashboard#metadata.annotations": {"grafana_folder": "Nodes"}},
    ),
]


def of_a_half(half: str, kind: str) -> list[tuple[str, Any, dict[str, Any], dict[str, Any]]]:
    """Cases of values that both the agent and the server have."""
    pod = f"{kind}/pulltrace-{half}#spec.template.spec"
    box = f"{pod}.containers.[pulltrace-{half}]"
    vpa = f"VerticalPodAutoscaler/pulltrace-{half}#spec"
    policy = f"{vpa}.resourcePolicy.containerPolicies.0"
    scaled = {f"{half}.verticalPodAutoscaler.enabled": True}
    account = f"{half}.serviceAccount"
    return [
        (
            f"{account}.create",
            False,
            {},
            {f"ServiceAccount/pulltrace-{half}": None, f"{pod}.serviceAccountName": "default"},
        ),
        (
            f"{account}.name",
            "mine",
            {},
            {"ServiceAccount/mine#kind": "ServiceAccount", f"{pod}.serviceAccountName": "mine"},
        ),
        (
            f"{account}.annotations",
            {"a": "b"},
            {},
            {f"ServiceAccount/pulltrace-{half}#metadata.annotations": {"a": "b"}},
        ),
        (f"{half}.revisionHistoryLimit", 0, {}, {f"{kind}/pulltrace-{half}#spec.revisionHistoryLimit": 0}),
        (f"{half}.annotations", {"a": "b"}, {}, {f"{kind}/pulltrace-{half}#metadata.annotations": {"a": "b"}}),
        (f"{half}.dnsPolicy", "Default", {}, {f"{pod}.dnsPolicy": "Default"}),
        (f"{half}.dnsConfig", {"searches": ["a.org"]}, {}, {f"{pod}.dnsConfig": {"searches": ["a.org"]}}),
        (f"{half}.hostAliases", ALIASES, {}, {f"{pod}.hostAliases": ALIASES}),
        (f"{half}.runtimeClassName", "kata", {}, {f"{pod}.runtimeClassName": "kata"}),
        (f"{half}.terminationGracePeriodSeconds", 0, {}, {f"{pod}.terminationGracePeriodSeconds": 0}),
        (f"{half}.lifecycle", HOOK, {}, {f"{box}.lifecycle": HOOK}),
        (f"{half}.extraEnvFrom", FROM, {}, {f"{box}.envFrom": FROM}),
        (f"{half}.initContainers", BOX, {}, {f"{pod}.initContainers": BOX}),
        (f"{half}.extraContainers", BOX, {}, {f"{pod}.containers.[box]": BOX[0]}),
        (f"{half}.verticalPodAutoscaler.enabled", True, {}, {f"{vpa}.targetRef.kind": kind}),
        (f"{half}.verticalPodAutoscaler.updateMode", "Initial", scaled, {f"{vpa}.updatePolicy.updateMode": "Initial"}),
        (f"{half}.verticalPodAutoscaler.minReplicas", 3, scaled, {f"{vpa}.updatePolicy.minReplicas": 3}),
        (
            f"{half}.verticalPodAutoscaler.controlledResources",
            ["memory"],
            scaled,
            {f"{policy}.controlledResources": ["memory"]},
        ),
        (
            f"{half}.verticalPodAutoscaler.controlledValues",
            "RequestsOnly",
            scaled,
            {f"{policy}.controlledValues": "RequestsOnly"},
        ),
        (
            f"{half}.verticalPodAutoscaler.recommenders",
            [{"name": "m"}],
            scaled,
            {f"{vpa}.recommenders": [{"name": "m"}]},
        ),
        (f"{half}.verticalPodAutoscaler.minAllowed", {"cpu": "5m"}, scaled, {f"{policy}.minAllowed": {"cpu": "5m"}}),
        (f"{half}.verticalPodAutoscaler.maxAllowed", {"cpu": "1"}, scaled, {f"{policy}.maxAllowed": {"cpu": "1"}}),
    ]


CASES += of_a_half("agent", "DaemonSet") + of_a_half("server", "Deployment")
CASES += [
    (
        "global.imageRegistry",
        "mirror.example.org:5000/ghcr",
        {"agent.image.repository": "org/agent"},
        {
            f"{AGENT_BOX}.image": "mirror.example.org:5000/ghcr/org/agent:0.2.0",
            f"{SERVER_BOX}.image": "mirror.example.org:5000/ghcr/d44b/pulltrace-server:0.2.0",
            f"{TEST}#spec.containers.0.image": "mirror.example.org:5000/ghcr/d44b/pulltrace-server:0.2.0",
        },
    ),
    (
        "global.imagePullSecrets",
        ["a", {"name": "b"}],
        {"imagePullSecrets": [{"name": "b"}]},
        {
            f"{place}.imagePullSecrets": [{"name": "b"}, {"name": "a"}]
            for place in (AGENT_POD, SERVER_POD, f"{TEST}#spec")
        },
    ),
    (
        "rbac.create",
        False,
        {},
        {f"{kind}/pulltrace-{name}": None for kind in ROLES for name in ("pod-reader", "token-reviewer")},
    ),
    ("agent.livenessProbe", {"exec": {"command": ["true"]}}, {}, {f"{AGENT_BOX}.livenessProbe.exec.command": ["true"]}),
    (
        "rbac.extraRules",
        [{"apiGroups": ["a.org"], "resources": ["b"], "verbs": ["get"]}],
        {},
        {
            "ClusterRole/pulltrace-server-extra#rules.0.verbs": ["get"],
            "ClusterRoleBinding/pulltrace-server-extra#subjects.0.name": "pulltrace-server",
        },
    ),
    ("server.hostUsers", False, {}, {f"{SERVER_POD}.hostUsers": False}),
    ("server.service.clusterIP", "10.96.0.9", {}, {f"{SERVICE}#spec.clusterIP": "10.96.0.9"}),
    ("server.service.internalTrafficPolicy", "Local", {}, {f"{SERVICE}#spec.internalTrafficPolicy": "Local"}),
    (
        "networkPolicy.metricsPort",
        8443,
        {**POLICY, "networkPolicy.allowMetricsScrape": True},
        {"NetworkPolicy/pulltrace-server#spec.ingress.1.ports.0.port": 8443},
    ),
    ("metrics.serviceMonitor.extraEndpoint", {"proxyUrl": "http://a"}, MONITOR, {f"{ENDPOINT}.proxyUrl": "http://a"}),
    ("metrics.serviceMonitor.extraSpec", {"labelLimit": 30}, MONITOR, {f"{SERVICE_MONITOR}#spec.labelLimit": 30}),
    (
        "metrics.dashboard.grafanaOperator.enabled",
        True,
        DASHBOARD,
        {"GrafanaDashboard/pulltrace#spec.configMapRef.name": "pulltrace-dashboard"},
    ),
    (
        "metrics.dashboard.grafanaOperator.matchLabels",
        {"a": "b"},
        OPERATOR,
        {"GrafanaDashboard/pulltrace#spec.instanceSelector.matchLabels": {"a": "b"}},
    ),
    (
        "metrics.dashboard.grafanaOperator.folder",
        "Nodes",
        OPERATOR,
        {"GrafanaDashboard/pulltrace#spec.folder": "Nodes"},
    ),
    (
        "metrics.dashboard.grafanaOperator.allowCrossNamespaceImport",
        False,
        OPERATOR,
        {"GrafanaDashboard/pulltrace#spec.allowCrossNamespaceImport": False},
    ),
    ("agent.hostNetwork", True, {}, {f"{AGENT_POD}.hostNetwork": True}),
    ("server.service.labels", {"a": "b"}, {}, {f"{SERVICE}#metadata.labels.a": "b"}),
    ("server.service.nodePort", 30080, NODE_PORTS, {f"{SERVICE}#spec.ports.[http].nodePort": 30080}),
    ("server.service.metricsNodePort", 30090, NODE_PORTS, {f"{SERVICE}#spec.ports.[metrics].nodePort": 30090}),
    ("server.service.externalTrafficPolicy", "Local", EXPOSED, {f"{SERVICE}#spec.externalTrafficPolicy": "Local"}),
    ("server.service.loadBalancerIP", "192.0.2.1", EXPOSED, {f"{SERVICE}#spec.loadBalancerIP": "192.0.2.1"}),
    ("server.service.loadBalancerClass", "a.org/lb", EXPOSED, {f"{SERVICE}#spec.loadBalancerClass": "a.org/lb"}),
    (
        "server.service.loadBalancerSourceRanges",
        ["10.0.0.0/8"],
        EXPOSED,
        {f"{SERVICE}#spec.loadBalancerSourceRanges": ["10.0.0.0/8"]},
    ),
    ("server.service.ipFamilyPolicy", "PreferDualStack", {}, {f"{SERVICE}#spec.ipFamilyPolicy": "PreferDualStack"}),
    ("server.service.ipFamilies", ["IPv6"], {}, {f"{SERVICE}#spec.ipFamilies": ["IPv6"]}),
    ("server.service.trafficDistribution", "PreferClose", {}, {f"{SERVICE}#spec.trafficDistribution": "PreferClose"}),
    ("server.service.extraPorts", LOGIN, {}, {f"{SERVICE}#spec.ports.[login]": LOGIN[0]}),
    (
        "ingress.servicePort",
        "login",
        {**INGRESS, "server.service.extraPorts": LOGIN},
        {"Ingress/pulltrace#spec.rules.0.http.paths.0.backend.service.port.name": "login"},
    ),
    ("httpRoute.servicePort", 4180, ROUTE, {"HTTPRoute/pulltrace#spec.rules.0.backendRefs.0.port": 4180}),
    (
        "networkPolicy.allowedPorts",
        [4180],
        {**POLICY, "networkPolicy.allowedNamespaces": ["web"]},
        {"NetworkPolicy/pulltrace-server#spec.ingress.1.ports": [{"port": 4180, "protocol": "TCP"}]},
    ),
    (
        "networkPolicy.egress.enabled",
        True,
        POLICY,
        {
            f"NetworkPolicy/pulltrace-{pod}#spec.policyTypes": ["Ingress", "Egress"]
            for pod in ("agent", "server", "test")
        },
    ),
    (
        "networkPolicy.extraServerRules",
        RULES_IN,
        {"networkPolicy.enabled": True},
        {"NetworkPolicy/pulltrace-server#spec.ingress.1": RULES_IN[0]},
    ),
    (
        "networkPolicy.egress.dnsPorts",
        [5353],
        EGRESS,
        {"NetworkPolicy/pulltrace-agent#spec.egress.0.ports.1.port": 5353},
    ),
    ("networkPolicy.egress.apiServerPorts", [16443], EGRESS, {f"{API_RULE}.ports.0.port": 16443}),
    (
        "networkPolicy.egress.apiServerCIDRs",
        ["192.0.2.0/24"],
        EGRESS,
        {f"{API_RULE}.to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
    ),
    (
        "networkPolicy.egress.extraServerRules",
        RULES_OUT,
        EGRESS,
        {"NetworkPolicy/pulltrace-server#spec.egress.2": RULES_OUT[0]},
    ),
    (
        "networkPolicy.egress.extraAgentRules",
        RULES_OUT,
        EGRESS,
        {"NetworkPolicy/pulltrace-agent#spec.egress.2": RULES_OUT[0]},
    ),
    ("metrics.serviceMonitor.namespace", "mon", MONITOR, {f"{SERVICE_MONITOR}#metadata.namespace": "mon"}),
    ("metrics.serviceMonitor.annotations", {"a": "b"}, MONITOR, {f"{SERVICE_MONITOR}#metadata.annotations.a": "b"}),
    ("metrics.serviceMonitor.jobLabel", "app", MONITOR, {f"{SERVICE_MONITOR}#spec.jobLabel": "app"}),
    ("metrics.serviceMonitor.targetLabels", ["app"], MONITOR, {f"{SERVICE_MONITOR}#spec.targetLabels": ["app"]}),
    ("metrics.serviceMonitor.sampleLimit", 9000, MONITOR, {f"{SERVICE_MONITOR}#spec.sampleLimit": 9000}),
    ("metrics.serviceMonitor.port", "login", MONITOR, {f"{ENDPOINT}.port": "login"}),
    ("metrics.serviceMonitor.scheme", "https", MONITOR, {f"{ENDPOINT}.scheme": "https"}),
    ("metrics.serviceMonitor.honorLabels", True, MONITOR, {f"{ENDPOINT}.honorLabels": True}),
    (
        "metrics.serviceMonitor.tlsConfig",
        {"insecureSkipVerify": True},
        MONITOR,
        {f"{ENDPOINT}.tlsConfig.insecureSkipVerify": True},
    ),
    ("metrics.serviceMonitor.authorization", {"type": "Bearer"}, MONITOR, {f"{ENDPOINT}.authorization.type": "Bearer"}),
]
CHANGED_BY_TEXT = {"metrics.prometheusRule.slowRegistryBytesPerSecond"}


@pytest.mark.parametrize(("path", "value", "also", "expected"), [pytest.param(*case, id=case[0]) for case in CASES])
def test_a_value_has_its_effect(path: str, value: Any, also: dict[str, Any], expected: dict[str, Any]) -> None:
    rendered = render(values(also, {path: value}))
    assert {place: rendered.at(place) for place in expected} == expected


def test_the_limit_of_a_slow_registry_is_in_its_alert() -> None:
    rules = render(values(RULE, {"metrics.prometheusRule.slowRegistryBytesPerSecond": 250000})).at(RULES)
    slow = next(rule for rule in rules if rule["alert"] == "PulltraceRegistrySlow")
    assert "< 250000" in slow["expr"]


def test_every_value_has_a_case() -> None:
    documented = set(re.findall(r"^\| `([\w.]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE))
    assert documented == {case[0] for case in CASES} | CHANGED_BY_TEXT
