"""Tests with a real containerd whose CRI service pulls images from a registry that the tests control."""

import asyncio

import grpc
import pytest

from pulltrace.wire import LayerPhase, PullPhase
from tests.agent.follow import Follow, downloaded, layers, to_fetch
from tests.real.containerd import Containerd
from tests.real.images import MIB, make_image, make_layer
from tests.real.registry import Registry

pytestmark = pytest.mark.real

DONE = {LayerPhase.EXTRACTED, LayerPhase.CACHED}


def percent_never_falls(history):
    shown = [downloaded(pull) / to_fetch(pull) for pull in history if pull.total_known and to_fetch(pull)]
    return shown == sorted(shown)


async def test_three_images_that_share_a_base_layer_are_reported_as_three_pulls(
    node: Containerd, registry: Registry
) -> None:
    base = make_layer(3 * MIB)
    own = {name: [make_layer(size * MIB), make_layer(MIB)] for name, size in (("a", 2), ("b", 2), ("c", 7))}
    images = {name: make_image(base, *extra) for name, extra in own.items()}
    refs = {name: registry.push(f"team/{name}:1.0", image) for name, image in images.items()}
    registry.limit(4 * MIB)
    async with Follow(node.socket) as follow:
        await asyncio.gather(*(node.cri.pull(ref) for ref in refs.values()))
        await follow.after_polls(2)
        assert not follow.live
        for name, ref in refs.items():
            pull = follow.ended_as(ref)
            history = follow.history[pull.id]
            assert pull.status is PullPhase.COMPLETED
            assert pull.repository == f"team/{name}"
            assert [layer.digest for layer in pull.layers] == [layer.digest for layer in images[name].layers]
            size = sum(layer.size for layer in images[name].layers)
            assert {to_fetch(seen) for seen in history if seen.total_known} == {size}
            assert downloaded(pull) == size
            assert percent_never_falls(history)
            assert {layer.state for layer in pull.layers} == {LayerPhase.EXTRACTED}
            assert any(seen.status is PullPhase.DOWNLOADING and downloaded(seen) for seen in history)
        fetchers = [layers(follow.ended_as(ref))[base.digest].fetched_by for ref in refs.values()]
        assert fetchers.count(None) == 1, "one pull fetched the shared layer, and the others name that pull"


async def test_reported_bytes_never_exceed_the_bytes_that_the_registry_has_sent(
    node: Containerd, registry: Registry
) -> None:
    layer = make_layer(6 * MIB)
    ref = registry.push("team/app:1", make_image(layer))
    registry.limit(3 * MIB)
    async with Follow(node.socket) as follow:
        pulling = asyncio.create_task(node.cri.pull(ref))
        while not pulling.done():
            for pull in follow.live:
                assert downloaded(pull) <= registry.sent[layer.digest]
            await asyncio.wait([pulling], timeout=0.05)
        await pulling


async def test_an_unpacked_layer_is_shown_with_the_start_and_end_times_of_unpacking(
    node: Containerd, registry: Registry
) -> None:
    ref = registry.push("team/big:1", make_image(make_layer(MIB, zeros=500 * MIB)))
    async with Follow(node.socket) as follow:
        await node.cri.pull(ref)
        await follow.after_polls(2)
        pull = follow.ended_as(ref)
        assert any(seen.status is PullPhase.EXTRACTING for seen in follow.history[pull.id])
        (layer,) = pull.layers
        assert layer.state is LayerPhase.EXTRACTED
        assert layer.completed_at <= layer.extract_started_at <= layer.extracted_at <= pull.completed_at


async def test_a_pull_of_a_cached_image_completes_without_downloading_anything(
    node: Containerd, registry: Registry
) -> None:
    image = make_image(make_layer(MIB), make_layer(2 * MIB))
    await node.cri.pull(registry.push("team/app:1", image))
    again = registry.push("team/app:2", image)
    sent = dict(registry.sent)
    repository = registry.repository("team/app")
    async with Follow(node.socket) as follow:
        repository.hold()
        pulling = asyncio.create_task(node.cri.pull(again))
        await follow.until(lambda: follow.live)
        assert follow.live[0].status is PullPhase.RESOLVING
        repository.release()
        await pulling
        await follow.after_polls(2)
        (pull,) = follow.ended.values()
        assert pull.status is PullPhase.COMPLETED
        assert {digest: registry.sent[digest] for digest in sent} == sent
        assert downloaded(pull) == 0 == to_fetch(pull)


async def test_two_cached_images_that_are_pulled_again_between_two_polls_are_reported_as_completed(
    node: Containerd, registry: Registry
) -> None:
    refs = [registry.push(f"team/{name}:1", make_image(make_layer(MIB))) for name in "ab"]
    repositories = [registry.repository(f"team/{name}") for name in "ab"]
    for ref, repository in zip(refs, repositories, strict=True):
        await node.cri.pull(ref)
        repository.hold()
    async with Follow(node.socket) as follow:
        pulling = [asyncio.create_task(node.cri.pull(ref)) for ref in refs]
        await follow.until(lambda: len(follow.live) == 2)
        async with follow.paused():
            for repository in repositories:
                repository.release()
            await asyncio.gather(*pulling)
        await follow.after_polls(1)
        ended = {pull.image_ref: (pull.status, pull.ref_guessed) for pull in follow.ended.values()}
        assert ended == dict.fromkeys(refs, (PullPhase.COMPLETED, True))


async def test_a_pull_of_a_partly_cached_image_counts_only_the_missing_bytes(
    node: Containerd, registry: Registry
) -> None:
    base, top = make_layer(3 * MIB), make_layer(2 * MIB)
    await node.cri.pull(registry.push("team/base:1", make_image(base)))
    ref = registry.push("team/app:1", make_image(base, top))
    registry.limit(2 * MIB)
    async with Follow(node.socket) as follow:
        await node.cri.pull(ref)
        await follow.after_polls(2)
        pull = follow.ended_as(ref)
        assert {to_fetch(seen) for seen in follow.history[pull.id] if seen.total_known} == {top.size}
        assert layers(pull)[base.digest].state is LayerPhase.CACHED
        assert layers(pull)[base.digest].cached_bytes == base.size
        assert downloaded(pull) == top.size


async def test_a_cancelled_pull_counts_as_failed_and_is_no_longer_live(node: Containerd, registry: Registry) -> None:
    layer = make_layer(4 * MIB)
    ref = registry.push("team/app:1", make_image(layer))
    registry.blob(layer.digest).hold(at=2 * MIB)
    async with Follow(node.socket) as follow:
        pulling = asyncio.create_task(node.cri.pull(ref))
        await follow.until(lambda: follow.live and downloaded(follow.live[0]) >= MIB)
        pulling.cancel()
        await follow.until(lambda: follow.ended)
        (pull,) = follow.ended.values()
        assert pull.status is PullPhase.FAILED
        assert pull.error
        assert downloaded(pull) < layer.size
        assert {layer.state for layer in pull.layers} == {LayerPhase.FAILED}
        await follow.after_polls(5)
        assert not follow.live
    registry.blob(layer.digest).release()


async def test_concurrent_pulls_of_two_tags_of_the_same_repository_get_their_own_names(
    node: Containerd, registry: Registry
) -> None:
    refs = [registry.push(f"team/app:{tag}", make_image(make_layer(2 * MIB))) for tag in ("1", "2")]
    registry.limit(3 * MIB)
    async with Follow(node.socket) as follow:
        await asyncio.gather(*map(node.cri.pull, refs))
        await follow.after_polls(2)
        assert {pull.image_ref for pull in follow.ended.values()} == set(refs)
        assert not any(pull.ref_guessed for pull in follow.ended.values())


async def test_a_pull_by_digest_is_named_by_its_digest(node: Containerd, registry: Registry) -> None:
    image = make_image(make_layer(2 * MIB))
    tagged = registry.push("team/app:1", image)
    ref = f"{tagged.rpartition(':')[0]}@{image.digest}"
    registry.limit(2 * MIB)
    async with Follow(node.socket) as follow:
        await node.cri.pull(ref)
        await follow.after_polls(2)
        assert follow.ended_as(ref).status is PullPhase.COMPLETED


async def test_an_agent_follows_a_pull_that_began_before_the_agent_started(
    node: Containerd, registry: Registry
) -> None:
    first, second = make_layer(MIB), make_layer(5 * MIB)
    image = make_image(first, second)
    ref = registry.push("team/app:1", image)
    registry.blob(second.digest).hold(at=3 * MIB)
    pulling = asyncio.create_task(node.cri.pull(ref))
    await registry.reached(second.digest, 3 * MIB)
    async with Follow(node.socket) as follow:
        await follow.until(lambda: follow.live and downloaded(follow.live[0]))
        pull = follow.live[0]
        assert pull.repository == "team/app"
        assert to_fetch(pull) == first.size + second.size
        registry.blob(second.digest).release()
        await pulling
        await follow.after_polls(2)
        assert follow.ended_as(ref).status is PullPhase.COMPLETED


async def test_a_pull_fails_if_its_reference_cannot_be_resolved(node: Containerd, registry: Registry) -> None:
    ref = registry.push("team/app:1", make_image(make_layer(MIB)))
    repository = registry.repository("team/app")
    repository.hold()
    async with Follow(node.socket) as follow:
        pulling = asyncio.create_task(node.cri.pull(ref))
        await follow.until(lambda: follow.live)
        repository.answer = 404
        repository.release()
        with pytest.raises(grpc.aio.AioRpcError):
            await pulling
        await follow.until(lambda: not follow.live)
        assert {pull.status for pull in follow.ended.values()} == {PullPhase.FAILED}


async def test_killing_containerd_ends_the_pull_and_the_next_one_resumes_the_download(
    node: Containerd, registry: Registry
) -> None:
    layer = make_layer(6 * MIB)
    ref = registry.push("team/app:1", make_image(layer))
    registry.blob(layer.digest).hold(at=3 * MIB)
    async with Follow(node.socket) as follow:
        pulling = asyncio.create_task(node.cri.pull(ref))
        await follow.until(lambda: follow.live and downloaded(follow.live[0]) >= 2 * MIB)
        await node.kill()
        await asyncio.wait([pulling])
        await node.start()
        await follow.until(lambda: follow.ended)
        (dead,) = follow.ended.values()
        assert dead.status is PullPhase.FAILED
        assert "containerd restarted" in dead.error
        await follow.after_polls(3)
        assert not follow.live, "the lease still exists, but no longer counts as a pull"
        registry.blob(layer.digest).release()
        registry.limit(2 * MIB)
        await node.cri.pull(ref)
        await follow.after_polls(2)
        pull = follow.ended_as(ref)
        (seen,) = pull.layers
        assert seen.downloaded_bytes + seen.cached_bytes == layer.size
        assert pull.id != dead.id


async def test_an_agent_that_starts_after_containerd_has_been_killed_shows_only_the_new_pull(
    node: Containerd, registry: Registry
) -> None:
    layer = make_layer(6 * MIB)
    ref = registry.push("team/app:1", make_image(layer))
    registry.blob(layer.digest).hold(at=3 * MIB)
    pulling = asyncio.create_task(node.cri.pull(ref))
    await registry.reached(layer.digest, 2 * MIB)
    await node.kill()
    await asyncio.wait([pulling])
    await node.start()
    async with Follow(node.socket) as follow:
        await follow.after_polls(3)
        assert not follow.history, "the lease still exists"
    registry.blob(layer.digest).release()
    registry.blob(layer.digest).hold(at=5 * MIB)
    pulling = asyncio.create_task(node.cri.pull(ref))
    await registry.reached(layer.digest, 4 * MIB)
    async with Follow(node.socket) as follow:
        await follow.until(lambda: follow.live)
        assert len(follow.live) == 1
        registry.blob(layer.digest).release()
        await pulling
        await follow.after_polls(2)
        assert [pull.image_ref for pull in follow.ended.values()] == [ref]


async def test_an_idle_agent_does_not_show_finished_pulls(node: Containerd, registry: Registry) -> None:
    await node.cri.pull(registry.push("team/app:1", make_image(make_layer(MIB))))
    async with Follow(node.socket) as follow:
        await follow.after_polls(4)
        assert not follow.live
        assert not follow.ended
