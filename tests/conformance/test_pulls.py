"""Each pull has one lease, whose resources show the pull's progress."""

import asyncio
import json

import grpc
import pytest

from pulltrace.agent.containerd_api.snapshots_pb2 import ACTIVE, COMMITTED
from tests.conformance.look import SNAPSHOTS, eventually
from tests.real.images import MIB


def contents(*blobs):
    return {("content", blob.digest) for blob in blobs}


def ingest(layer):
    return ("ingests", f"layer-{layer.blob.digest}")


def unpacking(held):
    """Return the chain ids of the lease's layers that are being unpacked or will be unpacked next."""
    return {key.split()[1] for kind, key in held if kind == SNAPSHOTS and key.startswith("extract-")}


def unpacked(held):
    """Return the chain ids of the lease's unpacked layers."""
    return {key for kind, key in held if kind == SNAPSHOTS and key.startswith("sha256:")}


async def test_an_idle_containerd_has_no_lease_and_no_ingest(look):
    assert (await look.leases(), await look.ingests(), await look.images()) == ({}, {}, {})


async def test_a_lease_exists_before_the_reference_is_resolved(lab, look):
    ref = lab.push("team/app:1", lab.image(lab.layer(MIB)))
    lab.hold_manifests("team/app")
    pull = asyncio.create_task(lab.pull(ref))
    lease = await look.new_lease({})
    assert await look.resources(lease) == set()
    assert list((await look.leases())[lease].labels) == ["containerd.io/gc.expire"]
    assert (await look.leases())[lease].created_at.seconds > 0
    lab.release_manifests("team/app")
    await pull


async def test_the_lease_of_a_pull_lists_its_manifest_config_ingests_and_first_snapshot(lab, look):
    first, second = lab.layer(3 * MIB), lab.layer(2 * MIB)
    image = lab.image(first, second)
    ref = lab.push("team/app:1", image)
    lab.hold(first, at=MIB)
    lab.hold(second, at=MIB)
    pull = asyncio.create_task(lab.pull(ref))
    lease = await look.new_lease({})
    held = await look.holds(lease, ingest(first), ingest(second))
    assert held >= contents(image.manifest, image.config)
    assert not held & contents(first.blob, second.blob)
    assert unpacking(held) == {image.chain_ids[0]}, (
        "the base is unpacked first, and its snapshot is prepared before the download ends"
    )
    assert unpacked(held) == set()
    assert await look.images() == {}, "an image has no record before it is unpacked"
    lab.release(first)
    lab.release(second)
    await pull


async def test_an_ingest_has_a_total_size_and_a_growing_offset(lab, look):
    layer = lab.layer(6 * MIB)
    ref = lab.push("team/app:1", lab.image(layer))
    lab.hold(layer, at=3 * MIB)
    pull = asyncio.create_task(lab.pull(ref))

    async def grown():
        return (await look.offset(layer) or 0) >= 2 * MIB

    await eventually(grown)
    status = (await look.ingests())[f"layer-{layer.blob.digest}"]
    assert status.total == layer.blob.size
    assert status.expected == ""
    assert 2 * MIB <= status.offset <= 3 * MIB
    assert 0 < status.started_at.seconds <= status.updated_at.seconds
    assert await look.info(layer.blob.digest) is None, "a layer becomes a blob only when it is complete"
    lab.release(layer)
    await pull
    assert await look.ingests() == {}
    assert (await look.info(layer.blob.digest)).size == layer.blob.size


async def test_the_manifest_and_the_config_can_be_read_while_the_layers_are_being_downloaded(lab, look):
    layer = lab.layer(2 * MIB)
    image = lab.image(layer)
    ref = lab.push("team/app:1", image)
    lab.hold(layer, at=0)
    pull = asyncio.create_task(lab.pull(ref))
    lease = await look.new_lease({})
    await look.holds(lease, *contents(image.manifest, image.config))
    manifest = json.loads(await look.read(image.manifest.digest))
    config = json.loads(await look.read(image.config.digest))
    assert [(entry["digest"], entry["size"]) for entry in manifest["layers"]] == [(layer.blob.digest, layer.blob.size)]
    assert config["rootfs"]["diff_ids"] == [layer.diff_id]
    assert await look.read(layer.blob.digest) is None
    lab.release(layer)
    await pull


async def test_a_source_label_of_a_blob_contains_the_registry_host_and_repository_but_not_the_port_or_tag(lab, look):
    layer = lab.layer(MIB)
    image = lab.image(layer)
    ref = lab.push("team/app:1", image)
    lab.hold(layer, at=0)
    pull = asyncio.create_task(lab.pull(ref))
    lease = await look.new_lease({})
    await look.holds(lease, *contents(image.manifest))

    async def source():  # containerd sets the label just after the commit
        return (await look.info(image.manifest.digest)).labels.get(f"containerd.io/distribution.source.{lab.host}")

    assert await eventually(source) == "team/app"
    lab.release(layer)
    await pull


async def test_a_completed_pull_leaves_records_content_and_snapshots_but_no_lease(lab, look):
    image = lab.image(lab.layer(MIB), lab.layer(2 * MIB))
    ref = lab.push("team/app:1", image)
    await lab.pull(ref)
    assert await look.leases() == {}
    by_digest = ref.rsplit(":", 1)[0] + "@" + image.manifest.digest
    named = await look.images()
    assert set(named) == {ref, by_digest, image.config.digest}
    assert {one.target.digest for one in named.values()} == {image.manifest.digest}
    assert all(one.updated_at.seconds >= one.created_at.seconds > 0 for one in named.values())
    for layer, chain in zip(image.layers, image.chain_ids, strict=True):
        assert (await look.info(layer.blob.digest)).size == layer.blob.size
        assert (await look.snapshot(chain)).kind == COMMITTED


async def test_images_can_be_filtered_by_their_target_digest(lab, look):
    one, two = lab.image(lab.layer(MIB)), lab.image(lab.layer(MIB))
    ref = lab.push("team/one:1", one)
    await lab.pull(ref)
    await lab.pull(lab.push("team/two:1", two))
    found = await look.images(f"target.digest=={one.manifest.digest}")
    assert ref in found
    assert {image.target.digest for image in found.values()} == {one.manifest.digest}


async def test_a_layer_being_unpacked_has_a_committed_blob_and_an_active_snapshot(lab, look):
    layer = lab.layer(MIB, unpacked=500 * MIB)
    image = lab.image(layer)
    pull = asyncio.create_task(lab.pull(lab.push("team/app:1", image)))
    lease = await look.new_lease({})
    held = await look.holds(lease, ("content", layer.blob.digest))
    assert unpacking(held) == {image.chain_ids[0]}
    (key,) = (key for kind, key in held if kind == SNAPSHOTS)
    assert (await look.snapshot(key)).kind == ACTIVE
    assert await look.snapshot(image.chain_ids[0]) is None
    await pull
    assert (await look.snapshot(image.chain_ids[0])).kind == COMMITTED


async def test_a_pull_of_an_index_fetches_only_the_image_for_this_platform(lab, look):
    layer = lab.layer(2 * MIB)
    image = lab.image(layer)
    ref, index = lab.push_index("team/app:1", image)
    lab.hold(layer, at=0)
    pull = asyncio.create_task(lab.pull(ref))
    lease = await look.new_lease({})
    held = await look.holds(lease, ingest(layer), *contents(index, image.manifest, image.config))
    assert {held_ for held_ in held if held_[0] == "content"} == contents(index, image.manifest, image.config)
    lab.release(layer)
    await pull
    assert {one.target.digest for one in (await look.images()).values()} == {index.digest}


async def test_the_lease_of_a_pull_is_empty_if_the_reference_does_not_exist(lab, look):
    lab.push("team/app:1", lab.image(lab.layer(MIB)))
    ref = lab.push("team/other:1", lab.image(lab.layer(MIB))).replace("team/other:1", "team/other:missing")
    lab.hold_manifests("team/other")
    pull = asyncio.create_task(lab.pull(ref))
    lease = await look.new_lease({})
    assert await look.resources(lease) == set()
    lab.release_manifests("team/other")
    with pytest.raises(grpc.aio.AioRpcError, match="not found"):
        await pull
    assert await look.leases() == {}
    assert await look.resources(lease) is None
    assert await look.images() == {}


async def test_a_repeated_pull_has_a_lease_but_fetches_nothing(lab, look):
    image = lab.image(lab.layer(MIB))
    ref = lab.push("team/app:1", image)
    await lab.pull(ref)
    before = (await look.images())[ref]
    lab.hold_manifests("team/app")
    pull = asyncio.create_task(lab.pull(ref))
    name = await look.new_lease({})
    lease = (await look.leases())[name]
    lab.release_manifests("team/app")
    await pull
    after = (await look.images())[ref]
    assert (await look.leases(), await look.ingests()) == ({}, {})
    assert after.created_at == before.created_at
    assert after.updated_at.ToNanoseconds() > lease.created_at.ToNanoseconds(), (
        "the record with the name of the pull is updated"
    )


async def test_pulling_a_second_tag_of_an_image_does_not_change_the_times_of_the_first_tag(lab, look):
    image = lab.image(lab.layer(MIB))
    first = lab.push("team/app:1", image)
    await lab.pull(first)
    before = (await look.images())[first]
    second = lab.push("team/app:2", image)
    await lab.pull(second)
    after = await look.images()
    assert after[first] == before
    assert after[second].target == before.target
