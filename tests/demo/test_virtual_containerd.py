"""Tests for the steps of a pull in the simulated containerd."""

import json
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulltrace.agent.manifests import parse
from pulltrace.demo.images import make_image, make_layer
from pulltrace.demo.registries import Refusal, Registries
from pulltrace.demo.store import Store
from pulltrace.demo.virtual_containerd import CONTAINERD_1, CONTAINERD_2, VirtualContainerd
from pulltrace.wire import PullPhase
from tests.demo.conftest import HOST, MIB, NOON


def held(pull, kind):
    return [name for resource, name in pull.lease.resources if resource == kind]


def test_the_manifests_and_configs_are_json_and_match_their_digests(push):
    _, image = push("app:1", ("base", 2), ("app", 3))
    for document in image.documents:
        assert document.digest == "sha256:" + sha256(document.data).hexdigest()
        assert document.size == len(document.data)
    assert json.loads(image.index.data)["manifests"][0]["digest"] == image.manifest.digest
    assert [layer.digest for layer in parse(image.manifest.data).layers] == [
        layer.blob.digest for layer in image.layers
    ]
    assert parse(image.config.data).chain_ids == list(image.chain_ids)


def test_layers_with_the_same_name_and_size_are_identical():
    assert make_layer("base", 5) == make_layer("base", 5) != make_layer("base", 6)


def test_a_pull_starts_with_an_empty_lease_and_ends_with_three_image_records(node, push, until):
    ref, image = push("app:1", ("base", 2), ("app", 3))
    pull = node.pull(ref)
    assert list(pull.lease.labels) == ["containerd.io/gc.expire"]
    assert not pull.lease.resources
    until(lambda: pull.state)
    assert pull.state is PullPhase.COMPLETED
    assert pull.lease.id not in node.store.leases
    assert set(node.store.records) == {ref, f"{HOST}/app@{image.target.digest}", image.config.digest}
    assert set(node.store.snapshots) == set(image.chain_ids)
    assert all(snapshot.committed for snapshot in node.store.snapshots.values())
    assert not node.store.ingests


def test_the_image_record_is_written_after_everything_has_been_unpacked(node, push, until):
    ref, image = push("app:1", ("base", 2), ("app", 3))
    node.pull(ref)
    until(lambda: node.store.records)
    assert set(node.store.snapshots) == set(image.chain_ids)


def test_the_speeds_of_the_registry_and_the_disk_determine_how_long_a_pull_takes(node, push, until):
    ref, _ = push("app:1", ("app", 50))  # takes 5 s to fetch at 10 MiB/s, and 2.5 s to unpack 125 MiB at 50 MiB/s
    pull = node.pull(ref)
    until(lambda: pull.state)
    assert 7.5 < node.now - NOON < 9.5


def test_a_pull_at_ten_times_the_speed_takes_a_tenth_of_the_time(registries, push):
    ref, _ = push("app:1", ("app", 50))
    node = VirtualContainerd(registries, now=NOON, disk=50 * MIB, speed=10)
    pull = node.pull(ref)
    node.advance(0.7)
    assert pull.state is None
    node.advance(0.3)
    assert pull.state is PullPhase.COMPLETED
    assert node.now == pytest.approx(NOON + 1)


def test_simultaneous_pulls_share_the_bandwidth_of_their_node(registries, push):
    node = VirtualContainerd(registries, now=NOON, bandwidth=10 * MIB)
    pulls = [node.pull(push(f"app{number}:1", (f"app{number}", 20))[0]) for number in range(2)]
    node.advance(3)
    assert sum(ingest.received for ingest in node.store.ingests.values()) <= 30 * MIB
    assert all(pull.state is None for pull in pulls)


def test_a_snapshot_is_prepared_before_the_download_and_committed_after_it(node, registries, push, until):
    ref, image = push("app:1", ("base", 2), ("app", 3))
    registries.holds[image.layers[0].blob.digest] = MIB
    pull = node.pull(ref)
    until(lambda: image.layers[1].blob.digest in node.store.content)
    (prepared,) = held(pull, "snapshots/overlayfs")
    assert prepared.startswith("extract-")
    assert prepared.endswith(f" {image.chain_ids[0]}")
    assert not node.store.snapshots[prepared].committed
    registries.holds.clear()
    until(lambda: image.chain_ids[0] in held(pull, "snapshots/overlayfs"))
    assert prepared not in node.store.snapshots


def test_the_offset_of_an_ingest_grows_in_steps_of_one_mebibyte(node, push, until):
    ref, image = push("app:1", ("app", 8))
    node.pull(ref)
    seen = set()

    def watch():
        ingest = node.store.ingests.get(image.layers[0].blob.ref)
        if ingest:
            seen.add(ingest.offset)
        return node.store.records

    until(watch)
    assert seen == {step * MIB for step in range(9)}


def test_at_most_three_layers_are_downloaded_at_the_same_time(node, registries, push):
    ref, image = push("app:1", *((f"layer{number}", 4) for number in range(6)))
    for layer in image.layers:
        registries.holds[layer.blob.digest] = MIB
    pull = node.pull(ref)
    node.advance(5)
    offsets = [ingest.offset for ingest in node.store.ingests.values()]
    assert offsets == ([MIB] * 3 + [0] * 3 if node.slots_per_node else [MIB] * 3)
    assert len(held(pull, "ingests")) == len(offsets)


def test_parallel_downloads_are_limited_per_pull_or_per_node_depending_on_the_containerd_version(
    node, registries, push
):
    for name in ("one", "two"):
        ref, image = push(f"{name}:1", *((f"{name} {number}", 4) for number in range(3)))
        for layer in image.layers:
            registries.holds[layer.blob.digest] = MIB
        node.pull(ref)
        node.advance(5)
    assert len(node.transfers) == (3 if node.slots_per_node else 6)
    # Since containerd 2.1, the second pull needs a free slot even to fetch its index.
    assert (len(node.store.ingests) == 4) is node.slots_per_node


def test_a_shared_layer_is_listed_as_an_ingest_in_the_first_lease_and_later_as_a_snapshot_in_the_second(
    node, registries, push, until
):
    first_ref, first = push("one:1", ("base", 4), ("one", 1))
    second_ref, _ = push("two:1", ("base", 4), ("two", 1))
    base = first.layers[0].blob
    registries.holds[base.digest] = MIB
    pulls = [node.pull(first_ref), node.pull(second_ref)]
    node.advance(5)
    assert base.ref in held(pulls[0], "ingests")
    assert base.ref not in held(pulls[1], "ingests")
    registries.holds.clear()
    until(lambda: first.chain_ids[0] in held(pulls[1], "snapshots/overlayfs"))
    assert base.digest not in held(pulls[1], "content")
    until(lambda: all(pull.state for pull in pulls))
    sources = node.store.content[base.digest].labels[f"containerd.io/distribution.source.{HOST}"]
    assert sources == "one"


def test_the_leases_of_two_pulls_with_different_bases_both_hold_the_blob_of_a_shared_layer(node, push, until):
    first_ref, first = push("one:1", ("one", 1), ("shared", 8))
    second_ref, second = push("two:1", ("two", 16), ("shared", 8))
    pulls = [node.pull(first_ref), node.pull(second_ref)]
    shared = first.layers[1].blob.digest
    until(lambda: pulls[0].state)
    assert shared in held(pulls[1], "content")
    until(lambda: pulls[1].state)
    assert second.chain_ids[1] in node.store.snapshots
    label = node.store.content[shared].labels[f"containerd.io/distribution.source.{HOST}"]
    assert label == "one,two"


def test_a_repeated_pull_fetches_nothing_and_updates_the_image_record(node, push, until):
    ref, image = push("app:1", ("app", 4))
    node.pull(ref)
    until(lambda: node.store.records)
    before = node.store.records[ref].updated_at
    node.advance(1)
    again = node.pull(ref)
    resources = set()
    until(lambda: resources.update(again.lease.resources) or again.state)
    assert {name for kind, name in resources if kind == "content"} == {item.digest for item in image.documents}
    assert "ingests" not in {kind for kind, _ in resources}
    assert node.store.records[ref].updated_at > before


def test_only_the_missing_layers_of_a_partly_cached_image_are_fetched(node, push, until):
    base = node.pull(push("base:1", ("base", 4))[0])
    until(lambda: base.state)
    ref, image = push("app:1", ("base", 4), ("app", 4))
    pull = node.pull(ref)
    seen = set()
    until(lambda: seen.update(held(pull, "ingests")) or pull.state)
    assert image.layers[0].blob.ref not in seen
    assert image.layers[1].blob.ref in seen


@pytest.mark.parametrize("why", list(Refusal), ids=lambda why: why.name)
def test_a_pull_refused_by_the_registry_has_only_an_empty_lease_which_is_soon_deleted(
    node, registries, push, until, why
):
    ref, _ = push("app:1", ("app", 4))
    registries.refuse(ref, why)
    pull = node.pull(ref)
    until(lambda: pull.lease.resources or pull.state)
    assert not pull.lease.resources
    assert pull.state is PullPhase.FAILED
    assert pull.error.startswith("rpc error: code = ")
    assert "{" not in pull.error
    assert not node.store.leases


def test_a_cancelled_pull_leaves_nothing_behind_after_300_milliseconds(node, push):
    pull = node.pull(push("app:1", ("base", 1), ("app", 40))[0])
    node.advance(2)
    assert node.store.ingests
    assert node.store.content
    pull.cancel()
    assert not node.store.leases
    node.advance(0.3)
    assert (node.store.ingests, node.store.content, node.store.snapshots, node.transfers) == ({}, {}, {}, set())
    assert pull.error.endswith("context canceled")


def test_a_cancelled_pull_releases_its_locks_and_slots(node, push, until):
    ref, _ = push("app:1", *((f"layer{number}", 40) for number in range(4)))
    first = node.pull(ref)
    node.advance(2)
    second = node.pull(ref)
    node.advance(1)
    first.cancel()
    until(lambda: second.state)
    assert second.state is PullPhase.COMPLETED


def test_a_killed_containerd_keeps_its_lease_and_the_next_pull_resumes_the_ingest(node, push, until):
    ref, image = push("app:1", ("app", 40))
    layer = image.layers[0].blob
    dead = node.pull(ref)
    node.advance(2.5)
    offset = node.store.ingests[layer.ref].offset
    node.crash()
    node.advance(60)
    assert dead.state is PullPhase.FAILED
    assert node.store.ingests[layer.ref].offset == offset > 0
    again = node.pull(ref)
    until(lambda: layer.ref in held(again, "ingests"))
    assert node.store.ingests[layer.ref].offset >= offset
    assert layer.ref in held(dead, "ingests")
    until(lambda: again.state)
    assert set(node.store.leases) == {dead.lease.id}
    assert layer.ref in held(dead, "ingests"), "the stale lease lists the ingest, although it no longer exists"


def test_a_layer_that_occurs_twice_in_an_image_is_fetched_only_once(node, push, until):
    ref, image = push("app:1", ("empty", 1), ("app", 2), ("empty", 1))
    pull = node.pull(ref)
    until(lambda: pull.state)
    assert pull.state is PullPhase.COMPLETED
    assert len(node.store.content) == len(image.documents) + 2


def test_removing_an_image_keeps_the_content_that_other_images_need(node, push, until):
    one, first = push("one:1", ("base", 1), ("one", 1))
    two, second = push("two:1", ("base", 1), ("two", 1))
    pulls = [node.pull(one), node.pull(two)]
    until(lambda: all(pull.state for pull in pulls))
    node.remove(one)
    assert {record.image for record in node.store.records.values()} == {second}
    assert set(node.store.snapshots) == set(second.chain_ids)
    assert first.layers[1].blob.digest not in node.store.content


def test_snapshots_remain_when_layer_blobs_are_discarded(registries, push):
    node = VirtualContainerd(registries, now=NOON, store=Store(discard_unpacked_layers=True))
    ref, image = push("app:1", ("app", 4))
    node.pull(ref)
    node.advance(10)
    assert set(node.store.content) == {item.digest for item in image.documents}
    assert set(node.store.snapshots) == set(image.chain_ids)


names = st.sampled_from(["base", "one", "two", "three"])
images = st.lists(names, min_size=1, max_size=4, unique=True)
steps = st.one_of(
    st.tuples(st.just("pull"), st.integers(0, 3)),
    st.tuples(st.just("cancel"), st.integers(0, 3)),
    st.tuples(st.just("crash"), st.just(0)),
    st.tuples(st.just("advance"), st.integers(1, 20)),
)


@settings(max_examples=60)
@given(
    st.lists(images, min_size=4, max_size=4),
    st.lists(steps, max_size=20),
    st.sampled_from([CONTAINERD_1, CONTAINERD_2]),
)
def test_new_pulls_complete_and_leave_no_ingests_after_any_sequence_of_steps(layers, arrival, version):
    registries = Registries()
    refs = [
        registries.push(
            f"{HOST}/app{number}:1", make_image(f"{number}", *(make_layer(name, 9 * MIB) for name in chosen))
        )
        for number, chosen in enumerate(layers)
    ]
    node = VirtualContainerd(registries, now=NOON, version=version, bandwidth=20 * MIB)
    dead = set()
    for what, number in arrival:
        if what == "pull":
            node.pull(refs[number])
        elif what == "cancel" and node.pulls:
            node.pulls[number % len(node.pulls)].cancel()
        elif what == "crash":
            dead |= set(node.store.leases)
            node.crash()
        else:
            node.advance(number / 4)
    last = [node.pull(ref) for ref in refs]
    node.advance(120)
    assert [pull.state for pull in last] == [PullPhase.COMPLETED] * 4
    assert set(node.store.leases) <= dead
    assert not node.store.ingests
    assert not node.transfers
    assert not node.unpacking
    assert all(ref in node.store.records for ref in refs)
