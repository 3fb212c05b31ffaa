"""Tests for unusual pulls, and for leases used by image builders and other clients."""

import dataclasses
import hashlib

import pytest

from pulltrace.agent.stale_leases import EMPTY_LIMIT
from pulltrace.demo.images import make_image, make_layer
from pulltrace.wire import ErrorReason, PullPhase
from tests.agent.conftest import HOST, MIB
from tests.agent.follow import downloaded, layers


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({"containerd.io/gc.expire": "2027-01-15T09:00:00Z"}, id="an expiry after an hour"),
        pytest.param({"containerd.io/gc.expire": "2027-01-16T08:00:00Z", "buildkit/lease": ""}, id="additional labels"),
    ],
)
def test_the_empty_lease_of_an_image_builder_is_not_shown(watched, labels):
    lease = watched.node.new_lease()
    lease.labels.clear()
    lease.labels.update(labels)
    watched.polls(5)
    watched.node.release(lease)
    watched.polls(2)
    assert not watched.history
    assert not watched.questions


def test_the_empty_lease_of_an_image_builder_is_not_matched_with_the_image_of_a_pull(watched, push):
    ref, _ = push("app:1", ("app", 1))
    lease = watched.node.new_lease()
    lease.labels["buildkit/lease"] = ""
    watched.node.pull(ref)
    watched.polls(1, every=0.05)
    watched.node.advance(5)
    watched.node.release(lease)
    watched.polls(2)
    assert [(pull.image_ref, pull.status) for pull in watched.ended] == [(ref, PullPhase.COMPLETED)]


def test_a_download_by_an_image_builder_completes_without_an_image_record(watched, push):
    ref, image = push("app:1", ("app", 12))
    pull = watched.node.pull(ref)
    pull.lease.labels["buildkit/lease"] = ""
    watched.polls(1)
    assert [live.registry for live in watched.live] == [HOST]
    watched.until(lambda: not watched.node.pulls, every=0.2)
    watched.node.store.records.clear()
    watched.polls(2)
    assert [(ended.status, downloaded(ended)) for ended in watched.ended] == [(PullPhase.COMPLETED, image.size)]


def test_a_pull_ends_as_cancelled_if_its_lease_remains_empty(watched):
    watched.node.new_lease()
    watched.polls(2)
    assert [pull.status for pull in watched.live] == [PullPhase.RESOLVING]
    watched.node.now += EMPTY_LIMIT
    watched.polls(3)
    assert not watched.live
    assert [(pull.status, pull.error_reason) for pull in watched.ended] == [(PullPhase.FAILED, ErrorReason.CANCELED)]


def test_a_lease_with_two_pulled_images_is_reported_without_a_name(watched, push):
    """A client may create a lease and pull several images under it."""
    (first, one), (second, two) = push("one:1", ("one", 4)), push("two:1", ("two", 4))
    pull = watched.node.pull(first)
    watched.until(lambda: downloaded_any(watched), every=0.2)
    lease = watched.node.store.leases[pull.lease.id]
    while watched.node.pulls:
        watched.node.advance(0.1)
    watched.node.store.leases[lease.id] = lease
    other = watched.node.pull(second)
    while watched.node.pulls:
        watched.node.advance(0.1)
    lease.resources.update(other.lease.resources)
    watched.node.store.leases.pop(other.lease.id, None)
    watched.polls(1)
    watched.node.release(lease)
    watched.polls(2)
    (ended,) = watched.ended
    assert (ended.status, ended.image_ref, downloaded(ended)) == (
        PullPhase.COMPLETED,
        f"{HOST}/one",
        one.size + two.size,
    )


def downloaded_any(watched) -> bool:
    return any(downloaded(pull) for pull in watched.live)


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_layers_with_digests_other_than_sha256_show_their_progress(watched, algorithm):
    layer = make_layer("app", 30 * MIB)
    digest = f"{algorithm}:{hashlib.new(algorithm, b'app').hexdigest()}"
    layer = dataclasses.replace(layer, blob=dataclasses.replace(layer.blob, digest=digest))
    image = make_image("app", layer)
    ref = watched.node.registries.push(f"{HOST}/app:1", image)
    watched.node.pull(ref)
    watched.polls(2)
    (live,) = watched.live
    assert 0 < downloaded(live) < image.size
    assert set(layers(live)) == {digest}
    watched.until(lambda: watched.ended)
    assert [(pull.status, pull.image_ref, downloaded(pull)) for pull in watched.ended] == [
        (PullPhase.COMPLETED, ref, image.size)
    ]


@pytest.mark.parametrize("polls", [2, 3])
def test_a_pull_counts_as_completed_even_if_its_image_is_removed_immediately(watched, push, polls):
    ref, image = push("app:1", ("base", 5), ("app", 20))
    watched.node.pull(ref)
    watched.polls(polls, every=0.5)
    assert downloaded(watched.live[0]) < image.size
    while watched.node.pulls:
        watched.node.advance(0.05)
    watched.node.remove(ref)
    watched.polls(2)
    assert [(pull.image_ref, pull.status, downloaded(pull)) for pull in watched.ended] == [
        (ref, PullPhase.COMPLETED, image.size)
    ]


def test_a_cancelled_pull_does_not_count_as_completed_even_if_another_image_is_removed_meanwhile(watched, push):
    (ref, _), (other, _) = push("app:1", ("app", 30)), push("other:1", ("other", 30))
    pull = watched.node.pull(ref)
    removed = watched.node.pull(other)
    watched.polls(3, every=0.5)
    pull.cancel()
    while removed.state is None:
        watched.node.advance(0.05)
    watched.node.remove(other)
    watched.polls(2)
    assert {(item.id, item.status) for item in watched.ended} == {
        (pull.lease.id, PullPhase.FAILED),
        (removed.lease.id, PullPhase.COMPLETED),
    }
