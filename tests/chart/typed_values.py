"""Valid values that use every field of the Kubernetes types that the chart copies into its objects."""

from typing import Any

from tests.chart.rendering import values

PROBES = {
    "startupProbe": {"exec": {"command": ["test"]}, "successThreshold": 1, "terminationGracePeriodSeconds": 5},
    "livenessProbe": {
        "httpGet": {
            "path": "/live",
            "port": "web",
            "host": "localhost",
            "scheme": "HTTPS",
            "httpHeaders": [{"name": "X-Probe", "value": "1"}],
        },
        "initialDelaySeconds": 1,
        "periodSeconds": 2,
        "timeoutSeconds": 1,
        "failureThreshold": 3,
    },
    "readinessProbe": {"grpc": {"port": 4180, "service": "ready"}, "successThreshold": 2},
}
ENV: list[dict[str, Any]] = [
    {"name": "A", "value": "b"},
    {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "more", "key": "a.b", "optional": True}}},
    {"name": "SETTING", "valueFrom": {"configMapKeyRef": {"name": "more", "key": "c"}}},
    {"name": "POD", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels['a']"}}},
    {
        "name": "MEMORY",
        "valueFrom": {"resourceFieldRef": {"containerName": "box", "resource": "limits.memory", "divisor": "1Mi"}},
    },
]
ENV_FROM = [{"prefix": "A_", "secretRef": {"name": "more", "optional": True}}, {"configMapRef": {"name": "more"}}]
LIFECYCLE = {
    "postStart": {"tcpSocket": {"port": "web", "host": "localhost"}},
    "preStop": {"sleep": {"seconds": 3}},
}
SECURITY = {
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "procMount": "Default",
    "seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"},
    "appArmorProfile": {"type": "Localhost", "localhostProfile": "b"},
    "seLinuxOptions": {"user": "a", "role": "b", "type": "c", "level": "s0"},
    "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
}
POD_SECURITY = {
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "fsGroup": 1000,
    "runAsNonRoot": True,
    "supplementalGroups": [1001],
    "supplementalGroupsPolicy": "Strict",
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
    "appArmorProfile": {"type": "RuntimeDefault"},
    "seLinuxOptions": {"level": "s0"},
    "seLinuxChangePolicy": "Recursive",
    "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
}
RESOURCES = {
    "limits": {"cpu": "1", "memory": "64Mi", "example.org/gpu": 1},
    "requests": {"cpu": "100m", "memory": "32Mi", "ephemeral-storage": "1Gi", "example.org/gpu": 1},
}
MOUNTS = [
    {"name": "scratch", "mountPath": "/scratch", "subPathExpr": "$(A)", "mountPropagation": "HostToContainer"},
    {"name": "image", "mountPath": "/image", "readOnly": True, "recursiveReadOnly": "IfPossible", "subPath": "a"},
]
BOX: dict[str, Any] = {
    "name": "box",
    "image": "example.org/box:1",
    "imagePullPolicy": "Always",
    "command": ["box"],
    "args": ["--all"],
    "workingDir": "/tmp",
    "env": ENV[:1],
    "envFrom": ENV_FROM[:1],
    "ports": [{"name": "web", "containerPort": 4180, "hostPort": 4181, "hostIP": "192.0.2.1", "protocol": "TCP"}],
    "resources": {"limits": {"cpu": 1, "example.org/gpu": 1}, "requests": {"example.org/gpu": 1}},
    "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
    "volumeMounts": MOUNTS[:1],
    **PROBES,
    "lifecycle": LIFECYCLE,
    "securityContext": SECURITY,
    "terminationMessagePath": "/tmp/last",
    "terminationMessagePolicy": "FallbackToLogsOnError",
    "stdin": True,
    "stdinOnce": True,
    "tty": True,
}
SIDECAR = {"name": "side", "image": "example.org/side:1", "restartPolicy": "Always", "lifecycle": LIFECYCLE}
FIRST = {"name": "first", "image": "example.org/first:1", "volumeMounts": MOUNTS[1:]}
CLAIM = {
    "metadata": {"labels": {"a": "b"}, "annotations": {"a": "b"}},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}, "limits": {"storage": "2Gi"}},
        "storageClassName": "fast",
        "volumeMode": "Filesystem",
        "volumeName": "one",
        "selector": {"matchLabels": {"a": "b"}},
        "volumeAttributesClassName": "gold",
    },
}
ITEMS = [{"key": "a", "path": "b/c", "mode": 256}]
FILES = [
    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}, "mode": 292},
    {"path": "cpu", "resourceFieldRef": {"containerName": "box", "resource": "requests.cpu", "divisor": "1m"}},
]
SOURCES: list[dict[str, Any]] = [
    {"secret": {"name": "more", "items": ITEMS, "optional": True}},
    {"configMap": {"name": "more", "items": [{"key": "a", "path": "d"}]}},
    {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    {"serviceAccountToken": {"audience": "a", "expirationSeconds": 600, "path": "token"}},
    {
        "clusterTrustBundle": {
            "signerName": "example.org/signer",
            "labelSelector": {"matchLabels": {"a": "b"}},
            "optional": True,
            "path": "ca",
        }
    },
    {"clusterTrustBundle": {"name": "mine", "path": "mine"}},
]
VOLUMES: list[dict[str, Any]] = [
    {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    {"name": "image", "image": {"reference": "example.org/files:1", "pullPolicy": "Always"}},
    {"name": "config", "configMap": {"name": "more", "items": ITEMS, "defaultMode": 292, "optional": True}},
    {"name": "secret", "secret": {"secretName": "more", "items": ITEMS, "defaultMode": 256, "optional": False}},
    {"name": "host", "hostPath": {"path": "/var/lib/more", "type": "DirectoryOrCreate"}},
    {"name": "claim", "persistentVolumeClaim": {"claimName": "more", "readOnly": True}},
    {"name": "made", "ephemeral": {"volumeClaimTemplate": CLAIM}},
    {
        "name": "csi",
        "csi": {
            "driver": "secrets.example.org",
            "readOnly": True,
            "fsType": "ext4",
            "volumeAttributes": {"a": "b"},
            "nodePublishSecretRef": {"name": "more"},
        },
    },
    {"name": "nfs", "nfs": {"server": "nfs.example.org", "path": "/a", "readOnly": True}},
    {"name": "pod", "downwardAPI": {"items": FILES, "defaultMode": 292}},
    {"name": "all", "projected": {"sources": SOURCES, "defaultMode": 292}},
]
SELECTOR = {
    "matchLabels": {"a": "b"},
    "matchExpressions": [
        {"key": "c", "operator": "In", "values": ["d"]},
        {"key": "e", "operator": "Exists"},
    ],
}
TERM = {
    "topologyKey": "kubernetes.io/hostname",
    "labelSelector": SELECTOR,
    "namespaceSelector": {"matchLabels": {"a": "b"}},
    "namespaces": ["shop"],
    "matchLabelKeys": ["pod-template-hash"],
    "mismatchLabelKeys": ["tenant"],
}
PREFERRED = [{"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}}]
NODES = {
    "matchExpressions": [
        {"key": "a", "operator": "In", "values": ["b"]},
        {"key": "c", "operator": "Gt", "values": ["1"]},
    ],
    "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}],
}
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [NODES]},
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": NODES}],
    },
    "podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [TERM],
        "preferredDuringSchedulingIgnoredDuringExecution": PREFERRED,
    },
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone", "labelSelector": {}}],
        "preferredDuringSchedulingIgnoredDuringExecution": PREFERRED,
    },
}
TOLERATIONS = [
    {"key": "example.org/gpu", "operator": "Equal", "value": "a", "effect": "NoExecute", "tolerationSeconds": 5},
    {"operator": "Exists"},
]
SPREAD = [
    {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": SELECTOR,
        "minDomains": 2,
        "matchLabelKeys": ["pod-template-hash"],
        "nodeAffinityPolicy": "Honor",
        "nodeTaintsPolicy": "Ignore",
    }
]
PEERS: list[dict[str, Any]] = [
    {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
    {"namespaceSelector": SELECTOR, "podSelector": {"matchLabels": {"a": "b"}}},
]
PORTS: list[dict[str, Any]] = [{"port": 8080, "endPort": 8090, "protocol": "TCP"}, {"port": "web", "protocol": "UDP"}]
ROLE_RULES = [
    {"apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"], "verbs": ["get"]},
    {"nonResourceURLs": ["/healthz"], "verbs": ["get"]},
]
BOTH = {
    "extraContainers": [BOX],
    "initContainers": [SIDECAR, FIRST],
    "extraVolumes": VOLUMES,
    "extraVolumeMounts": MOUNTS,
    "extraEnv": ENV,
    "extraEnvFrom": ENV_FROM,
    "lifecycle": {"preStop": {"httpGet": {"port": 8080}}, "postStart": {"exec": {"command": ["true"]}}},
    "resources": RESOURCES,
    "affinity": AFFINITY,
    "tolerations": TOLERATIONS,
    "podSecurityContext": POD_SECURITY,
    "securityContext": {"runAsUser": 0, "capabilities": {"drop": ["ALL"]}},
    "dnsPolicy": "None",
    "dnsConfig": {
        "nameservers": ["192.0.2.53"],
        "searches": ["example.org"],
        "options": [{"name": "ndots", "value": "1"}],
    },
    "hostAliases": [{"ip": "192.0.2.2", "hostnames": ["a.example.org"]}],
}
VALID = values(
    {
        "rbac": {"extraRules": ROLE_RULES},
        "agent": {**BOTH, "livenessProbe": PROBES["livenessProbe"] | {"httpGet": {"port": 1}}},
        "server": {**BOTH, "topologySpreadConstraints": SPREAD},
        "networkPolicy": {
            "enabled": True,
            "extraServerRules": [{"from": PEERS, "ports": PORTS}],
            "egress": {
                "enabled": True,
                "extraServerRules": [{"to": PEERS, "ports": PORTS}],
                "extraAgentRules": [{"to": PEERS, "ports": PORTS}],
            },
        },
    }
)
