"""Tests for RBAC, tokens, watches, restarts and compaction in the API server that other tests use."""

import pytest

from tests.real.apiserver import APIError, APIServer

pytestmark = pytest.mark.cluster
NAMESPACE = "/api/v1/namespaces/default"


def config_map(name):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


@pytest.fixture
def cluster(shared_cluster):
    return shared_cluster


async def refusal(cluster, watch):
    """Return the status code with which the API server immediately rejects a watch. The code is either the status of
    the response or part of the first event.
    """
    try:
        event = await cluster.request("GET", watch)
    except APIError as refused:
        return refused.code
    return event["object"]["code"]


async def test_the_api_server_is_ready_and_returns_its_version(cluster):
    assert await cluster.request("GET", "/readyz") == "ok"
    assert (await cluster.request("GET", "/version"))["gitVersion"].startswith("v1.")


async def test_a_service_account_can_do_only_what_its_role_allows(cluster):
    await cluster.request("POST", f"{NAMESPACE}/serviceaccounts", {"metadata": {"name": "reader"}})
    token = await cluster.service_account_token("default", "reader")
    with pytest.raises(APIError, match="cannot list resource") as refused:
        await cluster.request("GET", f"{NAMESPACE}/pods", token=token)
    assert refused.value.code == 403

    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    await cluster.request("POST", f"{rbac}/roles", {"metadata": {"name": "pods"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "pods"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "pods"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}],
    }
    await cluster.request("POST", f"{rbac}/rolebindings", binding)
    await cluster.until_may("default:reader", "list", "pods", namespace="default")
    assert (await cluster.request("GET", f"{NAMESPACE}/pods", token=token))["items"] == []


async def test_a_token_review_accepts_only_tokens_that_the_server_has_issued(cluster):
    await cluster.request("POST", f"{NAMESPACE}/serviceaccounts", {"metadata": {"name": "agent"}})
    token = await cluster.service_account_token("default", "agent")
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    good = await cluster.request("POST", path, {"spec": {"token": token}})
    assert good["status"]["authenticated"]
    assert good["status"]["user"]["username"] == "system:serviceaccount:default:agent"
    bad = await cluster.request("POST", path, {"spec": {"token": token + "x"}})
    assert not bad["status"].get("authenticated")


async def test_a_client_can_write_the_status_of_a_pod_as_a_kubelet_does(cluster):
    pod = {"metadata": {"name": "web"}, "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "nginx"}]}}
    await cluster.request("POST", f"{NAMESPACE}/pods", pod)
    waiting = {"name": "app", "state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}
    status = {"status": {"containerStatuses": [waiting]}}
    path = f"{NAMESPACE}/pods/web/status"
    written = await cluster.request("PATCH", path, status, content_type="application/merge-patch+json")
    assert written["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ErrImagePull"


async def test_the_data_of_the_api_server_survives_when_the_server_is_killed(cluster):
    await cluster.request("POST", f"{NAMESPACE}/configmaps", config_map("kept"))
    await cluster.kill()
    await cluster.start()
    assert (await cluster.request("GET", f"{NAMESPACE}/configmaps/kept"))["metadata"]["name"] == "kept"


@pytest.mark.parametrize("watch_cache", [True, False], ids=["watch-cache", "no-watch-cache"])
async def test_a_watch_from_a_compacted_revision_returns_410_gone(apiserver_binary, watch_cache):
    async with APIServer(watch_cache=watch_cache) as cluster:
        before = (await cluster.request("GET", f"{NAMESPACE}/configmaps"))["metadata"]["resourceVersion"]
        await cluster.request("POST", f"{NAMESPACE}/configmaps", config_map("one"))
        await cluster.compact()
        if watch_cache:  # the watch cache keeps old events until the API server is restarted
            await cluster.kill()
            await cluster.start()
        watch = f"{NAMESPACE}/configmaps?watch=1&timeoutSeconds=5&resourceVersion={before}"
        assert await refusal(cluster, watch) == 410
