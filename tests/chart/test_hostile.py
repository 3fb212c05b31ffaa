"""Invalid values: the chart rejects each of them, and accepts no value that a real API server rejects."""

import asyncio
import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chart.rendering import CHART, HelmRenderError, HelmValuesError, Rendered, helm, render, values
from tests.chart.test_cluster import collection, make_foreign_kinds, make_namespaces, plurals
from tests.real.apiserver import APIError, APIServer

pytestmark = pytest.mark.chart

INGRESS = {"ingress": {"enabled": True, "hosts": [{"host": "a.example.org"}]}}
ROUTE = {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}}
POLICY = {"networkPolicy": {"enabled": True, "egress": {"enabled": True}}}
MONITOR = {"metrics": {"serviceMonitor": {"enabled": True}}}
DASHBOARD = {"metrics": {"dashboard": {"enabled": True}}}
EXPOSED = {"server": {"service": {"type": "LoadBalancer", "exposureAcknowledged": True}}}
VOLUMES = [{"name": "more", "emptyDir": {}}]
BOX = {"name": "box", "image": "example.org/box:1"}
INJECTED = "high\n      hostNetwork: true"
LONG = "a" * 64

Case = tuple[str, Any, dict[str, Any]]


def host(name: str) -> list[dict[str, str]]:
    return [{"host": name}]


def paths(path: str) -> list[dict[str, Any]]:
    return [{"host": "a.example.org", "paths": [{"path": path}]}]


def excepting(cidr: str, part: str) -> list[dict[str, Any]]:
    return [{"from": [{"ipBlock": {"cidr": cidr, "except": [part]}}]}]


def affinity(**expression: Any) -> dict[str, Any]:
    terms = [{"matchExpressions": [expression]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def spread(**fields: Any) -> list[dict[str, Any]]:
    return [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", **fields}]


REJECTED: list[Case] = [
    ("nameOverride", "Foo Bar", {}),
    ("nameOverride", "a" * 63, {}),
    ("nameOverride", "-a", {}),
    ("fullnameOverride", "a.b", {}),
    ("fullnameOverride", "Watch", {}),
    ("fullnameOverride", "1st", {}),
    ("fullnameOverride", "a\nb: c", {}),
    ("namespace", "Kube", {}),
    ("namespace", LONG, {}),
    ("commonLabels", {"team": "a b"}, {}),
    ("commonLabels", {"team": LONG}, {}),
    ("commonLabels", {"-team": "a"}, {}),
    ("commonLabels", {"a/b/c": "a"}, {}),
    ("commonLabels", {"Example.org/A": "b"}, {}),
    ("commonLabels", {"on": True}, {}),
    ("imagePullSecrets", [{"name": ""}], {}),
    ("imagePullSecrets", [{"name": "Reg Cred"}], {}),
    ("global.imagePullSecrets", ["Reg Cred"], {}),
    ("global.imageRegistry", "mirror example.org", {}),
    *(
        case
        for half in ("agent", "server")
        for case in (
            (f"{half}.image.repository", " example.org/a", {}),
            (f"{half}.image.repository", "example.org/a:1", {}),
            (f"{half}.image.tag", "a b", {}),
            (f"{half}.image.tag", "1\n          command: [sh]", {}),
            (f"{half}.image.digest", "sha256:1", {}),
            (f"{half}.image.pullPolicy", "Sometimes", {}),
            (f"{half}.serviceAccount.name", "Mine", {}),
            (f"{half}.serviceAccount.name", "a\nb", {}),
            (f"{half}.serviceAccount.annotations", {"a b": "c"}, {}),
            (f"{half}.priorityClassName", INJECTED, {}),
            (f"{half}.priorityClassName", "High", {}),
            (f"{half}.runtimeClassName", "Kata_1", {}),
            (f"{half}.annotations", {"a": 1}, {}),
            (f"{half}.podAnnotations", {"a/b/c": "d"}, {}),
            (f"{half}.podLabels", {"a": "-"}, {}),
            (f"{half}.nodeSelector", {"a b": "c"}, {}),
            (f"{half}.nodeSelector", {"a": "b c"}, {}),
            (f"{half}.resources", {"requests": {"cpu": "ten"}}, {}),
            (f"{half}.resources", {"requests": {"cpu": "-1"}}, {}),
            (f"{half}.resources", {"requests": {"memory": "10 Mi"}}, {}),
            (f"{half}.resources", {"requests": {"memory": "10Gi"}}, {}),
            (f"{half}.resources", {"requests": {"disk": "1"}}, {}),
            (f"{half}.resources", {"request": {"cpu": "1"}}, {}),
            (f"{half}.tolerations", [{"operator": "Equal"}], {}),
            (f"{half}.tolerations", [{"key": "a", "operator": "Exists", "value": "b"}], {}),
            (f"{half}.tolerations", [{"key": "a b", "operator": "Exists"}], {}),
            (f"{half}.tolerations", [{"key": "a", "operator": "Like"}], {}),
            (f"{half}.tolerations", [{"operator": "Exists", "effect": "NoRun"}], {}),
            (f"{half}.tolerations", [{"operator": "Exists", "tolerationSeconds": 1}], {}),
            (f"{half}.tolerations", [{"operatorr": "Exists"}], {}),
            (f"{half}.affinity", affinity(key="a", operator="In", values=[]), {}),
            (f"{half}.affinity", affinity(key="a", operator="Exists", values=["b"]), {}),
            (f"{half}.affinity", affinity(key="a", operator="Gt", values=["b"]), {}),
            (f"{half}.affinity", affinity(key="a b", operator="Exists"), {}),
            (f"{half}.affinity", affinity(key="a", operator="Is", values=["b"]), {}),
            (f"{half}.affinity", {"nodeAffinty": {}}, {}),
            (
                f"{half}.affinity",
                {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}}]}},
                {},
            ),
            (f"{half}.podSecurityContext", {"runAsUser": -1}, {}),
            (f"{half}.podSecurityContext", {"runAsRoot": True}, {}),
            (f"{half}.podSecurityContext", {"seccompProfile": {"type": "Localhost"}}, {}),
            (
                f"{half}.podSecurityContext",
                {"seccompProfile": {"type": "RuntimeDefault", "localhostProfile": "a.json"}},
                {},
            ),
            (f"{half}.podSecurityContext", {"seccompProfile": {"type": "Localhost", "localhostProfile": "../a"}}, {}),
            (f"{half}.securityContext", {"privileged": True}, {}),
            (f"{half}.securityContext", {"capabilities": {"add": ["CAP_SYS_ADMIN"]}}, {}),
            (f"{half}.securityContext", {"procMount": "Other"}, {}),
            (f"{half}.securityContext", {"readOnlyRoot": True}, {}),
            (f"{half}.dnsPolicy", "Cluster", {}),
            (f"{half}.dnsPolicy", "None", {}),
            (f"{half}.dnsConfig", {"nameservers": ["dns.example.org"]}, {}),
            (f"{half}.dnsConfig", {"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]}, {}),
            (f"{half}.dnsConfig", {"searches": ["a b"]}, {}),
            (f"{half}.hostAliases", [{"ip": "300.1.1.1", "hostnames": ["a"]}], {}),
            (f"{half}.hostAliases", [{"ip": "192.0.2.1", "hostnames": ["A b"]}], {}),
            (f"{half}.terminationGracePeriodSeconds", -1, {}),
            (f"{half}.revisionHistoryLimit", -1, {}),
            (f"{half}.extraEnv", [{"name": "A=B", "value": "c"}], {}),
            (f"{half}.extraEnv", [{"name": "", "value": "c"}], {}),
            (f"{half}.extraEnv", [{"name": "A", "value": 1}], {}),
            (f"{half}.extraEnv", [{"name": "A", "valueFrom": {"secretRef": {"name": "b"}}}], {}),
            (f"{half}.extraEnvFrom", [{"secretRef": {"name": "A b"}}], {}),
            (f"{half}.extraVolumes", [{"name": "A_b", "emptyDir": {}}], {}),
            (f"{half}.extraVolumes", [{"name": "a", "emptyDir": {}, "hostPath": {"path": "/"}}], {}),
            (f"{half}.extraVolumes", [*VOLUMES, *VOLUMES], {}),
            (f"{half}.extraVolumeMounts", [{"name": "none", "mountPath": "/a"}], {}),
            (f"{half}.extraVolumeMounts", [{"name": "more", "mountPath": ""}], {half: {"extraVolumes": VOLUMES}}),
            (
                f"{half}.extraVolumeMounts",
                [{"name": "more", "mountPath": "/a", "subPath": "../b"}],
                {half: {"extraVolumes": VOLUMES}},
            ),
            (
                f"{half}.extraVolumeMounts",
                [{"name": "more", "mountPath": "/a"}, {"name": "more", "mountPath": "/a"}],
                {half: {"extraVolumes": VOLUMES}},
            ),
            (f"{half}.extraContainers", [{"name": "a"}], {}),
            (f"{half}.extraContainers", [{**BOX, "name": "A b"}], {}),
            (f"{half}.extraContainers", [{**BOX, "ports": [{"containerPort": 0}]}], {}),
            (f"{half}.extraContainers", [{**BOX, "ports": [{"containerPort": 1, "name": "a-very-long-name"}]}], {}),
            (f"{half}.extraContainers", [BOX, BOX], {}),
            (f"{half}.initContainers", [{"image": "a"}], {}),
            (f"{half}.extraContainers", [{**BOX, "image": " a"}], {}),
            (f"{half}.extraContainers", [{**BOX, "comand": ["a"]}], {}),
            (f"{half}.extraContainers", [{**BOX, "restartPolicy": "Sometimes"}], {}),
            (f"{half}.extraContainers", [{**BOX, "livenessProbe": {"periodSeconds": 1}}], {}),
            (f"{half}.extraContainers", [{**BOX, "readinessProbe": {"exec": {"command": []}}}], {}),
            (f"{half}.extraContainers", [{**BOX, "lifecycle": {"preStop": {}}}], {}),
            (f"{half}.extraContainers", [{**BOX, "lifecycle": {"preStop": {"sleep": {"seconds": 60}}}}], {}),
            (f"{half}.extraContainers", [{**BOX, "volumeMounts": [{"name": "none", "mountPath": "/a"}]}], {}),
            (f"{half}.extraContainers", [{**BOX, "resources": {"requests": {"example.org/gpu": 1}}}], {}),
            (f"{half}.extraContainers", [{**BOX, "resources": {"claims": [{"name": "gpu"}]}}], {}),
            (f"{half}.extraContainers", [{**BOX, "ports": [{"containerPort": 1}, {"containerPort": 1}]}], {}),
            (f"{half}.initContainers", [{**BOX, "livenessProbe": {"exec": {"command": ["a"]}}}], {}),
            (f"{half}.initContainers", [{**BOX, "restartPolicy": "Never"}], {}),
            (
                f"{half}.extraEnv",
                [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                {},
            ),
            (f"{half}.extraEnv", [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.host"}}}], {}),
            (f"{half}.extraEnv", [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "b"}}}], {}),
            (f"{half}.extraEnvFrom", [{"prefix": "A_"}], {}),
            (f"{half}.extraVolumes", [{"name": "a", "emptyDirectory": {}}], {}),
            (f"{half}.extraVolumes", [{"name": "a", "emptyDir": {"sizeLimit": "big"}}], {}),
            (f"{half}.extraVolumes", [{"name": "a", "hostPath": {}}], {}),
            (f"{half}.extraVolumes", [{"name": "a", "hostPath": {"path": "/a", "type": "Folder"}}], {}),
            (f"{half}.extraVolumes", [{"name": "a", "secret": {"name": "b"}}], {}),
            (f"{half}.extraVolumes", [{"name": "a", "configMap": {"name": "b", "defaultMode": 512}}], {}),
            (
                f"{half}.extraVolumes",
                [{"name": "a", "configMap": {"name": "b", "items": [{"key": "c", "path": "/d"}]}}],
                {},
            ),
            (f"{half}.extraVolumes", [{"name": "a", "projected": {"sources": [{"serviceAccountToken": {}}]}}], {}),
            (f"{half}.extraVolumes", [{"name": "a", "csi": {}}], {}),
            (f"{half}.lifecycle", {"preStop": {"sleep": {"seconds": 3}, "exec": {"command": ["true"]}}}, {}),
            (f"{half}.lifecycle", {"preStop": {"sleep": {"seconds": 60}}}, {}),
            (f"{half}.hostAliases", [{"ip": "a:b", "hostnames": ["a"]}], {}),
            (f"{half}.resources", {"limits": {"example.org/gpu": "0.5"}}, {}),
            (f"{half}.resources", {"limits": {"requests.example.org/gpu": 1}}, {}),
        )
    ),
    ("agent.containerd.socketPath", "/run/../etc/containerd.sock", {}),
    ("agent.containerd.socketPath", "/a:b/containerd.sock", {}),
    ("agent.containerd.socketPath", "run/containerd.sock", {}),
    ("agent.auth.existingSecret", "My Secret", {}),
    ("agent.auth.existingSecretKey", "a/b", {"agent": {"auth": {"existingSecret": "mine"}}}),
    ("agent.auth.existingSecretKey", "..", {"agent": {"auth": {"existingSecret": "mine"}}}),
    ("agent.updateStrategy", {"type": "Recreate"}, {}),
    ("agent.updateStrategy", {"rollingUpdate": {"maxUnavailable": 0}}, {}),
    ("agent.updateStrategy", {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 1}}, {}),
    ("agent.updateStrategy", {"rollingUpdate": {"maxUnavailable": "a quarter"}}, {}),
    ("agent.updateStrategy", {"rollingUpdate": {"maxUnavailable": "101%"}}, {}),
    ("server.replicas", -1, {}),
    ("server.replicas", "1", {}),
    ("server.strategy", {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}, {}),
    ("server.strategy", {"type": "OnDelete"}, {}),
    ("server.service.port", 0, {}),
    ("server.service.port", 9090, {}),
    ("server.service.metricsPort", 8080, {}),
    ("server.service.labels", {"a": "b c"}, {}),
    ("server.service.annotations", {"a b": "c"}, {}),
    ("server.service.nodePort", 70000, EXPOSED),
    (
        "server.service.metricsNodePort",
        30080,
        {"server": {"service": {**EXPOSED["server"]["service"], "nodePort": 30080}}},
    ),
    ("server.service.externalTrafficPolicy", "Near", EXPOSED),
    ("server.service.loadBalancerIP", "here", EXPOSED),
    ("server.service.loadBalancerClass", "a b", EXPOSED),
    ("server.service.loadBalancerSourceRanges", ["10.0.0.0"], EXPOSED),
    ("server.service.loadBalancerSourceRanges", ["10.0.0.0/33"], EXPOSED),
    ("server.service.loadBalancerSourceRanges", ["300.0.0.0/8"], EXPOSED),
    ("server.service.ipFamilyPolicy", "DualStack", {}),
    ("server.service.ipFamilies", ["IPv5"], {}),
    ("server.service.ipFamilies", ["IPv4", "IPv4"], {}),
    ("server.service.trafficDistribution", "Near", {}),
    ("server.service.extraPorts", [{"name": "Login", "port": 4180}], {}),
    ("server.service.extraPorts", [{"name": "login", "port": 8080}], {}),
    ("server.service.extraPorts", [{"name": "login", "port": 4180, "targetPort": "a--b"}], {}),
    ("server.service.extraPorts", [{"name": "http", "port": 4180}], {}),
    ("server.tls.secretName", "My Secret", {}),
    ("server.tls.caKey", "a/b", {"server": {"tls": {"secretName": "mine"}}}),
    ("server.livenessProbe", {"periodSeconds": 0}, {}),
    ("server.livenessProbe", {"successThreshold": 2}, {}),
    ("server.livenessProbe", {"httpGet": {"port": "a port"}}, {}),
    ("server.readinessProbe", {"httpGet": {"scheme": "FTP"}}, {}),
    ("server.readinessProbe", {"terminationGracePeriodSeconds": 1}, {}),
    ("server.startupProbe", {"failureTreshold": 1}, {}),
    ("server.topologySpreadConstraints", spread(maxSkew=0), {}),
    ("server.topologySpreadConstraints", spread(topologyKey="a b"), {}),
    ("server.topologySpreadConstraints", spread(whenUnsatisfiable="Maybe"), {}),
    ("server.topologySpreadConstraints", spread(whenUnsatisfiable="ScheduleAnyway", minDomains=2), {}),
    ("config.watchNamespaces", ["Shop"], {}),
    ("config.watchNamespaces", "shop\nother", {}),
    ("config.historyTTL", "soon", {}),
    ("server.openTelemetry.endpoint", "collector:4318", {}),
    ("ingress.className", "My Class", INGRESS),
    ("ingress.annotations", {"a b": "c"}, INGRESS),
    ("ingress.hosts", host("a b"), INGRESS),
    ("ingress.hosts", host("192.0.2.1"), INGRESS),
    ("ingress.hosts", host("*"), INGRESS),
    ("ingress.hosts", host("A.example.org"), INGRESS),
    ("ingress.hosts", paths("a"), INGRESS),
    ("ingress.hosts", paths("/a//b"), INGRESS),
    ("ingress.hosts", paths("/a/../b"), INGRESS),
    ("ingress.hosts", paths("/a%2Fb"), INGRESS),
    ("ingress.tls", [{"hosts": ["a b"]}], INGRESS),
    ("ingress.tls", [{"secretName": "My Secret"}], INGRESS),
    ("httpRoute.parentRefs", [{"name": "public", "namespace": "A"}], ROUTE),
    ("httpRoute.hostnames", ["a b"], ROUTE),
    ("httpRoute.path", "pulls", ROUTE),
    ("httpRoute.path", "/a//b", ROUTE),
    ("networkPolicy.allowedNamespaces", ["A"], POLICY),
    ("networkPolicy.allowedNamespaces", ["a\nb"], POLICY),
    ("networkPolicy.allowedNamespaces", [1234], POLICY),
    ("networkPolicy.allowedPorts", [0], {"networkPolicy": {**POLICY["networkPolicy"], "allowedNamespaces": ["a"]}}),
    ("networkPolicy.prometheusNamespace", "Mon", {"networkPolicy": {"enabled": True, "allowMetricsScrape": True}}),
    ("networkPolicy.egress.apiServerCIDRs", ["10.0.0.1"], POLICY),
    ("networkPolicy.egress.apiServerPorts", [65536], POLICY),
    ("networkPolicy.egress.dnsPorts", ["dns"], POLICY),
    ("extraObjects", [{"kind": "ConfigMap", "metadata": {"name": "a"}}], {}),
    ("rbac.extraRules", [{"apiGroups": [""], "resources": ["pods"]}], {}),
    ("rbac.extraRules", [{"verbs": ["get"]}], {}),
    ("rbac.extraRules", [{"nonResourceURLs": ["/a"], "resources": ["pods"], "apiGroups": [""], "verbs": ["get"]}], {}),
    ("networkPolicy.extraServerRules", [{"form": []}], POLICY),
    ("networkPolicy.extraServerRules", [{"to": [{"podSelector": {}}]}], POLICY),
    ("networkPolicy.extraServerRules", [{"from": [{}]}], POLICY),
    ("networkPolicy.extraServerRules", [{"from": [{"ipBlock": {"cidr": "10.0.0.0"}}]}], POLICY),
    ("networkPolicy.extraServerRules", [{"from": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}], POLICY),
    ("networkPolicy.extraServerRules", [{"from": [{"ipBlock": {"cidr": "2001:db8::1/32"}}]}], POLICY),
    ("networkPolicy.extraServerRules", excepting("10.0.0.0/8", "11.0.0.0/16"), POLICY),
    ("networkPolicy.extraServerRules", excepting("10.0.0.0/8", "10.0.0.0/8"), POLICY),
    ("networkPolicy.extraServerRules", [{"from": [{"podSelector": {"matchLabels": {"a": "b c"}}}]}], POLICY),
    (
        "networkPolicy.extraServerRules",
        [{"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}],
        POLICY,
    ),
    ("networkPolicy.extraServerRules", [{"ports": [{"port": 0}]}], POLICY),
    ("networkPolicy.extraServerRules", [{"ports": [{"endPort": 9}]}], POLICY),
    ("networkPolicy.extraServerRules", [{"ports": [{"port": 9, "endPort": 8}]}], POLICY),
    ("networkPolicy.egress.extraServerRules", [{"from": [{"podSelector": {}}]}], POLICY),
    ("networkPolicy.egress.extraAgentRules", [{"to": [{"namespaceSelector": {"matchLabel": {}}}]}], POLICY),
    ("networkPolicy.egress.extraAgentRules", [{"ports": [{"port": 53, "protocol": "DNS"}]}], POLICY),
    ("networkPolicy.egress.apiServerCIDRs", ["10.0.0.1/8"], POLICY),
    ("server.service.loadBalancerSourceRanges", ["10.0.0.1/8"], EXPOSED),
    ("httpRoute.filters", [{"type": "RequestRedirect"}], ROUTE),
    ("httpRoute.filters", [{"type": "Redirect", "requestRedirect": {}}], ROUTE),
    ("metrics.serviceMonitor.tlsConfig", {"insecure": True}, MONITOR),
    ("metrics.serviceMonitor.authorization", {"credentials": {"name": "a"}}, MONITOR),
    ("metrics.serviceMonitor.relabelings", [{"action": "delete"}], MONITOR),
    ("metrics.serviceMonitor.metricRelabelings", [{"source_labels": ["a"]}], MONITOR),
    ("metrics.serviceMonitor.extraEndpoint", {"interval": "1m"}, MONITOR),
    ("metrics.serviceMonitor.extraSpec", {"selector": {}}, MONITOR),
    ("server.securityContext", {"procMount": "Unmasked"}, {}),
    (
        "agent.podSecurityContext",
        {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]},
        {"agent.hostNetwork": True},
    ),
    ("server.livenessProbe", {"exec": {"command": ["true"]}, "grpc": {"port": 1}}, {}),
    ("server.readinessProbe", {"httpGet": None}, {}),
    ("agent.livenessProbe", {"periodSeconds": 5}, {}),
    ("metrics.serviceMonitor.interval", "often", MONITOR),
    ("metrics.serviceMonitor.namespace", "Mon", MONITOR),
    ("metrics.serviceMonitor.labels", {"a": "b c"}, MONITOR),
    ("metrics.prometheusRule.alertLabels", {"a-b": "c"}, {"metrics": {"prometheusRule": {"enabled": True}}}),
    ("metrics.dashboard.namespace", "Grafana", DASHBOARD),
    ("metrics.dashboard.annotations", {"a b": "c"}, DASHBOARD),
]

UNUSUAL: list[Case] = [
    ("namespace", "1234", {}),
    ("nameOverride", "Foo_Bar.x", {}),
    ("nameOverride", "a" * 56, {}),
    ("commonLabels", {"a": "1234", "b": "true", "c": "null", "d": ""}, {}),
    ("config.watchNamespaces", ["1234", "true"], {}),
    ("networkPolicy.allowedNamespaces", ["1234", "true", "null"], POLICY),
    ("networkPolicy.prometheusNamespace", "1234", {"networkPolicy": {"enabled": True, "allowMetricsScrape": True}}),
    ("metrics.dashboard.namespace", "1234", DASHBOARD),
    ("ingress.hosts", host(""), INGRESS),
    ("ingress.hosts", host("*.example.org"), INGRESS),
    ("ingress.className", "1234", INGRESS),
    ("server.tls.secretName", "1234", {}),
    ("server.tls.caKey", "1234", {"server": {"tls": {"secretName": "mine"}}}),
    ("agent.auth.existingSecret", "1234", {}),
    ("agent.auth.existingSecretKey", "true", {"agent": {"auth": {"existingSecret": "mine"}}}),
    ("agent.priorityClassName", "1234", {}),
    ("agent.serviceAccount.name", "1234", {}),
    ("agent.image.tag", "1234", {}),
    ("agent.containerd.socketPath", "/run/a b/containerd.sock", {}),
    ("agent.resources", {"requests": {"cpu": 0.01, "memory": "50e6"}}, {}),
    ("agent.resources", {"limits": {"example.org/gpu": 1}, "requests": {"example.org/gpu": 1}}, {}),
    ("agent.updateStrategy", {"type": "OnDelete"}, {}),
    ("agent.updateStrategy", {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "10%"}}, {}),
    ("agent.tolerations", [], {}),
    ("agent.hostNetwork", True, {}),
    ("agent.podAnnotations", {"A.example.org/B": "1234"}, {}),
    ("server.strategy.type", "Recreate", {}),
    ("server.livenessProbe", {"exec": {"command": ["true"]}}, {}),
    ("server.readinessProbe", {"grpc": {"port": 8080}}, {}),
    ("server.extraEnv", [{"name": "PULLTRACE_LOG_LEVEL", "value": "debug"}, {"name": "a.b-c", "value": ""}], {}),
    ("server.service.loadBalancerSourceRanges", ["10.0.0.0/8", "2001:db8::/32"], EXPOSED),
    ("server.service.extraPorts", [{"name": "login", "port": 4180, "targetPort": "login"}], {}),
    ("config.heartbeatInterval", "1h", {}),
]


def identify(case: Case) -> str:
    return f"{case[0]}={case[1]!r}"[:200]


def given(case: Case) -> dict[str, Any]:
    path, value, context = case
    return values(context, {path: value})


@pytest.mark.parametrize("case", REJECTED, ids=identify)
def test_the_chart_rejects_a_value_that_no_cluster_accepts(case: Case) -> None:
    with pytest.raises((HelmValuesError, HelmRenderError)) as rejected:
        render(given(case))
    assert "YAML" not in str(rejected.value)


@pytest.mark.parametrize("case", UNUSUAL, ids=identify)
def test_the_chart_accepts_an_unusual_value(case: Case) -> None:
    render(given(case))


@pytest.fixture
def lenient(tmp_path: Path) -> Iterator[helm.Chart]:
    """The chart without its schema and its guards."""
    copied = tmp_path / "pulltrace"
    shutil.copytree(CHART, copied)
    (copied / "values.schema.json").unlink()
    guards = copied / "templates" / "_guards.tpl"
    guards.write_text('{{ define "pulltrace.guards" }}{{ end }}')
    with helm.Chart.load(copied) as chart:
        yield chart


def changed(chart: helm.Chart, case: Case, usual: Rendered) -> Iterator[dict[str, Any]]:
    """Yield the objects of the case that differ from those rendered with the default values."""
    rendered = Rendered(chart.render(given(case), name="pulltrace", namespace="pulltrace"))
    for key, document in (rendered.objects | rendered.hooks).items():
        if document not in (usual.objects.get(key), usual.hooks.get(key)):
            yield copy.deepcopy(document)


@pytest.mark.cluster
async def test_the_chart_accepts_no_value_that_a_real_api_server_rejects(
    cluster: APIServer, lenient: helm.Chart
) -> None:
    names = {"pulltrace", "shop", *(str(case[1]) for case in UNUSUAL if case[0].endswith("amespace")), "true"}
    await make_namespaces(cluster, *names)
    await make_foreign_kinds(cluster)
    known, usual = await plurals(cluster), render(values())

    async def refusal(case: Case) -> str:
        """Return the API server's reason for rejecting an object, or nothing if it accepts all objects."""
        try:
            documents = await asyncio.to_thread(lambda: list(changed(lenient, case, usual)))
        except Exception as error:  # noqa: BLE001  # no YAML, or an object without a name
            return f"not rendered: {error}"
        for document in documents:
            plural = known.get((document.get("apiVersion"), document["kind"]))
            if plural is None:
                return f"no such kind: {document['kind']}"
            try:
                path = collection(document, plural)
                await cluster.request("POST", f"{path}?dryRun=All&fieldValidation=Strict", document)
            except APIError as error:
                return str(error)
        return ""

    reasons = {identify(case): await refusal(case) for case in [*UNUSUAL, *REJECTED]}
    assert {case: reason for case, reason in reasons.items() if reason and case in map(identify, UNUSUAL)} == {}
    rejected = [case for case in REJECTED if reasons[identify(case)]]
    print(f"{len(REJECTED)} hostile values, {len(rejected)} rejected by the API server")  # noqa: T201
    print("accepted:", *(identify(case) for case in REJECTED if case not in rejected), sep="\n  ")  # noqa: T201
    assert len(reasons) == len(REJECTED) + len(UNUSUAL)
    assert len(rejected) > 100, "the comparison needs an API server that validates"
