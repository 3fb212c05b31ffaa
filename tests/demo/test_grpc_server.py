"""Tests that call the simulated containerd's gRPC server with the agent's client and with bare stubs."""

import asyncio

import grpc
import pytest

from pulltrace.agent.containerd import Containerd, ContainerdError
from pulltrace.agent.containerd_api import content_pb2, images_pb2, leases_pb2, snapshots_pb2
from pulltrace.agent.containerd_api.content_pb2_grpc import ContentStub
from pulltrace.agent.containerd_api.images_pb2_grpc import ImagesStub
from pulltrace.agent.containerd_api.leases_pb2_grpc import LeasesStub
from pulltrace.agent.containerd_api.snapshots_pb2_grpc import SnapshotsStub
from pulltrace.agent.poller import Poller
from pulltrace.demo.grpc_server import CHUNK, Behaviour, SimulatedContainerd
from pulltrace.wire import LayerPhase, PullPhase
from tests.demo.conftest import HOST, MIB
from tests.patience import PATIENCE

K8S = {"metadata": (("containerd-namespace", "k8s.io"),), "timeout": 5}
LIST_LEASES = "/containerd.services.leases.v1.Leases/List"


@pytest.fixture
async def containerd(node, folder):
    async with SimulatedContainerd(node, folder / "containerd.sock") as running:
        yield running


@pytest.fixture
async def agent(containerd):
    async with Containerd(str(containerd.socket)) as client:
        yield client


@pytest.fixture
async def channel(containerd):
    options = [("grpc.default_authority", "localhost")]
    async with grpc.aio.insecure_channel(f"unix:{containerd.socket}", options=options) as channel:
        yield channel


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def test_the_server_returns_the_version_of_containerd(agent, node):
    assert await agent.version() == node.version


async def test_the_agent_reports_a_pull_from_its_lease_to_its_image_record(node, agent, push):
    ref, image = push("app:1", ("base", 4), ("app", 6))
    poller = Poller(agent)
    await poller.poll(node.now)
    node.pull(ref)
    phases, bytes_seen, ended = [], [], []
    while not ended:
        node.advance(0.2)
        await poller.poll(node.now)
        for state in poller.tracker.pulls():
            if not phases or phases[-1] is not state.status:
                phases.append(state.status)
            if state.total_known:
                assert [layer.digest for layer in state.layers] == [layer.blob.digest for layer in image.layers]
                bytes_seen.append(sum(layer.downloaded_bytes for layer in state.layers))
        ended = poller.tracker.ended()
    assert phases == [PullPhase.RESOLVING, PullPhase.DOWNLOADING, PullPhase.EXTRACTING]
    assert bytes_seen == sorted(bytes_seen)
    assert bytes_seen[-1] == image.size
    assert (ended[0].status, ended[0].image_ref) == (PullPhase.COMPLETED, ref)
    assert {layer.state for layer in ended[0].layers} == {LayerPhase.EXTRACTED}


async def test_the_agent_makes_only_the_documented_calls(node, agent, containerd, push):
    ref, _ = push("app:1", ("base", 4))
    poller = Poller(agent)
    node.pull(ref)
    for _ in range(20):
        node.advance(0.2)
        await poller.poll(node.now)
    assert {method.rpartition("/")[2] for method in containerd.calls} <= {
        *(
            "ListStatuses",
            "Info",
            "Read",
            "List",
            "ListResources",
            "Stat",
            "Version",
            "Plugins",
            "ImageFsInfo",
            "Subscribe",
        )
    }


async def test_content_can_be_read_whole_or_in_part_and_layers_begin_with_a_gzip_header(node, channel, push, until):
    ref, image = push("app:1", ("app", 2))
    node.pull(ref)
    until(lambda: node.store.records)

    async def read(blob, **part):
        request = content_pb2.ReadContentRequest(digest=blob.digest, **part)
        return [answer async for answer in ContentStub(channel).Read(request, **K8S)]

    assert b"".join(part.data for part in await read(image.manifest)) == image.manifest.data
    assert (await read(image.manifest, offset=3, size=5))[0].data == image.manifest.data[3:8]
    layer = await read(image.layers[0].blob)
    assert [(part.offset, len(part.data)) for part in layer] == [(0, CHUNK), (CHUNK, CHUNK)]
    assert layer[0].data[:2] == b"\x1f\x8b"


async def test_a_manifest_is_reported_as_missing_if_it_is_deleted_while_it_is_being_read(
    node, agent, containerd, push, until
):
    ref, image = push("app:1", ("app", 2))
    node.pull(ref)
    until(lambda: node.store.records)
    count_call = containerd.count_call

    async def collect_before_reading(method: str) -> None:
        if method.endswith("/Read"):
            node.store.content.pop(image.manifest.digest)
        await count_call(method)

    containerd.count_call = collect_before_reading
    assert await agent.document(image.manifest.digest) is None


async def test_the_server_returns_an_error_for_a_missing_object_and_for_an_invalid_request(channel):
    digest = "sha256:" + "0" * 64
    not_found, invalid = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT
    content, snapshots = ContentStub(channel), SnapshotsStub(channel)
    assert await refused(content.Info(content_pb2.InfoRequest(digest=digest), **K8S)) is not_found
    resources = leases_pb2.ListResourcesRequest(id="nobody")
    assert await refused(LeasesStub(channel).ListResources(resources, **K8S)) is not_found
    stat = snapshots_pb2.StatSnapshotRequest
    assert await refused(snapshots.Stat(stat(snapshotter="overlayfs", key=digest), **K8S)) is not_found
    assert await refused(snapshots.Stat(stat(snapshotter="zfs", key=digest), **K8S)) is invalid
    images = images_pb2.ListImagesRequest(filters=["name~=app"])
    assert await refused(ImagesStub(channel).List(images, **K8S)) is invalid
    read = content.Read(content_pb2.ReadContentRequest(digest=digest), **K8S)
    with pytest.raises(grpc.aio.AioRpcError, match="not found"):
        [part async for part in read]


async def test_images_are_found_by_their_target_digest(node, agent, push, until):
    ref, image = push("app:1", ("app", 2))
    node.pull(ref)
    until(lambda: node.store.records)
    names = {record.name for record in await agent.images(image.index.digest)}
    assert names == {ref, f"{HOST}/app@{image.index.digest}", image.config.digest}
    assert await agent.images(image.manifest.digest) == []


async def test_a_call_without_a_namespace_fails_and_other_namespaces_are_empty(node, channel, push):
    node.pull(push("app:1", ("app", 2))[0])
    leases = LeasesStub(channel)
    assert await refused(leases.List(leases_pb2.ListRequest())) is grpc.StatusCode.FAILED_PRECONDITION
    other = await leases.List(leases_pb2.ListRequest(), metadata=(("containerd-namespace", "moby"),))
    assert not other.leases
    assert len((await leases.List(leases_pb2.ListRequest(), **K8S)).leases) == 1


async def test_a_call_to_an_unknown_method_returns_unimplemented_and_is_counted(channel, containerd):
    method = "/containerd.services.content.v1.Content/Delete"
    call = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
    assert await refused(call(b"", **K8S)) is grpc.StatusCode.UNIMPLEMENTED
    assert containerd.calls[method] == 1


async def test_pending_calls_complete_once_a_silent_server_responds_again(agent, containerd):
    await agent.version()
    containerd.behave(Behaviour.SILENT)
    call = asyncio.create_task(agent.leases())
    await containerd.called(LIST_LEASES)
    assert not call.done()
    containerd.behave(Behaviour.NORMAL)
    assert await call == []


async def test_the_agent_raises_an_error_for_an_invalid_response(agent, containerd):
    containerd.behave(Behaviour.INVALID)
    with pytest.raises(ContainerdError):
        await agent.leases()
    containerd.behave(Behaviour.NORMAL)
    assert await agent.leases() == []


async def test_a_containerd_restarted_after_a_kill_still_has_its_old_leases(node, agent, containerd, push):
    node.pull(push("app:1", ("app", 40))[0])
    node.advance(2)
    poller = Poller(agent)
    await poller.poll(node.now)
    (before,) = poller.tracker.pulls()
    await containerd.kill()
    assert not containerd.socket.exists()
    with pytest.raises(ContainerdError):
        await poller.poll(node.now)
    await containerd.start()
    node.advance(1)
    await answered(agent)
    await poller.poll(node.now)
    assert [state.status for state in poller.tracker.ended()] == [PullPhase.FAILED]
    assert poller.tracker.pulls() == [], "the stale lease does not count as a pull"
    assert [lease.id for lease in await agent.leases()] == [before.id]
    assert [ingest.offset > MIB for ingest in await agent.ingests()] == [True]


async def answered(agent):
    """Wait until gRPC has reconnected."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await agent.version()
            except ContainerdError:
                await asyncio.sleep(0.05)


async def test_the_server_can_be_closed_twice(containerd):
    await containerd.close()
    await containerd.close()
