"""The chart as a whole: presets, guard rails, schema, and promises that hold whatever the values are."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pulltrace.server.api.token_review import AUDIENCE
from pulltrace.settings import AgentSettings, ServerSettings, SettingsError
from pulltrace.settings import load as load_settings
from tests.chart.rendering import (
    ACKNOWLEDGED,
    CHART,
    PRESETS,
    HelmRenderError,
    HelmValuesError,
    helm,
    render,
    values,
)

pytestmark = pytest.mark.chart


def load(preset: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(preset.read_text())
    return loaded


each_preset = pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name.removesuffix("-values.yaml"))


@pytest.mark.parametrize("given", [None, *PRESETS], ids=lambda path: path.name if path else "defaults")
def test_lint_finds_nothing(given: Path | None) -> None:
    report = helm.lint(CHART, load(given) if given else {}, strict=True)
    assert report["errors"] == []
    assert report["messages"] == []


@each_preset
def test_pods_of_the_server_are_restricted_and_agents_have_no_more_than_they_need(preset: Path) -> None:
    rendered = render(load(preset))
    for kind in ("Deployment", "DaemonSet"):
        for name, workload in rendered.objects.items():
            if not name.startswith(kind):
                continue
            pod = workload["spec"]["template"]["spec"]
            [container] = pod["containers"]
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert pod["enableServiceLinks"] is False
            assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
            if kind == "Deployment":
                assert pod["securityContext"]["runAsNonRoot"] is True
                assert not any("hostPath" in volume for volume in pod.get("volumes", []))
            else:
                assert pod["automountServiceAccountToken"] is False
                assert "ports" not in container


@each_preset
def test_every_object_is_in_its_namespace_and_carries_the_common_labels(preset: Path) -> None:
    rendered = render(load(preset), name="release", namespace="chosen")
    expected = load(preset).get("namespace", "chosen")
    for key, document in (rendered.objects | rendered.hooks).items():
        if key.startswith(("ConfigMap/release-extra", "ConfigMap/release-pulltrace-text")):
            continue
        labels = document["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "release"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        if document["kind"] not in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"):
            assert document["metadata"]["namespace"] == ("grafana" if "dashboard" in key else expected)


def test_selectors_and_names_are_those_of_chart_0_1_0_because_an_upgrade_cannot_change_them() -> None:
    rendered = render(values())
    for key, name in (("DaemonSet/pulltrace-agent", "agent"), ("Deployment/pulltrace-server", "server")):
        expected = {"app.kubernetes.io/name": f"pulltrace-{name}", "app.kubernetes.io/instance": "pulltrace"}
        assert rendered.at(f"{key}#spec.selector.matchLabels") == expected
        assert expected.items() <= rendered.at(f"{key}#spec.template.metadata.labels").items()
    assert rendered.at("ClusterRoleBinding/pulltrace-pod-reader#roleRef.name") == "pulltrace-pod-reader"
    assert rendered.at("Service/pulltrace-server#spec.selector.app~kubernetes~io/name") == "pulltrace-server"


def test_pods_carry_nothing_that_a_new_chart_version_alone_would_change() -> None:
    labels = render(values()).at("DaemonSet/pulltrace-agent#spec.template.metadata.labels")
    assert labels.keys() == {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}


def test_labels_of_ones_own_win_over_common_ones_and_those_over_ours() -> None:
    part_of = "app.kubernetes.io/part-of"
    rendered = render(
        values(
            {
                "commonLabels": {part_of: "platform", "team": "a"},
                "agent.podLabels": {"team": "b"},
                "metrics.serviceMonitor": {"enabled": True, "labels": {"team": "c"}},
                "metrics.prometheusRule": {"enabled": True, "labels": {"team": "c"}},
                "metrics.dashboard": {"enabled": True, "labels": {"team": "c"}},
            }
        )
    )
    for document in rendered.objects.values():
        assert document["metadata"]["labels"][part_of] == "platform"
    assert rendered.at(f"DaemonSet/pulltrace-agent#metadata.labels.{part_of.replace('.', '~')}") == "platform"
    assert rendered.at("DaemonSet/pulltrace-agent#spec.template.metadata.labels.team") == "b"
    assert rendered.at("Deployment/pulltrace-server#spec.template.metadata.labels.team") == "a"
    for key in ("ServiceMonitor/pulltrace-server", "PrometheusRule/pulltrace", "ConfigMap/pulltrace-dashboard"):
        assert rendered.at(f"{key}#metadata.labels.team") == "c"


def test_a_namespace_named_twice_gets_one_role() -> None:
    rendered = render(values({"config.watchNamespaces": "shop,, shop"}))
    assert [key for key in rendered.objects if key.startswith("Role/")] == ["Role/pulltrace-pod-reader"]


DURATIONS = ["0s", "100us", "499ms", "0.4s", "500ms", "0.5s", "250ms250ms", "999ms", "1s", "1500ms", "1m30s", "2h"]
LEAST = {
    "reportInterval": (AgentSettings, {"PULLTRACE_NODE_NAME": "n"}),
    "heartbeatInterval": (AgentSettings, {"PULLTRACE_NODE_NAME": "n"}),
    "historyTTL": (ServerSettings, {}),
    "stallTimeout": (ServerSettings, {}),
}


@pytest.mark.parametrize("name", LEAST)
def test_a_duration_that_the_pods_would_refuse_is_refused_before_there_are_pods(name: str) -> None:
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


def test_a_configuration_change_rolls_the_pods_it_concerns() -> None:
    before, after = render(values()), render(values({"config.historyTTL": "1h"}))
    place = "#spec.template.spec.containers"
    assert before.at(f"Deployment/pulltrace-server{place}") != after.at(f"Deployment/pulltrace-server{place}")
    assert before.at(f"DaemonSet/pulltrace-agent{place}") == after.at(f"DaemonSet/pulltrace-agent{place}")


def test_another_token_rolls_both_halves() -> None:
    one, other = render(values({"agent.auth.token": "one"})), render(values({"agent.auth.token": "other"}))
    for key in ("DaemonSet/pulltrace-agent", "Deployment/pulltrace-server"):
        place = f"{key}#spec.template.metadata.annotations.checksum/token"
        assert one.at(place) != other.at(place)


def test_a_generated_token_is_the_same_wherever_it_stands() -> None:
    shared = values({"agent.auth.mode": "token"})
    rendered = render(shared)
    sums = {
        rendered.at(f"{key}#spec.template.metadata.annotations.checksum/token")
        for key in ("DaemonSet/pulltrace-agent", "Deployment/pulltrace-server")
    }
    assert len(sums) == 1
    token = rendered.at("Secret/pulltrace-agent-token#data.token")
    assert len(token) == 64
    assert token != render(shared).at("Secret/pulltrace-agent-token#data.token")


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        pytest.param({}, "serviceAccount", id="nothing"),
        pytest.param({"agent.auth.token": "s3cret"}, "token", id="a token"),
        pytest.param({"agent.auth.existingSecret": "mine"}, "token", id="a Secret"),
        pytest.param({"agent.auth.token": "s3cret", "agent.auth.mode": "none"}, "none", id="a token, but none"),
        pytest.param({"agent.auth.mode": "serviceAccount", "agent.auth.token": "x"}, "serviceAccount", id="said"),
    ],
)
def test_who_may_report_follows_from_what_is_given(given: dict[str, Any], mode: str) -> None:
    rendered = render(values(given))
    server = "Deployment/pulltrace-server#spec.template.spec.containers.0.env"
    agent = "DaemonSet/pulltrace-agent#spec.template.spec.containers.0.env"
    env = {item["name"] for place in (server, agent) for item in rendered.at(place)}
    assert ("PULLTRACE_AGENT_TOKEN" in env) == (mode == "token")
    assert ({"PULLTRACE_AGENT_TOKEN_FILE", "PULLTRACE_AGENT_SERVICE_ACCOUNT"} <= env) == (mode == "serviceAccount")
    assert ("ClusterRole/pulltrace-token-reviewer" in rendered.objects) == (mode == "serviceAccount")


def test_the_server_expects_the_account_that_agents_have() -> None:
    rendered = render(values({"namespace": "watch", "fullnameOverride": "pt"}))
    server = "Deployment/pt-server#spec.template.spec.containers.0.env.[PULLTRACE_AGENT_SERVICE_ACCOUNT].value"
    assert rendered.at(server) == "watch/pt-agent"
    assert rendered.at("DaemonSet/pt-agent#spec.template.spec.serviceAccountName") == "pt-agent"
    assert rendered.objects["ServiceAccount/pt-agent"]["metadata"]["namespace"] == "watch"
    [source] = rendered.at("DaemonSet/pt-agent#spec.template.spec.volumes.[token].projected.sources")
    assert source["serviceAccountToken"]["audience"] == AUDIENCE


def test_with_a_certificate_everybody_speaks_https() -> None:
    rendered = render(values({"server.tls.secretName": "pulltrace-tls"}))
    server = rendered.at("Deployment/pulltrace-server#spec.template.spec.containers.0")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert server[probe]["httpGet"]["scheme"] == "HTTPS"
    agent = rendered.at("DaemonSet/pulltrace-agent#spec.template.spec")
    env = {item["name"]: item.get("value") for item in agent["containers"][0]["env"]}
    assert env["PULLTRACE_SERVER_URL"] == "https://pulltrace-server.pulltrace.svc:8080"
    test = rendered.hooks["Pod/pulltrace-test"]["spec"]
    assert test["containers"][0]["args"][1:] == [env["PULLTRACE_SERVER_URL"], "agents", env["PULLTRACE_SERVER_CA_FILE"]]
    for pod in (agent, test):
        [ca] = [volume for volume in pod["volumes"] if volume["name"] == "server-ca"]
        assert ca["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}], "the key is for the server alone"
    assert "https://localhost:8080" in rendered.notes


@pytest.mark.parametrize(
    ("distribution", "socket"),
    [
        ("kubernetes", "/run/containerd/containerd.sock"),
        ("k3s", "/run/k3s/containerd/containerd.sock"),
        ("rke2", "/run/k3s/containerd/containerd.sock"),
        ("k0s", "/run/k0s/containerd.sock"),
        ("microk8s", "/var/snap/microk8s/common/run/containerd.sock"),
    ],
)
def test_a_distributions_socket_is_known_and_its_directory_mounted(distribution: str, socket: str) -> None:
    pod = render(values({"agent.containerd.distribution": distribution})).at(
        "DaemonSet/pulltrace-agent#spec.template.spec"
    )
    env = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    directory = str(Path(socket).parent)
    assert env["PULLTRACE_CONTAINERD_SOCKET"] == socket
    assert pod["volumes"][0]["hostPath"] == {"path": directory, "type": "Directory"}
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == directory


def test_no_cluster_domain_is_assumed() -> None:
    assert "cluster.local" not in json.dumps(render(values()).objects)


GUARDED = [
    pytest.param({}, "--set agent.runtimeSocket.risksAcknowledged=true", id="the socket unacknowledged"),
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
    pytest.param(values({"server.replicas": 2}), "server.replicas above 1 does not work yet", id="two servers"),
    pytest.param(values({"ingress.enabled": True}), "--set ingress.hosts[0].host=", id="an ingress without a host"),
    pytest.param(values({"httpRoute.enabled": True}), "--set httpRoute.parentRefs[0].name=", id="a route nowhere"),
    *(
        pytest.param(
            values({path: {label: "x"}}), f"{path} has {label}, by which pods are found", id=f"{path} with {label}"
        )
        for path in ("commonLabels", "agent.podLabels", "server.podLabels")
        for label in ("app.kubernetes.io/name", "app.kubernetes.io/instance")
    ),
]


@pytest.mark.parametrize(("given", "message"), GUARDED)
def test_a_guard_rail_stops_and_prints_the_flag(given: dict[str, Any], message: str) -> None:
    with pytest.raises(HelmRenderError) as stopped:
        render(given)
    assert message in str(stopped.value)


REFUSED = [
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
    ("path", "value", "told"), [pytest.param(*case, id=f"{case[0]}={case[1]}") for case in REFUSED]
)
def test_the_schema_refuses_what_is_misspelt_or_of_another_type(path: str, value: Any, told: str) -> None:
    with pytest.raises(HelmValuesError) as refused:
        render(values({path: value}))
    assert told in str(refused.value)


def test_the_schema_knows_each_value_and_no_other() -> None:
    def leaves(tree: Any, schema: dict[str, Any], path: str = "") -> set[str]:
        schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        if not schema.get("properties") or not isinstance(tree, dict):
            return set()
        assert tree.keys() == schema["properties"].keys() - {"global"}, path
        return {path}.union(*(leaves(tree[name], schema["properties"][name], f"{path}.{name}") for name in tree))

    schema = json.loads((CHART / "values.schema.json").read_text())
    schemas = schema["definitions"]
    assert leaves(yaml.safe_load((CHART / "values.yaml").read_text()), schema)


def test_what_a_policy_names_is_a_port_of_the_pod_not_of_the_service() -> None:
    rendered = render(
        values(
            {
                "networkPolicy.enabled": True,
                "networkPolicy.allowMetricsScrape": True,
                "server.service.port": 80,
                "server.service.metricsPort": 9100,
            }
        )
    )
    ports = {
        port["containerPort"]
        for port in rendered.at("Deployment/pulltrace-server#spec.template.spec.containers.0.ports")
    }
    rules = rendered.at("NetworkPolicy/pulltrace-server#spec.ingress")
    assert {port["port"] for rule in rules for port in rule["ports"]} == ports
    assert rendered.at("NetworkPolicy/pulltrace-agent#spec").keys() == {"podSelector", "policyTypes"}


@pytest.mark.parametrize("path", ["v0.1.0", "everything"])
def test_a_service_monitor_selects_the_service_and_nothing_else(path: str) -> None:
    given = load(CHART / "ci" / f"{path}-values.yaml") | {"metrics": {"serviceMonitor": {"enabled": True}}}
    rendered = render(given)
    [monitor] = [item for item in rendered.objects.values() if item["kind"] == "ServiceMonitor"]
    selector = monitor["spec"]["selector"]["matchLabels"].items()
    services = [item for item in rendered.objects.values() if item["kind"] == "Service"]
    chosen = [
        item
        for item in services
        if selector <= item["metadata"]["labels"].items()
        and item["metadata"]["namespace"] in monitor["spec"]["namespaceSelector"]["matchNames"]
    ]
    assert chosen == services
    assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in chosen[0]["spec"]["ports"]}


NOTES = [
    pytest.param(
        {},
        ["an agent on every node", "each agent reports for its own node only", "port-forward svc/pulltrace-server"],
        id="default",
    ),
    pytest.param({"agent.auth.mode": "token"}, ["generated and keeps"], id="a generated token"),
    pytest.param({"agent.runtimeSocket.enabled": False}, ["NO AGENT is installed"], id="no agent"),
    pytest.param({"agent.auth.mode": "none"}, ["reports are OPEN"], id="open reports"),
    pytest.param({"agent.auth.token": "x"}, ["which this release was given"], id="a given token"),
    pytest.param({"agent.auth.existingSecret": "mine"}, ["in Secret mine, key token"], id="an existing secret"),
    pytest.param({"server.replicas": 0}, ["NO SERVER runs"], id="no server"),
    pytest.param({"agent.containerd.distribution": "k3s"}, ["/run/k3s/containerd/containerd.sock"], id="k3s"),
    pytest.param(
        {"networkPolicy.enabled": True, "ingress.enabled": True, "ingress.hosts": [{"host": "a.org"}]},
        ["lets NO namespace read", "http://a.org/"],
        id="an ingress behind a closed policy",
    ),
    pytest.param(
        {
            "networkPolicy.enabled": True,
            "server.service": {"type": "LoadBalancer", "exposureAcknowledged": True},
            "metrics.serviceMonitor.enabled": True,
        },
        ["keeps out what comes through the LoadBalancer", "the NetworkPolicy keeps Prometheus out"],
        id="a policy that keeps out who was meant",
    ),
    pytest.param(
        {"server.tls.secretName": "tls", "ingress.enabled": True, "ingress.hosts": [{"host": "a.org"}]},
        ["the server speaks HTTPS: tell the Ingress controller", "http://a.org/"],
        id="HTTPS behind an ingress",
    ),
    pytest.param(
        {"server.tls.secretName": "tls", "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}},
        ["the server speaks HTTPS: tell the Gateway by a BackendTLSPolicy"],
        id="HTTPS behind a gateway",
    ),
    pytest.param({"namespace": "other"}, ["kubectl -n other port-forward"], id="another namespace"),
    pytest.param({"config.watchNamespaces": "a,b"}, ["sees the pods of a, b"], id="some namespaces"),
]


@pytest.mark.parametrize(("given", "told"), NOTES)
def test_the_notes_tell_the_truth_about_what_was_installed(given: dict[str, Any], told: list[str]) -> None:
    notes = render(values(given)).notes
    for sentence in told:
        assert sentence in notes
    assert ("an agent on every node" in notes) == given.get("agent.runtimeSocket.enabled", True)


def test_a_values_file_of_chart_0_1_0_still_means_the_same() -> None:
    rendered = render(load(CHART / "ci" / "v0.1.0-values.yaml"))
    agent = rendered.at("DaemonSet/pull-watch-agent#spec.template.spec")
    assert agent["containers"][0]["image"] == "registry.example.org/pulltrace-agent:0.1.0"
    assert agent["volumes"][0]["hostPath"]["path"] == "/var/run/custom"
    assert agent["tolerations"][0]["key"] == "node-role.kubernetes.io/control-plane"
    assert rendered.at("Service/pull-watch-server#spec.type") == "LoadBalancer"
    assert rendered.at("Secret/pull-watch-agent-token#metadata.namespace") == "observability"
    assert rendered.at("Ingress/pull-watch#spec.rules.0.host") == "pulls.example.org"
    env = {
        item["name"]: item.get("value")
        for item in rendered.at("Deployment/pull-watch-server#spec.template.spec.containers.0.env")
    }
    assert env["PULLTRACE_WATCH_NAMESPACES"] == "default,kube-system"
    assert env["PULLTRACE_HISTORY_TTL"] == "1h"


def test_acknowledging_is_all_an_install_needs() -> None:
    kinds = sorted(document["kind"] for document in render(ACKNOWLEDGED).objects.values())
    assert kinds == [
        "ClusterRole",
        "ClusterRole",
        "ClusterRoleBinding",
        "ClusterRoleBinding",
        "DaemonSet",
        "Deployment",
        "Service",
        "ServiceAccount",
        "ServiceAccount",
    ]
