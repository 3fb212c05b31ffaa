"""What remains after a pull was cancelled, and after containerd was killed during a pull."""

import asyncio

from pulltrace.agent.containerd_api.snapshots_pb2 import ACTIVE, COMMITTED
from tests.conformance.look import SNAPSHOTS, eventually
from tests.conformance.test_pulls import contents, ingest
from tests.real.images import MIB


async def halfway(lab, look):
    """Start a pull. Return when the pull has fetched one whole layer and at least 1 MiB of another layer."""
    small, large = lab.layer(MIB), lab.layer(6 * MIB)
    image = lab.image(small, large)
    ref = lab.push("team/app:1", image)
    lab.hold(large, at=2 * MIB)
    pull = asyncio.create_task(lab.pull(ref))
    lease = await look.new_lease({})
    await look.holds(lease, ("content", small.blob.digest), ingest(large))

    async def grown():
        return (await look.offset(large) or 0) >= MIB

    await eventually(grown)
    return image, ref, pull, lease


async def test_the_lease_and_ingest_and_content_of_a_cancelled_pull_are_deleted(lab, look):
    image, _, pull, _ = await halfway(lab, look)
    pull.cancel()
    await asyncio.wait([pull])

    async def all_gone():
        blobs = [await look.info(blob.digest) for blob in (image.manifest, image.config, image.layers[0].blob)]
        return not await look.leases() and not await look.ingests() and blobs == [None] * 3

    await eventually(all_gone, within=5)
    assert await look.images() == {}


async def test_the_lease_and_content_and_ingest_of_a_pull_survive_when_containerd_is_killed(lab, look):
    image, _, pull, lease = await halfway(lab, look)
    small, large = image.layers
    await lab.crash()
    await asyncio.wait([pull])
    assert set(await look.leases()) == {lease}
    held = await look.resources(lease)
    assert held >= contents(image.manifest, image.config, small.blob) | {ingest(large)}
    assert await look.offset(large) >= MIB
    assert await look.images() == {}


async def test_the_next_pull_after_containerd_was_killed_resumes_the_ingest_that_the_stale_lease_lists(lab, look):
    image, ref, pull, dead = await halfway(lab, look)
    large = image.layers[1]
    await lab.crash()
    await asyncio.wait([pull])
    offset = await look.offset(large)
    lab.hold(large, at=4 * MIB)
    again = asyncio.create_task(lab.pull(ref))
    lease = await look.new_lease({dead: None})
    await look.holds(lease, ingest(large))

    async def grown():
        now = await look.offset(large)
        assert now >= offset, "the download never starts again from 0"
        return now >= 3 * MIB

    await eventually(grown)
    assert ingest(large) in await look.resources(dead)
    lab.release(large)
    await again
    assert set(await look.leases()) == {dead}
    assert ingest(large) in await look.resources(dead), "the stale lease lists the ingest, although it no longer exists"
    assert await look.ingests() == {}


async def test_the_next_pull_fetches_nothing_if_containerd_was_killed_during_unpacking(lab, look):
    layer = lab.layer(MIB, unpacked=500 * MIB)
    image = lab.image(layer)
    ref = lab.push("team/app:1", image)
    pull = asyncio.create_task(lab.pull(ref))
    dead = await look.new_lease({})
    held = await look.holds(dead, *contents(layer.blob))
    (key,) = (name for kind, name in held if kind == SNAPSHOTS)
    await lab.crash()
    await asyncio.wait([pull])
    assert (await look.snapshot(key)).kind == ACTIVE
    lab.hold(layer, at=0)
    await lab.pull(ref)
    assert (await look.snapshot(image.chain_ids[0])).kind == COMMITTED
    assert (await look.snapshot(key)).kind == ACTIVE, "the snapshot stays active as long as the stale lease exists"


async def test_removing_an_image_deletes_its_content_and_snapshots(lab, look):
    image = lab.image(lab.layer(MIB))
    ref = lab.push("team/app:1", image)
    await lab.pull(ref)
    await lab.remove(ref)

    async def gone():
        return await look.info(image.layers[0].blob.digest) is None and await look.snapshot(image.chain_ids[0]) is None

    await eventually(gone, within=5)
    assert await look.images() == {}
