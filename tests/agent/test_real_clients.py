"""Tests with a real containerd that is used by clients other than the CRI plugin."""

import asyncio
import time

import grpc
import pytest

from pulltrace.agent import containerd as agent_containerd
from pulltrace.wire import UNKNOWN_IMAGE, PullPhase
from tests.agent.follow import TICK, Follow, downloaded, layers
from tests.patience import PATIENCE
from tests.real.archives import CTR, Ctr, docker_archive, feed, oci_archive
from tests.real.containerd import Containerd
from tests.real.images import MIB, make_image, make_layer
from tests.real.registry import Registry
from tests.real.versions import CTR_2

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not CTR, reason="ctr is needed: `make parts` installs it"),
]

NAME = "registry.test/team/imported:1"


async def import_slowly(node: Containerd, follow: Follow, archive: bytes, *, shown: int) -> None:
    """Import an archive, but hold back its end until the agent has reported ``shown`` bytes."""
    process = await Ctr(node.socket).start_import()
    await feed(process, archive, hold_at=shown + 2 * MIB)
    await follow.until(lambda: follow.live and downloaded(follow.live[0]) >= shown)
    await follow.after_polls(1)
    await feed(process, archive[shown + 2 * MIB :])
    await follow.until(lambda: follow.ended)
    await follow.after_polls(3)


@pytest.mark.parametrize("pack", [docker_archive, oci_archive])
async def test_an_import_is_shown_under_the_name_of_its_image(node: Containerd, pack) -> None:
    image = make_image(make_layer(3 * MIB), make_layer(5 * MIB))
    async with Follow(node.socket) as follow:
        await import_slowly(node, follow, pack({NAME: image}), shown=2 * MIB)
        (ended,) = [pull for pull in follow.ended.values() if pull.imported]
        assert (ended.status, ended.image_ref) == (PullPhase.COMPLETED, NAME)
        assert downloaded(ended) == sum(layer.total_bytes for layer in ended.layers)
        states = [state for history in follow.history.values() for state in history if state.layers]
        assert {(state.image_ref, state.imported, state.registry) for state in states} == {
            (UNKNOWN_IMAGE, True, None),
            (NAME, True, None),
        }, "unpacking the image afterwards is not reported as a pull"


@pytest.mark.parametrize("then", ["nothing", "a pull"])
@pytest.mark.parametrize("client", ["Debian's ctr", "ctr 2.4"])
async def test_importing_a_pulled_image_again_does_not_count_as_a_pull(
    node: Containerd, registry: Registry, client: str, then: str
) -> None:
    """Each import begins at a different point in the interval between two polls.

    If a pull follows immediately, the pull may overwrite the labels before the agent reads them. In that case, the
    agent may mistake the import for a pull, or miss the pull. This is rare.
    """
    program = CTR_2.path if client == "ctr 2.4" else None
    if program and not program.exists():
        pytest.skip("no ctr 2.4 here; `make parts` builds it (needs Go)")
    # In containerd 1.x, there is no transfer service, or it cannot import images.
    options = ["--local"] if program and node.version.startswith("1.") else []
    image = make_image(make_layer(MIB))
    ref = registry.push("team/app:1", image)
    ctr, archive = Ctr(node.socket, program), oci_archive({ref: image})
    async with Follow(node.socket) as follow:

        def pulls() -> list[tuple[str, PullPhase]]:
            return [(pull.image_ref, pull.status) for pull in follow.ended.values() if not pull.imported]

        await node.cri.pull(ref)
        await follow.until(pulls)
        for number in range(10):
            await follow.after_polls(4)
            await asyncio.sleep(number * TICK / 10)
            await feed(await ctr.start_import(*options), archive)
            if then == "a pull":
                await node.cri.pull(ref)
        await follow.after_polls(4)
        assert set(pulls()) == {(ref, PullPhase.COMPLETED)}
        if then == "a pull":
            assert 9 <= len(pulls()) <= 13
        else:
            assert len(pulls()) == 1


@pytest.mark.parametrize("pack", [docker_archive, oci_archive])
async def test_an_archive_with_four_images_is_shown_as_one_import_without_a_name(node: Containerd, pack) -> None:
    base = make_layer(4 * MIB)
    images = {
        f"registry.test/part{number}:1": make_image(base, make_layer(MIB), name=str(number)) for number in range(4)
    }
    async with Follow(node.socket) as follow:
        await import_slowly(node, follow, pack(images), shown=2 * MIB)
        (ended,) = [pull for pull in follow.ended.values() if pull.imported]
        assert (ended.status, ended.image_ref, ended.ref_guessed) == (PullPhase.COMPLETED, UNKNOWN_IMAGE, False)
        assert len(ended.layers) == 5
        assert not any(state.total_known for state in follow.history[ended.id] if not state.status.ended)


async def test_an_interrupted_import_counts_as_cancelled(node: Containerd) -> None:
    archive = oci_archive({NAME: make_image(make_layer(6 * MIB))})
    async with Follow(node.socket) as follow:
        process = await Ctr(node.socket).start_import()
        await feed(process, archive, hold_at=4 * MIB)
        await follow.until(lambda: follow.live and downloaded(follow.live[0]) >= 2 * MIB)
        process.terminate()
        await process.wait()
        await Ctr(node.socket).run("leases", "delete", follow.live[0].id)
        await follow.until(lambda: follow.ended)
        assert {pull.error_reason for pull in follow.ended.values()} == {"canceled"}


async def test_image_builder_leases_are_not_shown(node: Containerd, registry: Registry) -> None:
    ctr = Ctr(node.socket)
    ref = registry.push("team/app:1", make_image(make_layer(2 * MIB)))
    registry.limit(2 * MIB)
    async with Follow(node.socket) as follow:
        await ctr.run("leases", "create", "--id", "builder", "--expires", "1h")
        await ctr.run("leases", "create", "--expires", "1h")
        await ctr.run("leases", "create", "buildkit/lease.temporary=2026-11-29T00:00:00Z")
        await follow.after_polls(4)
        assert not follow.history
        await node.cri.pull(ref)
        await ctr.run("leases", "delete", "builder")
        await follow.after_polls(2)
        assert {(pull.image_ref, pull.status) for pull in follow.ended.values()} == {(ref, PullPhase.COMPLETED)}


async def test_the_agent_receives_the_creation_times_of_containers(node: Containerd, registry: Registry) -> None:
    ref = registry.push("team/app:1", make_image(make_layer(1000)))
    await node.cri.pull(ref)
    async with agent_containerd.Containerd(node.socket) as containerd, asyncio.timeout(PATIENCE):
        containerd.changed_images()
        times: list[float] = []
        began = time.time()
        while not times:
            await Ctr(node.socket).run("containers", "create", ref, f"container-{time.time()}")
            await asyncio.sleep(0.2)
            times = containerd.created_containers()
    assert began <= times[-1] <= time.time()


@pytest.mark.parametrize("algorithm", ["sha512", "sha384"])
async def test_layers_with_digests_other_than_sha256_show_their_progress(
    node: Containerd, registry: Registry, algorithm: str
) -> None:
    """containerd 1.x downloads the layer and only afterwards rejects it, so the pull fails."""
    layer = make_layer(5 * MIB, algorithm=algorithm)
    ref = registry.push("team/app:1", make_image(layer))
    registry.blob(layer.digest).hold(at=3 * MIB)
    async with Follow(node.socket) as follow:
        pulling = asyncio.create_task(node.cri.pull(ref))
        await follow.until(lambda: follow.live and downloaded(follow.live[0]) >= 2 * MIB)
        assert set(layers(follow.live[0])) == {layer.digest}
        registry.blob(layer.digest).release()
        if node.version.startswith("1."):
            with pytest.raises(grpc.aio.AioRpcError, match="unexpected commit digest"):
                await pulling
            return
        await pulling
        await follow.after_polls(2)
        ended = follow.ended_as(ref)
        assert (ended.status, downloaded(ended)) == (PullPhase.COMPLETED, layer.size)
