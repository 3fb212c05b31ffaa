"""Tests for the chart as a whole: its presets, and properties that hold for all values."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from pulltrace.server.api.token_review import AUDIENCE
from tests.chart.rendering import ACKNOWLEDGED, CHART, PRESETS, HelmRenderError, Rendered, helm, render, values

pytestmark = pytest.mark.chart


def load(preset: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(preset.read_text())
    return loaded


each_preset = pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name.removesuffix("-values.yaml"))


@pytest.mark.parametrize("given", [None, *PRESETS], ids=lambda path: path.name if path else "defaults")
def test_helm_lint_finds_no_problems(given: Path | None) -> None:
    report = helm.lint(CHART, load(given) if given else {}, strict=True)
    assert report["errors"] == []
    assert report["messages"] == []


@each_preset
def test_server_pods_meet_the_restricted_pod_security_standard_and_agents_have_minimal_privileges(preset: Path) -> None:
    rendered = render(load(preset))
    for kind in ("Deployment", "DaemonSet"):
        for name, workload in rendered.objects.items():
            if not name.startswith(kind):
                continue
            pod = workload["spec"]["template"]["spec"]
            for container in pod["containers"]:
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
                assert not any("ports" in container for container in pod["containers"])


@each_preset
def test_every_object_has_its_namespace_and_the_common_labels(preset: Path) -> None:
    rendered = render(load(preset), name="release", namespace="chosen")
    expected = load(preset).get("namespace", "chosen")
    for key, document in (rendered.objects | rendered.hooks).items():
        if key.startswith(("ConfigMap/release-extra", "ConfigMap/release-pulltrace-text")):
            continue
        labels = document["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "release"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        if document["kind"] not in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"):
            assert document["metadata"]["namespace"] == ("grafana" if "dashboard" in key.lower() else expected)


def test_selectors_and_names_are_unchanged_since_chart_0_1_0_so_upgrades_work() -> None:
    rendered = render(values())
    for key, name in (("DaemonSet/pulltrace-agent", "agent"), ("Deployment/pulltrace-server", "server")):
        expected = {"app.kubernetes.io/name": f"pulltrace-{name}", "app.kubernetes.io/instance": "pulltrace"}
        assert rendered.at(f"{key}#spec.selector.matchLabels") == expected
        assert expected.items() <= rendered.at(f"{key}#spec.template.metadata.labels").items()
    assert rendered.at("ClusterRoleBinding/pulltrace-pod-reader#roleRef.name") == "pulltrace-pod-reader"
    assert rendered.at("Service/pulltrace-server#spec.selector.app~kubernetes~io/name") == "pulltrace-server"


def test_pod_labels_do_not_contain_the_chart_version() -> None:
    labels = render(values()).at("DaemonSet/pulltrace-agent#spec.template.metadata.labels")
    assert labels.keys() == {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}


def test_object_labels_override_common_labels_and_common_labels_override_chart_labels() -> None:
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


def test_a_namespace_listed_twice_gets_only_one_role() -> None:
    rendered = render(values({"config.watchNamespaces": "shop,, shop"}))
    assert [key for key in rendered.objects if key.startswith("Role/")] == ["Role/pulltrace-pod-reader"]


def test_changing_a_setting_restarts_only_the_pods_that_use_it() -> None:
    before, after = render(values()), render(values({"config.historyTTL": "1h"}))
    place = "#spec.template.spec.containers"
    assert before.at(f"Deployment/pulltrace-server{place}") != after.at(f"Deployment/pulltrace-server{place}")
    assert before.at(f"DaemonSet/pulltrace-agent{place}") == after.at(f"DaemonSet/pulltrace-agent{place}")


def test_a_new_token_restarts_the_agents_and_the_server() -> None:
    one, other = render(values({"agent.auth.token": "one"})), render(values({"agent.auth.token": "other"}))
    for key in ("DaemonSet/pulltrace-agent", "Deployment/pulltrace-server"):
        place = f"{key}#spec.template.metadata.annotations.checksum/token"
        assert one.at(place) != other.at(place)


def test_a_generated_token_is_the_same_in_all_objects() -> None:
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
        pytest.param({"agent.auth.token": "s3cret", "agent.auth.mode": "none"}, "none", id="a token, mode none"),
        pytest.param(
            {"agent.auth.mode": "serviceAccount", "agent.auth.token": "x"}, "serviceAccount", id="another mode"
        ),
    ],
)
def test_the_auth_values_determine_how_agents_authenticate(given: dict[str, Any], mode: str) -> None:
    rendered = render(values(given))
    server = "Deployment/pulltrace-server#spec.template.spec.containers.0.env"
    agent = "DaemonSet/pulltrace-agent#spec.template.spec.containers.0.env"
    env = {item["name"] for place in (server, agent) for item in rendered.at(place)}
    assert ("PULLTRACE_AGENT_TOKEN" in env) == (mode == "token")
    assert ({"PULLTRACE_AGENT_TOKEN_FILE", "PULLTRACE_AGENT_SERVICE_ACCOUNT"} <= env) == (mode == "serviceAccount")
    assert ("ClusterRole/pulltrace-token-reviewer" in rendered.objects) == (mode == "serviceAccount")


def test_the_server_accepts_the_service_account_of_the_agents() -> None:
    rendered = render(values({"namespace": "watch", "fullnameOverride": "pt"}))
    server = "Deployment/pt-server#spec.template.spec.containers.0.env.[PULLTRACE_AGENT_SERVICE_ACCOUNT].value"
    assert rendered.at(server) == "watch/pt-agent"
    assert rendered.at("DaemonSet/pt-agent#spec.template.spec.serviceAccountName") == "pt-agent"
    assert rendered.objects["ServiceAccount/pt-agent"]["metadata"]["namespace"] == "watch"
    [source] = rendered.at("DaemonSet/pt-agent#spec.template.spec.volumes.[token].projected.sources")
    assert source["serviceAccountToken"]["audience"] == AUDIENCE


def test_all_connections_use_https_if_a_certificate_is_set() -> None:
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
        assert ca["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}], "only the server mounts the private key"
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
def test_the_socket_directory_of_each_distribution_is_mounted(distribution: str, socket: str) -> None:
    pod = render(values({"agent.containerd.distribution": distribution})).at(
        "DaemonSet/pulltrace-agent#spec.template.spec"
    )
    env = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    directory = str(Path(socket).parent)
    assert env["PULLTRACE_CONTAINERD_SOCKET"] == socket
    assert pod["volumes"][0]["hostPath"] == {"path": directory, "type": "Directory"}
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == directory


def test_no_object_contains_a_cluster_domain() -> None:
    assert "cluster.local" not in json.dumps(render(values()).objects)


def test_network_policies_use_the_ports_of_the_pods_rather_than_those_of_the_service() -> None:
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
def test_a_service_monitor_selects_only_the_service(path: str) -> None:
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


def test_a_values_file_for_chart_0_1_0_still_has_the_same_effect() -> None:
    rendered = render(load(CHART / "ci" / "v0.1.0-values.yaml"))
    agent = rendered.at("DaemonSet/pull-watch-agent#spec.template.spec")
    assert agent["containers"][0]["image"] == "registry.example.org/pulltrace-agent:0.1.0"
    assert agent["volumes"][0]["hostPath"]["path"] == "/var/run/custom"
    assert agent["tolerations"][0]["key"] == "node-role.kubernetes.io/control-plane"
    assert "server.image.tag=0.1.0 is the image of the original Go program" in rendered.notes
    assert rendered.at("Service/pull-watch-server#spec.type") == "LoadBalancer"
    assert rendered.at("Secret/pull-watch-agent-token#metadata.namespace") == "observability"
    assert rendered.at("Ingress/pull-watch#spec.rules.0.host") == "pulls.example.org"
    env = {
        item["name"]: item.get("value")
        for item in rendered.at("Deployment/pull-watch-server#spec.template.spec.containers.0.env")
    }
    assert env["PULLTRACE_WATCH_NAMESPACES"] == "default,kube-system"
    assert env["PULLTRACE_HISTORY_TTL"] == "1h"


def test_the_chart_requires_no_value_except_the_acknowledgement_of_the_risks() -> None:
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


def test_pods_run_on_linux_and_agents_avoid_virtual_nodes() -> None:
    rendered = render(values({"agent.nodeSelector": {"pool": "gpu"}}))
    linux = {"kubernetes.io/os": "linux"}
    assert rendered.at("DaemonSet/pulltrace-agent#spec.template.spec.nodeSelector") == {**linux, "pool": "gpu"}
    assert rendered.at("Deployment/pulltrace-server#spec.template.spec.nodeSelector") == linux
    assert rendered.hooks["Pod/pulltrace-test"]["spec"]["nodeSelector"] == linux
    affinity = rendered.at("DaemonSet/pulltrace-agent#spec.template.spec.affinity.nodeAffinity")
    [term] = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert {item["key"]: (item["operator"], item["values"]) for item in term["matchExpressions"]} == {
        "type": ("NotIn", ["virtual-kubelet"]),
        "eks.amazonaws.com/compute-type": ("NotIn", ["fargate"]),
    }


@pytest.mark.parametrize("enabled", [True, False])
def test_a_parent_chart_can_depend_on_this_chart_conditionally(tmp_path: Path, enabled: bool) -> None:
    parent = tmp_path / "parent"
    shutil.copytree(CHART, parent / "charts" / "pulltrace")
    dependency = {"name": "pulltrace", "version": ">=0.1.0", "condition": "pulltrace.enabled"}
    about = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(about))
    given = {"global": {"imageRegistry": "mirror.example.org"}, "pulltrace": {**ACKNOWLEDGED, "enabled": enabled}}
    with helm.Chart.load(parent) as chart:
        chart.validate_schema(given)
        rendered = Rendered(chart.render(given, name="release", namespace="ns"))
    assert ("Deployment/release-pulltrace-server" in rendered.objects) == enabled
    image = rendered.at("Deployment/release-pulltrace-server#spec.template.spec.containers.0.image")
    assert image == ("mirror.example.org/d44b/pulltrace-server:0.2.0" if enabled else None)


def test_user_defined_environment_variables_replace_those_of_the_chart() -> None:
    for component, kind in (("agent", "DaemonSet"), ("server", "Deployment")):
        rendered = render(values({f"{component}.extraEnv": [{"name": "PULLTRACE_LOG_LEVEL", "value": "debug"}]}))
        env = rendered.at(f"{kind}/pulltrace-{component}#spec.template.spec.containers.0.env")
        assert [item["value"] for item in env if item["name"] == "PULLTRACE_LOG_LEVEL"] == ["debug"]


def test_a_user_defined_probe_handler_replaces_the_default_one() -> None:
    rendered = render(values({"server.livenessProbe": {"tcpSocket": {"port": "http"}}, "server.tls.secretName": "tls"}))
    probe = rendered.at("Deployment/pulltrace-server#spec.template.spec.containers.0.livenessProbe")
    assert probe == {"tcpSocket": {"port": "http"}, "periodSeconds": 10, "timeoutSeconds": 3}


def test_setting_the_strategy_to_recreate_removes_the_default_rolling_update() -> None:
    assert render(values({"server.strategy.type": "Recreate"})).at("Deployment/pulltrace-server#spec.strategy") == {
        "type": "Recreate"
    }


@pytest.mark.parametrize("name", ["123", "a.b", "true", "v1"])
def test_any_release_name_results_in_valid_labels_and_names(name: str) -> None:
    if name == "123":
        with pytest.raises(HelmRenderError, match="--set fullnameOverride=pulltrace"):
            render(values(), name=name)
    rendered = render(values({"fullnameOverride": "pulltrace"} if name == "123" else {}), name=name)
    for document in rendered.objects.values():
        assert document["metadata"]["labels"]["app.kubernetes.io/instance"] == name
        if document["kind"] == "Service":
            assert document["spec"]["selector"]["app.kubernetes.io/instance"] == name
            assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", document["metadata"]["name"])


def test_large_numbers_remain_integers() -> None:
    given = values({"agent.podSecurityContext.runAsUser": 1000680000, "agent.terminationGracePeriodSeconds": 1000000})
    pod = render(given).at("DaemonSet/pulltrace-agent#spec.template.spec")
    assert (pod["securityContext"]["runAsUser"], pod["terminationGracePeriodSeconds"]) == (1000680000, 1000000)


def test_only_agents_can_bypass_the_login_proxy() -> None:
    rendered = render(load(CHART / "ci" / "login-values.yaml"))
    assert rendered.at("Ingress/pulltrace#spec.rules.0.http.paths.0.backend.service.port.name") == "login"
    [login] = [port for port in rendered.at("Service/pulltrace-server#spec.ports") if port["name"] == "login"]
    proxy = rendered.at("Deployment/pulltrace-server#spec.template.spec.containers.[oauth2-proxy]")
    assert login["targetPort"] == proxy["ports"][0]["name"]
    agents, others = rendered.at("NetworkPolicy/pulltrace-server#spec.ingress")
    assert [port["port"] for port in agents["ports"]] == [8080]
    assert [port["port"] for port in others["ports"]] == [proxy["ports"][0]["containerPort"]]
    assert all("podSelector" in peer for peer in agents["from"])


def test_egress_is_restricted_to_dns_the_server_and_the_api_server() -> None:
    rendered = render(values({"networkPolicy": {"enabled": True, "egress": {"enabled": True}}}))
    for name in ("agent", "test"):
        dns, server = rendered.at(f"NetworkPolicy/pulltrace-{name}#spec.egress")
        assert {(port["port"], port["protocol"]) for port in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
        assert server["to"] == [
            {"podSelector": {"matchLabels": rendered.at("Deployment/pulltrace-server#spec.selector.matchLabels")}}
        ]
        assert [port["port"] for port in server["ports"]] == [8080]
        assert rendered.at(f"NetworkPolicy/pulltrace-{name}#spec.policyTypes") == ["Ingress", "Egress"]
    _, api = rendered.at("NetworkPolicy/pulltrace-server#spec.egress")
    assert ([port["port"] for port in api["ports"]], "to" in api) == ([443, 6443], False)
