"""Test cases for the values that apply to all objects, and for the access, network and metrics values."""

from tests.chart.places import (
    AGENT,
    AGENT_BOX,
    AGENT_POD,
    GATEWAY,
    LOGIN,
    ROUTE,
    RULE,
    RULES,
    SECRET,
    SERVER,
    SERVER_BOX,
    SERVER_POD,
    SERVICE,
    TEST,
    Case,
)

HOSTS = [{"host": "pulls.example.org"}]
EGRESS = {"networkPolicy.enabled": True, "networkPolicy.egress.enabled": True}
FILTERS = [{"type": "ExtensionRef", "extensionRef": {"group": "a.org", "kind": "Login", "name": "b"}}]
RULES_IN = [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 8080}]}]
RULES_OUT = [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]
RELABEL = [{"action": "labeldrop", "regex": "pod"}]
MONITOR = {"metrics.serviceMonitor.enabled": True}
DASHBOARD = {"metrics.dashboard.enabled": True}
OPERATOR = {**DASHBOARD, "metrics.dashboard.grafanaOperator.enabled": True}
INGRESS = {"ingress.enabled": True, "ingress.hosts": HOSTS}
POLICY = {"networkPolicy.enabled": True}
ROLES = ("ClusterRole", "ClusterRoleBinding")
API_RULE = "NetworkPolicy/pulltrace-server#spec.egress.1"
SERVICE_MONITOR = "ServiceMonitor/pulltrace-server"
ENDPOINT = f"{SERVICE_MONITOR}#spec.endpoints.0"


CASES: list[Case] = [
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
    (
        "rbac.extraRules",
        [{"apiGroups": ["a.org"], "resources": ["b"], "verbs": ["get"]}],
        {},
        {
            "ClusterRole/pulltrace-server-extra#rules.0.verbs": ["get"],
            "ClusterRoleBinding/pulltrace-server-extra#subjects.0.name": "pulltrace-server",
        },
    ),
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
        FILTERS,
        ROUTE,
        {"HTTPRoute/pulltrace#spec.rules.0.filters": FILTERS},
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
    (
        "networkPolicy.metricsPort",
        8443,
        {**POLICY, "networkPolicy.allowMetricsScrape": True},
        {"NetworkPolicy/pulltrace-server#spec.ingress.1.ports.0.port": 8443},
    ),
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
