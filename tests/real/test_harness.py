"""Tests for the registry and the containerd that other tests use."""

import asyncio

import grpc
import pytest

from pulltrace.agent.containerd_api.leases_pb2 import ListRequest, ListResourcesRequest
from pulltrace.agent.containerd_api.leases_pb2_grpc import LeasesStub
from tests.patience import PATIENCE
from tests.real.images import MIB, make_image, make_layer

pytestmark = pytest.mark.real
K8S = (("containerd-namespace", "k8s.io"),)


async def leased(node):
    """Return the resources that belong to any lease."""
    leases = LeasesStub(node.channel)
    listed = await leases.List(ListRequest(), metadata=K8S, timeout=PATIENCE)
    found = [await leases.ListResources(ListResourcesRequest(id=one.id), metadata=K8S) for one in listed.leases]
    return {(resource.type, resource.id) for answer in found for resource in answer.resources}


async def test_a_blob_is_listed_as_an_ingest_while_the_registry_holds_back_its_last_bytes(node, registry):
    image = make_image(make_layer(2 * MIB), make_layer(4 * MIB))
    last = image.layers[-1]
    ref = registry.push("team/app:1.0", image)
    registry.blob(last.digest).hold(at=3 * MIB)

    pull = asyncio.create_task(node.cri.pull(ref))
    await registry.reached(last.digest, 3 * MIB)
    assert ("ingests", f"layer-{last.digest}") in await leased(node)
    assert registry.sent[last.digest] == 3 * MIB
    registry.blob(last.digest).release()

    assert await pull == image.config.digest
    assert registry.sent[last.digest] == last.size
    assert [one.repo_tags for one in await node.cri.list()] == [[ref]]
    assert await leased(node) == set()


async def test_the_rate_limit_of_the_registry_applies_to_all_blobs_combined(node, registry):
    image = make_image(*(make_layer(MIB) for _ in range(3)))
    ref = registry.push("team/app:1.0", image)
    registry.limit(2 * MIB)
    clock = asyncio.get_running_loop().time
    begun = clock()
    await node.cri.pull(ref)
    assert clock() - begun >= 0.9 * image.size / (2 * MIB)


async def test_a_download_resumes_at_the_offset_where_its_connection_broke(node, registry):
    image = make_image(make_layer(4 * MIB))
    ref = registry.push("team/app:1.0", image)
    registry.blob(image.layers[0].digest).cut(at=2 * MIB)
    await node.cri.pull(ref)
    blobs = [(status, path) for _, path, status in registry.requests if path.endswith(image.layers[0].digest)]
    assert [status for status, _ in blobs] == [200, 206]


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "401|authorization failed|no basic auth"), (404, "not found"), (429, "429"), (500, "500")],
)
async def test_the_error_of_a_failed_pull_contains_the_error_from_the_registry(node, registry, status, words):
    ref = registry.push("team/app:1.0", make_image(make_layer(1000)))
    registry.repository("team/app").answer = status
    with pytest.raises(grpc.aio.AioRpcError, match=words):
        await node.cri.pull(ref)


async def test_the_registry_can_act_as_a_mirror_of_docker_hub(node, registry):
    registry.push("library/nginx:1.27", make_image(make_layer(1000)))
    node.trust("docker.io", registry.url)
    await node.cri.pull("docker.io/library/nginx:1.27")
    assert [one.repo_tags for one in await node.cri.list()] == [["docker.io/library/nginx:1.27"]]


async def test_a_containerd_that_was_killed_keeps_its_images(node, registry):
    ref = registry.push("team/app:1.0", make_image(make_layer(1000)))
    await node.cri.pull(ref)
    await node.kill()
    await node.start()
    assert [one.repo_tags for one in await node.cri.list()] == [[ref]]
    await node.cri.remove(ref)
    assert await node.cri.list() == []
