"""Tests with a real containerd that has unusual settings, fails, or is used in unusual ways."""

import asyncio
import re
from contextlib import suppress
from typing import Any

import aiohttp
import grpc
import pytest

from pulltrace.wire import LayerPhase, PullPhase
from tests.agent.follow import Follow, downloaded, layers, to_fetch
from tests.agent.test_process import READ_ONLY
from tests.e2e.programs import Program
from tests.real.containerd import Containerd
from tests.real.images import MIB, make_image, make_layer
from tests.real.process import free_port
from tests.real.registry import Registry

pytestmark = pytest.mark.real


async def test_layers_wait_if_only_one_download_at_a_time_is_allowed(start_node, registry: Registry) -> None:
    node = await start_node(images="max_concurrent_downloads = 1")
    image = make_image(*(make_layer(2 * MIB) for _ in range(3)))
    ref = registry.push("team/app:1", image)
    for layer in image.layers:
        registry.blob(layer.digest).hold(at=MIB)

    def one_waits() -> bool:
        states = {layer.state for pull in follow.live for layer in pull.layers or ()}
        return {LayerPhase.WAITING, LayerPhase.DOWNLOADING} <= states

    async with Follow(node.socket) as follow:
        pulling = asyncio.create_task(node.cri.pull(ref))
        await follow.until(one_waits)
        for layer in image.layers:
            registry.blob(layer.digest).release()
        await pulling
        await follow.after_polls(2)
        pull = follow.ended_as(ref)
        assert downloaded(pull) == sum(layer.size for layer in image.layers)
        states = [[layer.state for layer in seen.layers] for seen in follow.history[pull.id] if seen.total_known]
        # Since containerd 2.1, a different setting limits the whole node.
        if not node.version.lstrip("v").startswith("2."):
            assert all(seen.count(LayerPhase.DOWNLOADING) <= 1 for seen in states)


async def test_layers_are_counted_as_downloaded_even_if_containerd_discards_them(
    start_node, registry: Registry
) -> None:
    node = await start_node(discard_unpacked_layers=True)
    base, top = make_layer(4 * MIB), make_layer(3 * MIB)  # containerd writes 1 MiB at a time
    async with Follow(node.socket) as follow:
        for name, image, fetched in (("base", make_image(base), base), ("app", make_image(base, top), top)):
            ref = registry.push(f"team/{name}:1", image)
            # The registry holds back the layer until a poll has seen its download.
            registry.blob(fetched.digest).hold(at=fetched.size // 2)
            pulling = asyncio.create_task(node.cri.pull(ref))
            await follow.until(lambda: follow.live and downloaded(follow.live[0]))
            registry.blob(fetched.digest).release()
            await pulling
            await follow.until(lambda ref=ref: any(pull.image_ref == ref for pull in follow.ended.values()))
            pull = follow.ended_as(ref)
            assert (pull.status, downloaded(pull), to_fetch(pull)) == (PullPhase.COMPLETED, fetched.size, fetched.size)
        assert layers(pull)[base.digest].cached_bytes == base.size


async def test_only_the_layers_for_this_platform_are_reported(node: Containerd, registry: Registry) -> None:
    mine = make_image(make_layer(2 * MIB), make_layer(MIB))
    other = make_image(make_layer(9 * MIB), architecture="s390x")
    ref = registry.push("team/app:1", other, mine)
    registry.limit(2 * MIB)
    async with Follow(node.socket) as follow:
        await node.cri.pull(ref)
        await follow.after_polls(2)
        pull = follow.ended_as(ref)
        assert pull.manifest_digest == mine.digest
        assert [layer.digest for layer in pull.layers] == [layer.digest for layer in mine.layers]
        assert {to_fetch(seen) for seen in follow.history[pull.id] if seen.total_known} == {downloaded(pull)}


async def test_progress_resumes_after_the_registry_has_stalled(node: Containerd, registry: Registry) -> None:
    layer = make_layer(5 * MIB)
    ref = registry.push("team/app:1", make_image(layer))
    registry.blob(layer.digest).hold(at=3 * MIB)
    async with Follow(node.socket) as follow:
        pulling = asyncio.create_task(node.cri.pull(ref))
        await follow.until(lambda: follow.live and downloaded(follow.live[0]) >= 2 * MIB)
        before = downloaded(follow.live[0])
        await follow.after_polls(10)
        (pull,) = follow.live
        assert (pull.status, pull.layers[0].state) == (PullPhase.DOWNLOADING, LayerPhase.DOWNLOADING)
        assert before <= downloaded(pull) <= 3 * MIB
        registry.blob(layer.digest).release()
        await pulling
        await follow.after_polls(2)
        assert downloaded(follow.ended_as(ref)) == layer.size


async def test_pulling_the_same_reference_twice_concurrently_results_in_two_pulls_and_one_download(
    node: Containerd, registry: Registry
) -> None:
    image = make_image(make_layer(4 * MIB), make_layer(MIB))
    ref = registry.push("team/app:1", image)
    registry.blob(image.layers[0].digest).hold(at=2 * MIB)
    async with Follow(node.socket) as follow:
        first = asyncio.create_task(node.cri.pull(ref))
        await follow.until(lambda: follow.live)
        second = asyncio.create_task(node.cri.pull(ref))
        await follow.until(lambda: len(follow.live) == 2)
        registry.blob(image.layers[0].digest).release()
        await asyncio.gather(first, second)
        await follow.until(lambda: not follow.live)
        seen = {key: [(pull.status, pull.image_ref) for pull in states][-3:] for key, states in follow.history.items()}
        assert [pull.image_ref for pull in follow.ended.values()] == [ref, ref], seen
        assert {pull.status for pull in follow.ended.values()} == {PullPhase.COMPLETED}
        own = [layer for pull in follow.ended.values() for layer in pull.layers if not layer.fetched_by]
        assert sum(layer.downloaded_bytes for layer in own) == sum(layer.size for layer in image.layers)


async def test_layers_are_counted_as_cached_if_they_arrive_while_the_pull_is_waiting_for_its_manifest(
    node: Containerd, registry: Registry
) -> None:
    image = make_image(make_layer(4 * MIB), make_layer(MIB))
    first, second = registry.push("team/one:1", image), registry.push("team/two:1", image)
    registry.blob(image.layers[0].digest).hold(at=2 * MIB)
    registry.repository("team/two").hold()
    async with Follow(node.socket) as follow:
        pulling = asyncio.create_task(node.cri.pull(first))
        await follow.until(lambda: follow.live and downloaded(follow.live[0]) >= MIB)
        waiting = asyncio.create_task(node.cri.pull(second))
        await follow.until(lambda: len(follow.live) == 2)
        registry.blob(image.layers[0].digest).release()
        await pulling
        await follow.after_polls(2)
        registry.repository("team/two").release()
        await waiting
        await follow.until(lambda: not follow.live)
        size = sum(layer.size for layer in image.layers)
        assert (downloaded(follow.ended_as(first)), downloaded(follow.ended_as(second))) == (size, 0)
        assert to_fetch(follow.ended_as(second)) == 0


async def test_pulling_an_unchanged_tag_again_downloads_nothing(node: Containerd, registry: Registry) -> None:
    image = make_image(make_layer(MIB))
    ref = registry.push("team/app:1", image)
    await node.cri.pull(ref)
    repository = registry.repository("team/app")
    async with Follow(node.socket) as follow:
        repository.hold()
        pulling = asyncio.create_task(node.cri.pull(ref))
        await follow.until(lambda: follow.live)
        repository.release()
        await pulling
        await follow.after_polls(2)
        pull = follow.ended_as(ref)
        assert (pull.status, to_fetch(pull), downloaded(pull)) == (PullPhase.COMPLETED, 0, 0)
        assert [layer.cached_bytes for layer in pull.layers] == [layer.size for layer in image.layers]


async def test_an_image_that_is_pulled_again_after_its_removal_is_fetched_again(
    node: Containerd, registry: Registry
) -> None:
    layer = make_layer(3 * MIB)
    ref = registry.push("team/app:1", make_image(layer))
    registry.limit(3 * MIB)
    async with Follow(node.socket) as follow:
        for _ in range(2):
            await node.cri.pull(ref)
            await follow.after_polls(2)
            await node.cri.remove(ref)
        assert [downloaded(pull) for pull in follow.ended.values()] == [layer.size] * 2


async def test_stopping_containerd_ends_the_pull_and_the_agent_reports_the_next_pull(
    node: Containerd, registry: Registry
) -> None:
    layer = make_layer(4 * MIB)
    ref = registry.push("team/app:1", make_image(layer))
    registry.blob(layer.digest).hold(at=2 * MIB)
    async with Follow(node.socket) as follow:
        pulling = asyncio.create_task(node.cri.pull(ref))
        await follow.until(lambda: follow.live and downloaded(follow.live[0]) >= MIB)
        await node.stop()
        with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            await pulling
        await node.start()
        await follow.until(lambda: follow.ended)
        (pull,) = follow.ended.values()
        assert pull.status is PullPhase.FAILED
        await follow.after_polls(2)
        assert not follow.live
        registry.blob(layer.digest).release()
        registry.limit(4 * MIB)
        await node.cri.pull(ref)
        await follow.after_polls(2)
        assert follow.ended_as(ref).status is PullPhase.COMPLETED


async def test_a_pull_through_a_mirror_keeps_its_original_name(node: Containerd, registry: Registry) -> None:
    node.trust("docker.io", registry.url)
    layer = make_layer(3 * MIB)
    registry.push("library/nginx:1.27", make_image(layer))
    registry.blob(layer.digest).hold(at=MIB)
    async with Follow(node.socket) as follow:
        pulling = asyncio.create_task(node.cri.pull("docker.io/library/nginx:1.27"))
        await follow.until(lambda: follow.live and follow.live[0].repository)
        assert (follow.live[0].registry, follow.live[0].image_ref) == ("docker.io", "docker.io/library/nginx")
        registry.blob(layer.digest).release()
        await pulling
        await follow.after_polls(2)
        assert follow.ended_as("docker.io/library/nginx:1.27").status is PullPhase.COMPLETED


async def test_all_calls_that_containerd_counts_for_the_agent_are_read_only(
    start_node: Any, registry: Registry
) -> None:
    port = free_port()
    node = await start_node(metrics=f"127.0.0.1:{port}")
    layer = make_layer(3 * MIB)
    ref = registry.push("team/app:1", make_image(layer))
    registry.limit(3 * MIB)
    agent = Program("agent", NODE_NAME="a", CONTAINERD_SOCKET=str(node.socket), REPORT_INTERVAL="500ms")
    async with agent:
        await agent.says("containerd found")
        await node.cri.pull(ref)
        await agent.says("pull.completed")
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/v1/metrics") as answer:
            metrics = await answer.text()
    # containerd does not count a streaming call as handled until the call has ended, so the test also counts started
    # calls.
    pattern = r'^grpc_server_(?:started|handled)_total\{.*?grpc_method="(\w+)",grpc_service="([\w.]+)".*?\} [1-9]'
    called = {f"/{service}/{method}" for method, service in re.findall(pattern, metrics, re.MULTILINE)}
    # The tests' CRI client also calls methods of runtime.v1, which the test ignores.
    assert {call for call in called if "runtime.v1" not in call} == {
        call for call in READ_ONLY if "runtime.v1" not in call
    }
