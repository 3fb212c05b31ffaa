"""Tests that the chart grants sufficient permissions, and that each missing permission is reported."""

import pytest

from pulltrace.server.kubernetes import watch
from tests.chart.rendering import render, values
from tests.server.kubernetes.watching import following

pytestmark = [pytest.mark.cluster, pytest.mark.chart]

ACCOUNT = "pulltrace:pulltrace-server"
ROLES = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture
def chart_roles(cluster, tmp_path):
    """Return a function that applies the chart's service account, roles and bindings, and returns a kubeconfig for the
    account.
    """

    async def apply(namespaces=""):
        for name in ("pulltrace", "shop", "other"):
            await cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        objects = render(values({"config.watchNamespaces": namespaces}), namespace="pulltrace").objects.values()
        for item in objects:
            kind, namespace = item["kind"], item["metadata"].get("namespace")
            if kind == "ServiceAccount":
                await cluster.request("POST", "/api/v1/namespaces/pulltrace/serviceaccounts", item)
            elif kind.endswith(("Role", "RoleBinding")):
                where = f"{ROLES}/namespaces/{namespace}" if namespace else ROLES
                await cluster.request("POST", f"{where}/{kind.lower()}s", item)
        for resource in ("pods", "events"):
            for verb in ("list", "watch"):
                await cluster.until_may(ACCOUNT, verb, resource, namespace=namespaces)
        path = tmp_path / "kubeconfig"
        path.write_text(cluster.kubeconfig_for(await cluster.service_account_token("pulltrace", "pulltrace-server")))
        return path

    return apply


@pytest.mark.parametrize("namespaces", ["", "shop"], ids=["all", "one namespace"])
async def test_the_permissions_that_the_chart_grants_are_sufficient(chart_roles, namespaces):
    kubeconfig = await chart_roles(namespaces)
    async with following(kubeconfig, (namespaces,) if namespaces else None) as it:
        await it.until(lambda it: all(it.up().values()))
        assert it.watches.problem is None


async def test_pods_in_namespaces_that_the_server_has_no_permission_to_read_are_not_shown(chart_roles):
    kubeconfig = await chart_roles("shop")
    for namespaces in (None, ("other",)):
        async with following(kubeconfig, namespaces) as it:
            await it.until(lambda it: not it.watches.not_ready)
            assert not any(it.up().values())
            assert 'cannot list resource "pods"' in it.watches.problem


@pytest.mark.parametrize("verb", ["list", "watch"])
@pytest.mark.parametrize("resource", ["pods", "events"])
async def test_each_missing_permission_is_reported(cluster, chart_roles, monkeypatch, resource, verb):
    monkeypatch.setattr(watch, "FORBIDDEN_DELAY", 0.2)
    kubeconfig = await chart_roles()
    (role,) = [
        item
        for item in (await cluster.request("GET", f"{ROLES}/clusterroles"))["items"]
        if item["metadata"]["name"].endswith("pod-reader")
    ]
    other = {"pods": "events", "events": "pods"}[resource]
    left = [verb_ for verb_ in ("list", "watch") if verb_ != verb]
    rules = [
        {"apiGroups": [""], "resources": [name], "verbs": verbs}
        for name, verbs in ((resource, left), (other, ["list", "watch"]))
    ]
    path = f"{ROLES}/clusterroles/{role['metadata']['name']}"
    await cluster.request("PATCH", path, {"rules": rules}, content_type="application/merge-patch+json")
    await cluster.until_may(ACCOUNT, verb, resource, may=False)
    async with following(kubeconfig) as it:
        await it.until(lambda it: it.watches.problem)
        assert f'cannot {verb} resource "{resource}"' in it.watches.problem
        assert f'resources: ["{resource}"], verbs: ["list", "watch"]' in it.watches.problem
        await it.until(lambda it: it.up() == {resource: False, other: True})
        assert it.watches.not_ready is None
        await cluster.request("PATCH", path, {"rules": role["rules"]}, content_type="application/merge-patch+json")
        await it.until(lambda it: all(it.up().values()) and it.watches.problem is None)
