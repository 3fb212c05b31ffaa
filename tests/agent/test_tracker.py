"""Tests for the agent's reports in various scenarios on a simulated node."""

import pytest

from pulltrace.agent.model import BlobQuestion, DocumentQuestion, SnapshotQuestion
from pulltrace.demo.virtual_containerd import CONTAINERD_1
from pulltrace.wire import MAX_LAYERS, UNKNOWN_IMAGE, LayerPhase, PullPhase
from tests.agent.conftest import HOST, MIB
from tests.agent.follow import downloaded, layers, to_fetch
from tests.agent.virtual import Watched, restart_containerd

DEAD = "containerd restarted"


def test_a_pull_is_reported_from_the_creation_of_its_lease_until_its_image_exists(watched, push):
    ref, image = push("app:1", ("base", 10), ("app", 30))
    watched.node.pull(ref)
    watched.until(lambda: watched.ended, every=0.5)
    (history,) = watched.history.values()
    phases = list(dict.fromkeys(pull.status for pull in history))
    assert phases == [PullPhase.RESOLVING, PullPhase.DOWNLOADING, PullPhase.EXTRACTING, PullPhase.COMPLETED]
    assert history[0].image_ref == UNKNOWN_IMAGE
    assert history[-1].image_ref == ref
    assert {to_fetch(pull) for pull in history if pull.total_known} == {image.size}
    assert downloaded(history[-1]) == image.size
    assert [layer.digest for layer in history[-1].layers] == [layer.blob.digest for layer in image.layers]
    assert not watched.live


def test_a_pull_without_layers_completes(watched, push):
    ref, _ = push("scratch:1")
    watched.node.pull(ref)
    watched.until(lambda: watched.ended, every=0.05)
    (history,) = watched.history.values()
    known = [pull.status for pull in history if pull.total_known]
    assert set(known) <= {PullPhase.EXTRACTING, PullPhase.COMPLETED}
    assert known[-1] is PullPhase.COMPLETED


def test_two_concurrent_pulls_of_the_same_image_have_the_same_name(watched, push):
    ref, image = push("app:1", ("base", 10), ("app", 30))
    for _ in range(2):
        watched.node.pull(ref)
    watched.until(lambda: len(watched.ended) == 2, every=0.05)
    assert {(pull.image_ref, pull.status) for pull in watched.ended} == {(ref, PullPhase.COMPLETED)}
    own = [sum(x.downloaded_bytes for x in pull.layers if not x.fetched_by) for pull in watched.ended]
    assert sum(own) == image.size, "no byte counts twice"


@pytest.mark.parametrize("size", [0, 4], ids=["no layers", "one layer"])
@pytest.mark.parametrize("late", [1, 10])
def test_a_pull_completes_even_if_its_lease_outlives_an_overlapping_pull_of_the_same_image(watched, push, late, size):
    """The overlapping pull updates and claims the image record first."""
    ref, _ = push("app:1", *([("app", size)] if size else []))
    watched.node.pull(ref)
    watched.until(lambda: watched.ended)
    lease = watched.node.new_lease()
    lease.resources |= {("content", digest): None for digest in watched.node.store.content}
    watched.node.pull(ref)
    watched.until(lambda: len(watched.ended) == 2, every=0.05)
    watched.polls(late)
    assert [pull.id for pull in watched.live] == [lease.id]
    watched.node.release(lease)
    watched.polls(2)
    assert [(pull.image_ref, pull.status) for pull in watched.ended] == 3 * [(ref, PullPhase.COMPLETED)]


def test_a_cancelled_pull_counts_as_failed_even_if_another_pull_of_its_image_has_completed(start_simulated, push):
    node = start_simulated(CONTAINERD_1)
    watched = Watched(node)
    watched.poll()
    ref, _ = push("app:1", ("app", 10))
    node.pull(ref)
    node.registries.silent.add(f"{HOST}/app")
    node.registries.silent.discard(f"{HOST}/app")
    node.advance(0.5)
    node.registries.silent.add(f"{HOST}/app")
    twin = node.pull(ref)
    watched.until(lambda: watched.ended)
    assert watched.ended[0].status is PullPhase.COMPLETED
    watched.polls(2)
    assert watched.live, "the other pull is still resolving"
    twin.cancel()
    watched.until(lambda: not watched.live)
    assert [pull.status for pull in watched.ended] == [PullPhase.COMPLETED, PullPhase.FAILED]


def test_a_layer_that_another_pull_is_downloading_is_reported_with_the_id_of_that_pull(watched, push):
    first, image = push("one:1", ("base", 30), ("one", 5))
    second, _ = push("two:1", ("base", 30), ("two", 5))
    watched.node.pull(first)
    watched.polls(1)
    watched.node.pull(second)
    base = image.layers[0].blob.digest
    watched.polls(2)
    mine, theirs = (layers(pull)[base] for pull in watched.live)
    assert mine.fetched_by is None
    assert theirs.fetched_by == watched.live[0].id
    assert theirs.downloaded_bytes == mine.downloaded_bytes > 0
    watched.until(lambda: len(watched.ended) == 2, every=0.05)
    assert all(pull.status is PullPhase.COMPLETED for pull in watched.ended)


@pytest.mark.parametrize("apart", [0, 0.1, 0.5, 2])
@pytest.mark.parametrize("every", [0.05, 0.3, 1])
def test_an_image_pulled_from_two_repositories_keeps_two_names(watched, push, apart, every):
    one, image = push("one:1", ("app", 60))
    two = watched.node.registries.push(f"{HOST}/two:1", image)
    first = watched.node.pull(one)
    for _ in range(round(apart / every)):
        watched.polls(1, every)
    second = watched.node.pull(two)
    watched.until(lambda: len(watched.ended) == 2, every)
    for pull, ref in ((first, one), (second, two)):
        told = {item.image_ref for item in watched.history[pull.lease.id] if not item.ref_guessed}
        assert told <= {ref, ref.partition(":1")[0], UNKNOWN_IMAGE}


def test_a_base_layer_unpacked_by_another_pull_is_shown_as_unpacked_with_every_version_of_containerd(watched, push):
    first, image = push("one:1", ("base", 30), ("one", 60))
    second, _ = push("two:1", ("base", 30), ("two", 90))
    watched.node.pull(first)
    watched.node.advance(0.5)
    pull = watched.node.pull(second)
    base = image.layers[0].blob.digest
    seen = set()

    def unpacked_while_live():
        for told in watched.live:
            if told.id == pull.lease.id and layers(told).get(base):
                seen.add(layers(told)[base].state)
        return LayerPhase.EXTRACTED in seen or watched.ended

    watched.until(unpacked_while_live, every=0.5)
    assert LayerPhase.EXTRACTED in seen


@pytest.mark.parametrize("every", [0.1, 0.5, 1])
def test_layers_are_counted_as_cached_if_they_arrive_while_the_pull_is_waiting_for_its_manifest(watched, push, every):
    first, image = push("one:1", ("base", 30), ("app", 5))
    second = watched.node.registries.push(f"{HOST}/two:1", image)
    watched.node.registries.silent.add(f"{HOST}/two")
    watched.node.pull(first)
    watched.polls(1, every)
    watched.node.pull(second)
    watched.until(lambda: watched.ended, every)
    watched.polls(1, every)
    watched.node.registries.silent.clear()
    watched.until(lambda: len(watched.ended) == 2, every)
    assert [(pull.image_ref, downloaded(pull), to_fetch(pull)) for pull in watched.ended] == [
        (first, image.size, image.size),
        (second, 0, 0),
    ]


@pytest.mark.parametrize("apart", [0, 0.05, 0.4])
def test_bytes_are_counted_only_once_if_two_pulls_of_an_image_end_between_two_polls(watched, push, apart):
    ref, image = push("app:1", ("base", 10), ("app", 30))
    watched.node.pull(ref)
    watched.node.advance(apart)
    watched.node.pull(ref)
    watched.node.advance(0.5)
    watched.poll()
    assert len(watched.live) == 2
    watched.polls(1, every=8)
    assert [pull.status for pull in watched.ended] == 2 * [PullPhase.COMPLETED]
    fetched = [layer.downloaded_bytes for pull in watched.ended for layer in pull.layers if not layer.fetched_by]
    assert sum(fetched) == image.size


def test_a_waiting_pull_takes_over_the_download_of_a_cancelled_pull(watched, push):
    first, _ = push("one:1", ("base", 60), ("one", 1))
    second, image = push("two:1", ("base", 60), ("two", 1))
    fetching = watched.node.pull(first)
    watched.polls(1)
    watched.node.pull(second)
    watched.polls(2)
    fetching.cancel()
    watched.polls(2)
    assert [pull.status for pull in watched.ended] == [PullPhase.FAILED]
    (pull,) = watched.live
    base = layers(pull)[image.layers[0].blob.digest]
    assert (base.fetched_by, base.state) == (None, LayerPhase.DOWNLOADING)
    watched.until(lambda: len(watched.ended) == 2, every=0.05)
    assert downloaded(watched.ended[1]) == image.size


def test_garbage_collected_blobs_of_a_cancelled_pull_do_not_count_as_cached(watched, push):
    ref, image = push("app:1", ("base", 2), ("app", 60))
    cancelled = watched.node.pull(ref)
    watched.polls(2)
    cancelled.cancel()  # the cancelled pull's blobs remain for 0.2 s
    watched.node.pull(ref)
    watched.polls(1, every=0.05)
    watched.until(lambda: len(watched.ended) == 2, every=0.05)
    again = watched.ended[1]
    assert to_fetch(again) == downloaded(again)
    assert downloaded(again) in (image.size, image.size - 2 * MIB), "the pull fetched only what had been collected"


def test_a_layer_that_an_image_contains_twice_is_counted_only_once(watched, push):
    ref, image = push("app:1", ("empty", 1), ("app", 20), ("empty", 1))
    watched.node.pull(ref)
    watched.until(lambda: watched.ended)
    (pull,) = watched.ended
    assert downloaded(pull) == 21 * MIB
    assert [layer.state for layer in pull.layers] == [LayerPhase.EXTRACTED] * 2
    assert len(image.layers) == 3


def test_an_image_that_is_removed_and_pulled_again_is_downloaded_again(watched, push):
    ref, image = push("app:1", ("app", 10))
    for _ in range(2):
        watched.node.pull(ref)
        watched.until(lambda: not watched.live and not watched.node.pulls)
        watched.node.remove(ref)
    assert [downloaded(pull) for pull in watched.ended] == [image.size] * 2


def test_a_repeated_pull_of_an_unchanged_tag_completes_and_counts_as_cached(watched, push):
    ref, image = push("app:1", ("app", 10))
    for _ in range(2):
        watched.node.pull(ref)
        watched.until(lambda: watched.node.pulls == [], every=0.2)
        watched.polls(1)
    again = watched.ended[1]
    assert (again.status, again.image_ref, to_fetch(again), downloaded(again)) == (PullPhase.COMPLETED, ref, 0, 0)
    assert sum(layer.cached_bytes for layer in again.layers) == image.size


def test_layers_are_counted_as_downloaded_even_if_containerd_discards_them(start_simulated, push):
    watched = Watched(start_simulated(discard_unpacked_layers=True))
    watched.poll()
    ref, image = push("app:1", ("base", 3), ("app", 20))
    watched.node.pull(ref)
    watched.until(lambda: watched.ended)
    assert downloaded(watched.ended[0]) == image.size


@pytest.mark.parametrize("kind", [SnapshotQuestion, BlobQuestion, DocumentQuestion])
def test_a_query_is_sent_again_if_it_got_no_response(watched, push, kind):
    watched.node.pull(push("base:1", ("base", 10))[0])
    watched.until(lambda: not watched.node.pulls)
    watched.polls(1)
    ref, image = push("app:1", ("base", 10), ("app", 60))
    watched.refuses = lambda question: isinstance(question, kind)
    watched.node.pull(ref)
    watched.polls(3)
    watched.refuses = lambda _: False
    watched.polls(1)
    (pull,) = watched.live
    base = layers(pull)[image.layers[0].blob.digest]
    assert (base.state, base.cached_bytes) == (LayerPhase.CACHED, 10 * MIB)


def test_a_pull_is_followed_until_it_completes_even_if_the_snapshotter_never_responds(watched, push):
    watched.refuses = lambda question: isinstance(question, SnapshotQuestion)
    ref, image = push("app:1", ("app", 30))
    watched.node.pull(ref)
    watched.until(lambda: watched.ended)
    assert (watched.ended[0].status, downloaded(watched.ended[0])) == (PullPhase.COMPLETED, image.size)


def test_pulls_fail_and_are_no_longer_live_when_containerd_is_killed(watched, push):
    ref, _ = push("app:1", ("app", 60))
    watched.node.pull(ref)
    watched.polls(3)
    restart_containerd(watched)
    watched.polls(3)
    assert [(pull.status, DEAD in pull.error) for pull in watched.ended] == [(PullPhase.FAILED, True)]
    assert not watched.live


def test_a_pull_with_too_many_layers_completes_without_sizes(watched, push):
    ref, _ = push("app:1", *((f"layer-{number}", 1) for number in range(MAX_LAYERS + 1)))
    watched.node.pull(ref)
    watched.until(lambda: watched.ended, every=10)
    (ended,) = watched.ended
    assert (ended.image_ref, ended.status) == (ref, PullPhase.COMPLETED)
    assert not any(pull.total_known for pull in watched.history[ended.id])


def test_an_ingest_without_a_lease_is_shown_only_while_it_grows(watched, push):
    ref, image = push("app:1", ("app", 60))
    pull = watched.node.pull(ref)
    watched.node.advance(1)
    watched.node.store.leases.pop(pull.lease.id)
    watched.node.store.collect = lambda: None  # garbage collection never removes the blobs
    watched.poll()
    assert not watched.live
    watched.polls(2)
    (told,) = watched.live
    assert told.image_ref == UNKNOWN_IMAGE
    assert told.id.startswith("fetch-")
    watched.until(lambda: watched.ended)
    assert downloaded(watched.ended[0]) == image.size


def test_a_lease_does_not_count_as_a_pull_if_its_snapshots_are_not_layers(watched):
    lease = watched.node.new_lease()
    lease.resources["snapshots/overlayfs", "buildkit-something"] = None
    watched.polls(3)
    assert not watched.live
    watched.node.store.leases.clear()
    watched.polls(2)
    assert not watched.ended


def test_a_sandbox_lease_does_not_count_as_a_pull_and_needs_no_queries(watched):
    watched.node.new_lease(expires=False)
    watched.polls(3)
    assert watched.tracker.idle
    assert not watched.questions


def test_no_queries_are_made_while_a_pull_is_only_downloading(start_simulated, push):
    watched = Watched(start_simulated(CONTAINERD_1))
    ref, _ = push("app:1", ("app", 60))
    watched.node.pull(ref)
    watched.polls(4)
    assert downloaded(watched.live[0]) > 0
    assert not watched.questions


def test_finished_pulls_leave_no_data_in_memory(watched, push):
    for number in range(200):
        watched.node.pull(push(f"app{number}:1", (f"app{number}", 1))[0])
        watched.until(lambda: not watched.node.pulls, every=0.5)
        watched.polls(1)
    tracker, facts = watched.tracker, watched.tracker.facts
    assert tracker.idle
    assert not tracker._missing_lease
    assert not facts.blobs | facts.snapshots | facts.images
    assert len(facts.documents) <= 64
    assert not tracker._evidence
    assert len(tracker._ledger) <= 3
