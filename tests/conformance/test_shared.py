"""Tests with simultaneous pulls on the same node, and with layers that are already on the node."""

import asyncio

from pulltrace.agent.containerd_api.snapshots_pb2 import COMMITTED
from tests.conformance.look import SNAPSHOTS, eventually
from tests.conformance.test_pulls import contents, ingest, unpacked, unpacking
from tests.real.images import MIB


async def test_only_the_first_pull_has_an_ingest_for_a_shared_layer(lab, look):
    base = lab.layer(3 * MIB)
    one, two = lab.image(base, lab.layer(MIB)), lab.image(base, lab.layer(MIB))
    refs = lab.push("team/one:1", one), lab.push("team/two:1", two)
    lab.hold(base, at=MIB)
    first = asyncio.create_task(lab.pull(refs[0]))
    lease = await look.new_lease({})
    await look.holds(lease, ingest(base))
    second = asyncio.create_task(lab.pull(refs[1]))
    waiting = await look.new_lease({lease: None})
    held = await look.holds(waiting, *contents(two.manifest, two.config))
    assert ingest(base) not in held
    lab.release(base)
    await asyncio.gather(first, second)
    assert (await look.leases(), await look.ingests()) == ({}, {})
    assert set(refs) <= set(await look.images())


async def test_a_pull_waits_until_another_pull_has_unpacked_their_shared_base_layer(lab, look):
    base, top = lab.layer(2 * MIB), lab.layer(MIB)
    one, two = lab.image(base, lab.layer(MIB)), lab.image(base, top)
    refs = lab.push("team/one:1", one), lab.push("team/two:1", two)
    lab.hold(base, at=MIB)
    lab.hold(top, at=0)
    first = asyncio.create_task(lab.pull(refs[0]))
    lease = await look.new_lease({})
    await look.holds(lease, ingest(base))
    second = asyncio.create_task(lab.pull(refs[1]))
    still = await look.new_lease({lease: None})
    assert await look.holds(still, *contents(two.manifest, two.config)) == contents(two.manifest, two.config)
    lab.release(base)
    held = await look.holds(still, ingest(top))
    assert (await look.snapshot(two.chain_ids[0])).kind == COMMITTED, (
        "the second pull continues only once the base is unpacked"
    )
    assert ("content", base.blob.digest) not in held, "the second pull's lease never holds the blob of the base"
    assert unpacked(held) == ({two.chain_ids[0]} if await look.line() >= (1, 7) else set())
    lab.release(top)
    await asyncio.gather(first, second)


async def test_a_shared_layer_on_a_different_base_is_added_to_the_lease_of_the_second_pull(lab, look):
    shared, last = lab.layer(2 * MIB), lab.layer(MIB)
    one, two = lab.image(lab.layer(MIB), shared), lab.image(lab.layer(MIB), shared, last)
    refs = lab.push("team/one:1", one), lab.push("team/two:1", two)
    lab.hold(shared, at=MIB)
    lab.hold(last, at=0)
    first = asyncio.create_task(lab.pull(refs[0]))
    lease = await look.new_lease({})
    await look.holds(lease, ingest(shared))
    second = asyncio.create_task(lab.pull(refs[1]))
    other = await look.new_lease({lease: None})
    await look.holds(other, (SNAPSHOTS, two.chain_ids[0]))
    assert ingest(shared) not in await look.resources(other)
    lab.release(shared)
    await look.holds(other, *contents(shared.blob))
    lab.release(last)
    await asyncio.gather(first, second)


async def test_a_pull_that_waited_for_a_cancelled_pull_resumes_the_download(lab, look):
    """containerd collects garbage several times a second. If containerd garbage-collects the cancelled pull's ingest
    before the waiting pull has added the ingest to its own lease, the download starts again from 0. In that case, the
    test tries again.
    """
    for number in range(10):
        if await resumes(lab, look, number):
            return
    raise AssertionError("no pull continued the ingest of a cancelled pull")


async def resumes(lab, look, number):
    """Cancel a pull while a second pull waits for a layer that the first is downloading. Return whether the other pull
    resumed the same ingest.
    """
    shared = lab.layer(4 * MIB)
    images = [lab.image(lab.layer(MIB), shared) for _ in range(2)]
    refs = [lab.push(f"team/app{number}:{tag}", image) for tag, image in enumerate(images)]
    lab.hold(shared, at=2 * MIB)
    before = await look.leases()
    first = asyncio.create_task(lab.pull(refs[0]))
    lease = await look.new_lease(before)

    async def grown():
        return (await look.offset(shared) or 0) >= 2 * MIB

    await eventually(grown)
    _, name = ingest(shared)
    begun = (await look.ingests())[name]
    second = asyncio.create_task(lab.pull(refs[1]))
    other = await look.new_lease({**before, lease: None})
    await look.holds(other, (SNAPSHOTS, images[1].chain_ids[0]))
    first.cancel()
    await asyncio.wait([first])
    await look.holds(other, ingest(shared))
    now = (await look.ingests())[name]
    same = now.started_at == begun.started_at
    assert now.offset >= 2 * MIB or not same
    lab.release(shared)
    await second
    return same


async def test_a_layer_that_appears_twice_in_an_image_has_one_ingest_and_two_snapshots(lab, look):
    twice = lab.layer(2 * MIB)
    image = lab.image(twice, twice, lab.layer(MIB))
    ref = lab.push("team/app:1", image)
    lab.hold(twice, at=0)
    pull = asyncio.create_task(lab.pull(ref))
    lease = await look.new_lease({})
    await look.holds(lease, ingest(twice))
    lab.release(twice)
    await pull
    assert len(set(image.chain_ids)) == 3
    assert [(await look.snapshot(chain)).kind for chain in image.chain_ids] == [COMMITTED] * 3


async def test_three_concurrent_pulls_have_three_leases_with_their_own_resources(lab, look):
    images = [lab.image(lab.layer(MIB)) for _ in range(3)]
    refs = [lab.push(f"team/app{number}:1", image) for number, image in enumerate(images)]
    for image in images:
        lab.hold(image.layers[0], at=0)
    pulls = [asyncio.create_task(lab.pull(ref)) for ref in refs]

    async def all_there():
        held = [await look.resources(lease) or set() for lease in await look.leases()]
        return len(held) == 3 and all(any(name.startswith("layer-") for _, name in one) for one in held) and held

    held = await eventually(all_there)
    owned = {next(iter(one & {ingest(image.layers[0]) for image in images})) for one in held}
    assert len(owned) == 3
    for image in images:
        mine = next(one for one in held if ingest(image.layers[0]) in one)
        assert mine >= contents(image.manifest, image.config)
    for image in images:
        lab.release(image.layers[0])
    await asyncio.gather(*pulls)


async def test_a_layer_with_an_existing_snapshot_is_not_fetched_and_has_no_ingest_or_blob(lab, look):
    base, top = lab.layer(MIB), lab.layer(2 * MIB)
    await lab.pull(lab.push("team/base:1", lab.image(base)))
    image = lab.image(base, top)
    ref = lab.push("team/app:1", image)
    lab.hold(top, at=0)
    pull = asyncio.create_task(lab.pull(ref))
    lease = await look.new_lease({})
    held = await look.holds(lease, ingest(top))
    assert not held & {("content", base.blob.digest), ingest(base)}
    assert unpacking(held) == {image.chain_ids[1]}
    # Since containerd 1.7, the lease also holds the existing snapshot.
    assert unpacked(held) == ({image.chain_ids[0]} if await look.line() >= (1, 7) else set())
    assert await look.snapshot(image.chain_ids[0]) is not None
    lab.release(top)
    await pull


async def test_a_layer_that_is_already_on_the_node_is_unpacked_on_a_different_base_without_being_fetched(lab, look):
    shared = lab.layer(MIB)
    await lab.pull(lab.push("team/one:1", lab.image(shared)))
    other = lab.layer(2 * MIB)
    image = lab.image(other, shared)
    ref = lab.push("team/two:1", image)
    lab.hold(other, at=0)
    pull = asyncio.create_task(lab.pull(ref))
    lease = await look.new_lease({})
    held = await look.holds(lease, ingest(other))
    assert ingest(shared) not in held
    assert (await look.info(shared.blob.digest)).created_at.seconds > 0
    lab.release(other)
    await pull
    assert await look.snapshot(image.chain_ids[1]) is not None


async def test_layers_beyond_the_third_wait_for_a_download_slot(lab, look):
    layers = [lab.layer(MIB) for _ in range(5)]
    ref = lab.push("team/app:1", lab.image(*layers))
    for layer in layers:
        lab.hold(layer, at=0)
    pull = asyncio.create_task(lab.pull(ref))
    lease = await look.new_lease({})
    wanted = 5 if await look.line() >= (2, 1) else 3

    async def open_ingests():
        held = await look.resources(lease) or set()
        found = {name for kind, name in held if kind == "ingests" and name.startswith("layer-")}
        return len(found) == wanted and found

    found = await eventually(open_ingests)
    assert found <= {f"layer-{layer.blob.digest}" for layer in layers}
    statuses = await look.ingests()
    assert {statuses[name].offset for name in found} == {0}
    for layer in layers:
        lab.release(layer)
    await pull
