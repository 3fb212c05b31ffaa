"""The leases, ingests and content that remain after a pull is cancelled or containerd is killed during a pull."""

import asyncio

from pulltrace.agent.containerd_api.snapshots_pb2 import ACTIVE, COMMITTED
from tests.conformance.look import SNAPSHOTS, during, eventually
from tests.conformance.test_pulls import contents, ingest
from tests.real.images import MIB


async def halfway(lab, look):
    """Start a pull. Return once the pull has unpacked one layer, prepared the snapshot of the other layer, and fetched
    at least 1 MiB of that layer. From that point on, containerd does not prepare any more snapshots. If containerd were
    killed while preparing a snapshot, it would leave behind a directory that makes the next pull fail.
    """
    small, large = lab.layer(MIB), lab.layer(6 * MIB)
    image = lab.image(small, large)
    ref = lab.push("team/app:1", image)
    lab.hold(large, at=2 * MIB)
    pull = asyncio.create_task(lab.pull(ref))
    lease = await during(pull, look.new_lease({}))
    await during(pull, look.holds(lease, ("content", small.blob.digest), ingest(large)))

    async def unpacked_and_grown():
        snapshots = [name for kind, name in await look.resources(lease) if kind == SNAPSHOTS]
        return len(snapshots) == 2 and (await look.offset(large) or 0) >= MIB

    await during(pull, eventually(unpacked_and_grown))
    return image, ref, pull, lease


async def test_cancelling_a_pull_deletes_its_lease_ingest_and_content(lab, look):
    image, _, pull, _ = await halfway(lab, look)
    pull.cancel()
    await asyncio.wait([pull])

    async def all_gone():
        blobs = [await look.info(blob.digest) for blob in (image.manifest, image.config, image.layers[0].blob)]
        return not await look.leases() and not await look.ingests() and blobs == [None] * 3

    await eventually(all_gone)
    assert await look.images() == {}


async def test_the_lease_its_content_and_its_ingest_remain_if_containerd_is_killed_during_a_pull(lab, look):
    image, _, pull, lease = await halfway(lab, look)
    small, large = image.layers
    await lab.crash()
    await asyncio.wait([pull])
    assert set(await look.leases()) == {lease}
    held = await look.resources(lease)
    assert held >= contents(image.manifest, image.config, small.blob) | {ingest(large)}
    assert await look.offset(large) >= MIB
    assert await look.images() == {}


async def test_the_next_pull_after_a_containerd_crash_resumes_the_ingest_in_the_stale_lease(lab, look):
    image, ref, pull, dead = await halfway(lab, look)
    large = image.layers[1]
    await lab.crash()
    await asyncio.wait([pull])
    offset = await look.offset(large)
    lab.hold(large, at=4 * MIB)
    again = asyncio.create_task(lab.pull(ref))
    lease = await during(again, look.new_lease({dead: None}))
    await during(again, look.holds(lease, ingest(large)))

    async def grown():
        now = await look.offset(large)
        assert now >= offset, "the download never starts again from 0"
        return now >= 3 * MIB

    await during(again, eventually(grown))
    assert ingest(large) in await look.resources(dead)
    lab.release(large)
    await again
    assert set(await look.leases()) == {dead}
    assert ingest(large) in await look.resources(dead), "the stale lease lists the ingest, although it no longer exists"
    assert await look.ingests() == {}


async def test_the_next_pull_fetches_nothing_if_containerd_was_killed_while_unpacking(lab, look):
    layer = lab.layer(MIB, unpacked=500 * MIB)
    image = lab.image(layer)
    ref = lab.push("team/app:1", image)
    pull = asyncio.create_task(lab.pull(ref))
    dead = await during(pull, look.new_lease({}))
    held = await during(pull, look.holds(dead, *contents(layer.blob)))
    (key,) = (name for kind, name in held if kind == SNAPSHOTS)
    await lab.crash()
    await asyncio.wait([pull])
    assert (await look.snapshot(key)).kind == ACTIVE
    lab.hold(layer, at=0)
    await lab.pull(ref)
    assert (await look.snapshot(image.chain_ids[0])).kind == COMMITTED
    assert (await look.snapshot(key)).kind == ACTIVE, "the snapshot stays active until the stale lease is deleted"


async def test_removing_an_image_deletes_its_content_and_snapshots(lab, look):
    image = lab.image(lab.layer(MIB))
    ref = lab.push("team/app:1", image)
    await lab.pull(ref)
    await lab.remove(ref)

    async def gone():
        return await look.info(image.layers[0].blob.digest) is None and await look.snapshot(image.chain_ids[0]) is None

    await eventually(gone)
    assert await look.images() == {}
