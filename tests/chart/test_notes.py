"""Tests for the notes that Helm prints after an installation."""

from typing import Any

import pytest

from tests.chart.rendering import render, values

pytestmark = pytest.mark.chart

NOTES = [
    pytest.param(
        {},
        [
            "an agent runs on every Linux node",
            "each agent reports only for its own node",
            "port-forward svc/pulltrace-server",
        ],
        id="default",
    ),
    pytest.param({"agent.auth.mode": "token"}, ["was generated and is kept across upgrades"], id="a generated token"),
    pytest.param({"agent.runtimeSocket.enabled": False}, ["NO AGENT is installed"], id="no agent"),
    pytest.param({"agent.auth.mode": "none"}, ["reports are OPEN"], id="open reports"),
    pytest.param({"agent.auth.token": "x"}, ["has the token of your values"], id="a given token"),
    pytest.param({"agent.auth.existingSecret": "mine"}, ["in Secret mine, key token"], id="an existing secret"),
    pytest.param({"server.replicas": 0}, ["NO SERVER is running"], id="no server"),
    pytest.param({"agent.containerd.distribution": "k3s"}, ["/run/k3s/containerd/containerd.sock"], id="k3s"),
    pytest.param({"rbac.create": False}, ["only the permissions that you grant"], id="no roles"),
    pytest.param(
        {"networkPolicy.enabled": True, "ingress.enabled": True, "ingress.hosts": [{"host": "a.org"}]},
        ["blocks ALL namespaces", "http://a.org/"],
        id="an ingress behind a closed policy",
    ),
    pytest.param(
        {"ingress.enabled": True, "ingress.hosts": [{"host": ""}]},
        ["http://<the Ingress' address>/"],
        id="an ingress for every host",
    ),
    pytest.param(
        {
            "networkPolicy.enabled": True,
            "server.service": {"type": "LoadBalancer", "exposureAcknowledged": True},
            "metrics.serviceMonitor.enabled": True,
        },
        ["blocks clients of the LoadBalancer", "the NetworkPolicy blocks Prometheus"],
        id="a policy that blocks the intended clients",
    ),
    pytest.param(
        {"server.tls.secretName": "tls", "ingress.enabled": True, "ingress.hosts": [{"host": "a.org"}]},
        ["the server uses HTTPS: set the backend protocol of the Ingress", "http://a.org/"],
        id="HTTPS behind an ingress",
    ),
    pytest.param(
        {"server.tls.secretName": "tls", "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}},
        ["the server uses HTTPS: configure the Gateway with a BackendTLSPolicy"],
        id="HTTPS behind a gateway",
    ),
    pytest.param({"namespace": "other"}, ["kubectl -n other port-forward"], id="another namespace"),
    pytest.param({"config.watchNamespaces": "a,b"}, ["sees the pods in a, b"], id="some namespaces"),
]


@pytest.mark.parametrize(("given", "expected"), NOTES)
def test_the_notes_describe_the_installed_release(given: dict[str, Any], expected: list[str]) -> None:
    notes = render(values(given)).notes
    for sentence in expected:
        assert sentence in notes
    assert ("an agent runs on every Linux node" in notes) == given.get("agent.runtimeSocket.enabled", True)
    assert "original Go program" not in notes


@pytest.mark.parametrize("tag", ["0.1.0", "v0.1.0", "0.1"])
def test_the_notes_contain_a_warning_about_images_of_the_original_go_program(tag: str) -> None:
    notes = render(values({"agent.image.tag": tag})).notes
    assert f"agent.image.tag={tag} is the image of the original Go program" in notes
    assert "server.image.tag" not in notes
    assert "original Go program" not in render(values({"agent.image.tag": "0.10.0"})).notes
