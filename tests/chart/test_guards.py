"""The chart rejects invalid values, either through its schema or through a guard that prints the reason."""

import json
import re
from typing import Any

import pytest
import yaml

from pulltrace.settings import AgentSettings, ServerSettings, SettingsError
from pulltrace.settings import load as load_settings
from tests.chart.rendering import CHART, HelmRenderError, HelmValuesError, render, values

pytestmark = pytest.mark.chart

DURATIONS = ["0s", "100us", "499ms", "0.4s", "500ms", "0.5s", "250ms250ms", "999ms", "1s", "1500ms", "1m30s", "2h"]
LEAST = {
    "reportInterval": (AgentSettings, {"PULLTRACE_NODE_NAME": "n"}),
    "heartbeatInterval": (AgentSettings, {"PULLTRACE_NODE_NAME": "n"}),
    "historyTTL": (ServerSettings, {}),
    "stallTimeout": (ServerSettings, {}),
}


@pytest.mark.parametrize("name", LEAST)
def test_the_chart_rejects_a_duration_that_the_pods_would_reject(name: str) -> None:
    kind, others = LEAST[name]
    variable = "PULLTRACE_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()
    for text in DURATIONS:
        try:
            load_settings(kind, {**others, variable: text})
        except SettingsError:
            with pytest.raises(HelmRenderError, match=re.escape(f"config.{name}={text} is too short")):
                render(values({f"config.{name}": text}))
        else:
            render(values({f"config.{name}": text}))


ONE_PORT = {"port": 80, "metricsPort": 80}
TWO_NODE_PORTS = {"type": "NodePort", "exposureAcknowledged": True, "nodePort": 30080, "metricsNodePort": 30080}
BOX = {"name": "box", "image": "example.org/box:1"}

GUARDED = [
    pytest.param(values({"server.service": ONE_PORT}), "must differ", id="one port for two purposes"),
    pytest.param(values({"server.service": TWO_NODE_PORTS}), "must differ", id="one node port for two purposes"),
    pytest.param(
        values({"server.service.extraPorts": [{"name": "login", "port": 8080}]}),
        "server.service.extraPorts repeats the port 8080",
        id="an extra port that is already used",
    ),
    pytest.param(
        values({"ingress": {"enabled": True, "hosts": [{"host": "a.org"}], "servicePort": "login"}}),
        "ingress.servicePort=login is not a port of the Service: http, metrics",
        id="an ingress to a port that does not exist",
    ),
    pytest.param(
        values({"agent.extraVolumeMounts": [{"name": "more", "mountPath": "/more"}]}),
        "agent: the container pulltrace-agent mounts the volume more, which is not in agent.extraVolumes",
        id="a mount without its volume",
    ),
    pytest.param(
        values({"server.extraVolumes": [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]}),
        "server.extraVolumes repeats the name a",
        id="a repeated volume",
    ),
    pytest.param(
        values(
            {
                "server.tls.secretName": "mine",
                "server.extraVolumes": [{"name": "a", "emptyDir": {}}],
                "server.extraVolumeMounts": [{"name": "a", "mountPath": "/etc/pulltrace/tls"}],
            }
        ),
        "the container pulltrace-server mounts two volumes at /etc/pulltrace/tls",
        id="a mount at one of our paths",
    ),
    pytest.param(
        values({"server.initContainers": [BOX], "server.extraContainers": [BOX]}),
        "server has two containers named box",
        id="a repeated container",
    ),
    pytest.param(
        values({"agent.resources.requests.memory": "1Gi"}),
        "agent: the container pulltrace-agent requests more memory (1Gi) than its limit allows (128Mi)",
        id="a request above its limit",
    ),
    pytest.param({}, "--set agent.runtimeSocket.risksAcknowledged=true", id="risks of the socket not acknowledged"),
    pytest.param(
        values({"server.service.type": "NodePort"}),
        "--set server.service.exposureAcknowledged=true",
        id="the service exposed",
    ),
    pytest.param(
        values({"server.service.type": "LoadBalancer"}),
        "--set server.service.exposureAcknowledged=true",
        id="the service on a load balancer",
    ),
    pytest.param(values({"server.replicas": 2}), "server.replicas above 1 does not work", id="two servers"),
    pytest.param(values({"ingress.enabled": True}), "--set ingress.hosts[0].host=", id="an ingress without a host"),
    pytest.param(
        values({"httpRoute.enabled": True}), "--set httpRoute.parentRefs[0].name=", id="a route without a gateway"
    ),
    *(
        pytest.param(
            values({path: {label: "x"}}), f"{path} has {label}, which selects the pods", id=f"{path} with {label}"
        )
        for path in ("commonLabels", "agent.podLabels", "server.podLabels")
        for label in ("app.kubernetes.io/name", "app.kubernetes.io/instance")
    ),
]


@pytest.mark.parametrize(("given", "message"), GUARDED)
def test_a_guard_stops_the_installation_and_prints_the_reason(given: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmRenderError) as stopped:
        render(given)
    assert message in str(stopped.value)


REJECTED = [
    ("agent.imagee.tag", "1", "imagee"),
    ("agent.runtimesocket.enabled", True, "runtimesocket"),
    ("sever.replicas", 1, "sever"),
    ("agent.image.digest", "sha256:123", "/agent/image/digest"),
    ("agent.image.pullPolicy", "Sometimes", "/agent/image/pullPolicy"),
    ("agent.runtimeSocket.risksAcknowledged", "true", "/agent/runtimeSocket/risksAcknowledged"),
    ("agent.containerd.socketPath", "run/containerd.sock", "/agent/containerd/socketPath"),
    ("agent.containerd.socketPath", "/containerd.sock", "/agent/containerd/socketPath"),
    ("agent.containerd.distribution", "openshift", "/agent/containerd/distribution"),
    ("agent.auth.mode", "open", "/agent/auth/mode"),
    ("agent.auth.token", "two words", "/agent/auth/token"),
    ("server.replicas", "1", "/server/replicas"),
    ("server.replicas", -1, "/server/replicas"),
    ("server.service.type", "ExternalName", "/server/service/type"),
    ("server.service.port", 70000, "/server/service/port"),
    ("server.service.port", "8080", "/server/service/port"),
    ("config.logLevel", "loud", "/config/logLevel"),
    ("config.historyTTL", 30, "/config/historyTTL"),
    ("config.historyTTL", "-5m", "/config/historyTTL"),
    ("config.reportInterval", "1 s", "/config/reportInterval"),
    ("config.watchNamespaces", ["Shop"], "/config/watchNamespaces"),
    ("config.watchNamespaces", "shop other", "/config/watchNamespaces"),
    ("config.watchNamespaces", "shop,-", "/config/watchNamespaces"),
    ("ingress.hosts", [{"name": "x"}], "/ingress/hosts/0"),
    ("httpRoute.path", "pulls", "/httpRoute/path"),
    ("commonLabels.on", True, "/commonLabels/on"),
    ("metrics.prometheusRule.disabled", ["PulltraceDwon"], "/metrics/prometheusRule/disabled/0"),
    ("tolerations", [], "tolerations"),
]


@pytest.mark.parametrize(
    ("path", "value", "place"), [pytest.param(*case, id=f"{case[0]}={case[1]}") for case in REJECTED]
)
def test_the_schema_rejects_invalid_values_wrong_types_and_misspelt_names(path: str, value: Any, place: str) -> None:
    with pytest.raises(HelmValuesError) as rejected:
        render(values({path: value}))
    assert place in str(rejected.value)


OURS = {"image", "serviceAccount", "verticalPodAutoscaler"}
"""The definitions in the schema that are specific to this chart. All other definitions describe Kubernetes types."""


def test_the_schema_and_the_values_file_have_the_same_keys() -> None:
    def compare(tree: Any, schema: dict[str, Any], path: str = "") -> int:
        name = schema.get("$ref", "").rpartition("/")[2]
        schema = schemas[name] if name in OURS else schema
        if not schema.get("properties") or not isinstance(tree, dict):
            return 1
        assert tree.keys() == schema["properties"].keys() - {"enabled"} | tree.keys() & {"enabled"}, path
        return sum(compare(tree[key], schema["properties"][key], f"{path}.{key}") for key in tree)

    schema = json.loads((CHART / "values.schema.json").read_text())
    schemas = schema["definitions"]
    assert compare(yaml.safe_load((CHART / "values.yaml").read_text()), schema) > 100
