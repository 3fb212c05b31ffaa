"""How pulls by real snapshotters are reported: soci-snapshotter in its parallel mode, and stargz-snapshotter."""

import asyncio
import os
from contextlib import AsyncExitStack

import pytest

from pulltrace.agent.soci_root import SociRoot
from pulltrace.wire import SNAPSHOTTER, LayerPhase, PullPhase
from tests.agent.follow import Follow, downloaded, to_fetch
from tests.real.containerd import Containerd
from tests.real.fixtures import require_containerd
from tests.real.images import MIB, make_image, make_layer
from tests.real.snapshotters import Soci, Stargz, make_streamable
from tests.real.versions import SOCI, STARGZ

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

LINES = ["1.7", "2.4"]

SECONDS = float(os.environ.get("PULL_SECONDS", "8"))
"""Seconds that a pull by SOCI takes. `make snapshotters` sets a minute, in which any stall would be reported."""


@pytest.fixture
async def start_soci(registry, tmp_path):
    """Return a factory of containerds whose default snapshotter is SOCI in its parallel mode."""
    if not SOCI.path.exists():
        pytest.skip("no soci-snapshotter here; `make parts` builds it (needs Go)")
    async with AsyncExitStack() as stack:

        async def start(line, *, discard):
            node = Containerd(require_containerd(line), proxy="soci", client=True)
            node.trust(registry.host, registry.url)
            await stack.enter_async_context(Soci(node, registry.host, discard=discard))
            return await stack.enter_async_context(node)

        yield start


@pytest.fixture(params=LINES)
async def stargz(request, registry):
    """A containerd whose default snapshotter is stargz."""
    if not STARGZ.path.exists():
        pytest.skip("no stargz-snapshotter here; `make parts` builds it (needs Go)")
    node = Containerd(require_containerd(request.param), proxy="stargz", client=True)
    node.trust(registry.host, registry.url)
    async with Stargz(node, registry.host), node:
        yield node


def remote_bytes(pull):
    return sum(layer.total_bytes for layer in pull.layers if layer.state is LayerPhase.REMOTE)


def cached_bytes(pull):
    return sum(layer.cached_bytes for layer in pull.layers)


async def test_containerd_lists_its_snapshotters_before_any_pull(start_soci):
    node = await start_soci("2.4", discard=True)
    async with Follow(node.socket) as follow:
        await follow.after_polls(1)
        serving = follow.tracker.serving
    assert serving.name == "soci"
    assert serving._loaded.remote == ["soci"]
    assert serving._loaded.roots["soci"] == str(node.proxy_root)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("discard", [True, False], ids=["discard", "keep"])
async def test_a_pull_by_soci_is_running_until_it_is_complete_even_for_an_agent_that_starts_later(
    start_soci, registry, line, discard
):
    node = await start_soci(line, discard=discard)
    image = make_image(make_layer(2 * MIB), make_layer(3 * MIB), make_layer(12 * MIB))
    ref = registry.push("team/gpu:1", image)
    registry.limit(image.size / SECONDS)
    async with Follow(node.socket) as first:
        pulling = asyncio.create_task(node.cri.pull(ref))
        await first.until(lambda: registry.sent.total() > 0.4 * image.size, seconds=SECONDS + 30)
        async with Follow(node.socket) as second:
            while not pulling.done():
                await first.after_polls(1)
                for follow in (first, second):
                    for pull in follow.live:
                        assert pull.status in (PullPhase.RESOLVING, PullPhase.DOWNLOADING, PullPhase.EXTRACTING)
                        assert cached_bytes(pull) == remote_bytes(pull) == 0
            await pulling
            for follow in (first, second):
                await follow.until(lambda follow=follow: follow.ended)
                pull = follow.ended_as(ref)
                assert pull.status is PullPhase.COMPLETED
                assert pull.snapshotter == "soci"
                assert (downloaded(pull), cached_bytes(pull), remote_bytes(pull)) == (image.size, 0, 0)
                assert {layer.state for layer in pull.layers} == {LayerPhase.EXTRACTED}
                assert {layer.fetched_by for layer in pull.layers} == {SNAPSHOTTER}
                assert len({seen.id for seen in follow.ended.values()}) == 1


async def test_the_next_image_has_its_shared_layers_cached(start_soci, registry):
    node = await start_soci("2.4", discard=True)
    shared, own = [make_layer(MIB) for _ in range(4)], make_layer(2 * MIB)
    await node.cri.pull(registry.push("team/one:1", make_image(*shared, make_layer(MIB))))
    ref = registry.push("team/two:1", make_image(*shared, own))
    registry.limit(MIB)
    async with Follow(node.socket) as follow:
        await node.cri.pull(ref)
        await follow.until(lambda: follow.ended)
        pull = follow.ended_as(ref)
    assert (downloaded(pull), cached_bytes(pull)) == (own.size, sum(layer.size for layer in shared))


async def test_with_socis_root_directory_every_byte_is_counted(start_soci, registry):
    node = await start_soci("2.4", discard=True)
    image = make_image(make_layer(2 * MIB), make_layer(4 * MIB), make_layer(16 * MIB))
    ref = registry.push("team/gpu:1", image)
    registry.limit(image.size / SECONDS)
    shares = []
    async with Follow(node.socket, soci_root=SociRoot(str(node.proxy_root))) as follow:
        pulling = asyncio.create_task(node.cri.pull(ref))
        while not pulling.done():
            await follow.after_polls(1)
            truth = registry.sent.total() / image.size
            shares += [(downloaded(pull) / to_fetch(pull), truth) for pull in follow.live if pull.total_known]
        await pulling
        await follow.until(lambda: follow.ended)
        pull = follow.ended_as(ref)
    assert len(shares) > 20
    assert max(abs(shown - truth) for shown, truth in shares) < 0.1, "the polls are a fifth of a second apart"
    assert downloaded(pull) == image.size
    assert {layer.fetched_by for layer in pull.layers} == {None}


async def test_streamed_layers_are_neither_downloaded_nor_cached(stargz, registry, tmp_path):
    image = make_streamable(make_image(make_layer(4 * MIB), make_layer(6 * MIB)), tmp_path)
    ref = registry.push("team/lazy:1", image)
    async with Follow(stargz.socket) as first, Follow(stargz.socket) as second:
        await stargz.cri.pull(ref)
        for follow in (first, second):
            await follow.until(lambda follow=follow: follow.ended)
            pull = follow.ended_as(ref)
            assert (remote_bytes(pull), downloaded(pull), cached_bytes(pull)) == (image.size, 0, 0)


async def test_an_ordinary_image_is_an_ordinary_pull_on_a_node_that_streams_other_images(stargz, registry):
    image = make_image(make_layer(2 * MIB), make_layer(4 * MIB))
    ref = registry.push("team/plain:1", image)
    registry.limit(3 * MIB)
    async with Follow(stargz.socket) as follow:
        await stargz.cri.pull(ref)
        await follow.until(lambda: follow.ended)
        pull = follow.ended_as(ref)
        assert (downloaded(pull), cached_bytes(pull), remote_bytes(pull)) == (image.size, 0, 0)
        assert pull.snapshotter == "stargz"
        assert any(0 < downloaded(seen) < image.size for seen in follow.history[pull.id])
