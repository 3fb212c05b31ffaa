"""Test cases for the values of the workloads: pods, agent settings and server settings."""

from tests.chart.places import (
    AGENT,
    AGENT_BOX,
    AGENT_POD,
    LOGIN,
    ROUTE,
    SECRET,
    SERVER,
    SERVER_BOX,
    SERVER_POD,
    SERVICE,
    TEST,
    Case,
)

DIGEST = "sha256:" + "ab" * 32
TAINTS = [{"key": "gpu", "operator": "Exists"}]
AFFINITY = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}}
BOX = [{"name": "box", "image": "example.org/box:1"}]
FROM = [{"secretRef": {"name": "more"}}]
HOOK = {"preStop": {"sleep": {"seconds": 1}}}
ALIASES = [{"ip": "192.0.2.1", "hostnames": ["a.example.org"]}]
EXPOSED = {"server.service.type": "LoadBalancer", "server.service.exposureAcknowledged": True}
NODE_PORTS = {"server.service.type": "NodePort", "server.service.exposureAcknowledged": True}
ENV = [{"name": "NO_PROXY", "value": ".svc"}]
VOLUMES = [{"name": "more", "emptyDir": {}}]
MOUNTS = [{"name": "more", "mountPath": "/more"}]
LIMITS = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}
PROBE = {"httpGet": {"path": "/elsewhere", "port": "http"}, "periodSeconds": 7}
SPREAD = [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]


def of_a_half(half: str, kind: str) -> list[Case]:
    """Return test cases for the values that exist for both the agent and the server. ``half`` selects the agent or the
    server.
    """
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


CASES: list[Case] = [
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
    ("agent.livenessProbe", {"exec": {"command": ["true"]}}, {}, {f"{AGENT_BOX}.livenessProbe.exec.command": ["true"]}),
    ("agent.hostNetwork", True, {}, {f"{AGENT_POD}.hostNetwork": True}),
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
    ("server.hostUsers", False, {}, {f"{SERVER_POD}.hostUsers": False}),
    ("server.service.clusterIP", "10.96.0.9", {}, {f"{SERVICE}#spec.clusterIP": "10.96.0.9"}),
    ("server.service.internalTrafficPolicy", "Local", {}, {f"{SERVICE}#spec.internalTrafficPolicy": "Local"}),
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
]
CASES += of_a_half("agent", "DaemonSet") + of_a_half("server", "Deployment")
