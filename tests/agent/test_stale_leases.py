"""Tests for pulls that began before the agent started, and for leases that outlive their pulls."""

import pytest

from pulltrace.agent.stale_leases import NO_PROGRESS_LIMIT, UNPACK_LIMIT
from pulltrace.wire import PullPhase
from tests.agent.conftest import MIB
from tests.agent.follow import downloaded
from tests.agent.virtual import restart_containerd


def test_a_stale_lease_is_not_shown_if_no_poll_saw_its_pull(watched, push):
    ref, _ = push("app:1", ("app", 60))
    watched.node.pull(ref)
    watched.node.advance(0.9)  # no poll sees the pull
    restart_containerd(watched)
    watched.polls(3)
    watched.node.now += NO_PROGRESS_LIMIT
    watched.polls(3)
    assert not watched.live
    watched.node.pull(ref)
    watched.until(lambda: watched.ended)
    assert [pull.status for pull in watched.ended] == [PullPhase.COMPLETED]


def test_a_pull_that_completed_just_before_containerd_was_killed_is_reported_as_completed(watched, push):
    ref, _ = push("app:1", ("app", 10))
    pull = watched.node.pull(ref)
    watched.polls(1)
    while pull.state is None:
        watched.node.advance(0.1)
    restart_containerd(watched)
    watched.polls(1)
    assert [pull.status for pull in watched.ended] == [PullPhase.COMPLETED]


def test_the_pull_after_a_crash_resumes_the_download_and_counts_bytes_from_the_resumed_offset(watched, push):
    ref, image = push("app:1", ("app", 60))
    watched.node.pull(ref)
    watched.polls(3)
    restart_containerd(watched)
    watched.polls(2)
    watched.node.pull(ref)
    watched.until(lambda: len(watched.ended) == 2)
    (layer,) = watched.ended[1].layers
    assert layer.cached_bytes > 0
    assert layer.cached_bytes + layer.downloaded_bytes == image.size


def test_a_new_agent_does_not_show_leases_that_were_created_before_containerd_started(watched, push):
    ref, _ = push("app:1", ("app", 60))
    watched.node.pull(ref)
    watched.node.advance(3)
    watched.node.crash()
    watched.restart()
    watched.polls(3)
    assert not watched.history


def test_a_stale_lease_is_shown_for_no_longer_than_the_progress_timeout_if_the_clock_has_been_set_back(watched, push):
    ref, _ = push("app:1", ("app", 60))
    watched.node.pull(ref)
    watched.node.advance(3)
    watched.node.crash()
    watched.node.now += NO_PROGRESS_LIMIT + 10
    watched.node.since = watched.node.now + 3600
    watched.restart()
    watched.polls(3)
    assert not watched.history
    watched.node.pull(ref)
    watched.until(lambda: watched.ended)
    assert len(watched.history) == 1


def test_a_seemingly_stale_pull_that_began_before_the_agent_started_is_shown_as_soon_as_it_makes_progress(
    watched, push
):
    ref, image = push("app:1", ("app", 60))
    watched.node.pull(ref)
    watched.node.advance(2)
    watched.restart()
    watched.tracker.containerd_since = watched.node.now
    watched.poll()
    assert not watched.live
    watched.polls(1)
    assert [downloaded(pull) > 0 for pull in watched.live] == [True]
    watched.until(lambda: watched.ended)
    assert [(pull.image_ref, downloaded(pull)) for pull in watched.ended] == [(ref, image.size)]


@pytest.mark.parametrize("known", [True, False], ids=["known start of containerd", "unknown start of containerd"])
@pytest.mark.parametrize("pause", [0.2, 2])
def test_an_agent_that_starts_after_a_crash_shows_only_the_pull_that_began_after_the_crash(watched, push, pause, known):
    ref, _ = push("app:1", ("app", 60))
    watched.node.pull(ref)
    watched.node.advance(3)
    watched.node.crash()
    watched.node.since *= known
    watched.node.advance(pause)
    again = watched.node.pull(ref)
    watched.node.advance(2)
    watched.restart()
    watched.until(lambda: watched.ended)
    assert set(watched.history) == {again.lease.id}


def test_a_new_agent_shows_a_pull_that_has_long_been_waiting_for_another_pull(watched, push):
    first, image = push("one:1", ("base", 60), ("one", 1))
    second, _ = push("two:1", ("base", 60), ("two", 1))
    watched.node.registries.limits[image.layers[0].blob.digest] = 0.1 * MIB
    watched.node.pull(first)
    watched.node.advance(2)
    watched.node.pull(second)
    watched.node.advance(NO_PROGRESS_LIMIT + 60)
    watched.restart()
    watched.polls(3)
    assert len(watched.live) == 2
    watched.node.registries.limits.clear()
    watched.until(lambda: not watched.node.pulls)
    watched.polls(1)
    assert [pull.status for pull in watched.ended] == [PullPhase.COMPLETED] * 2


def test_a_new_agent_shows_both_pulls_of_the_same_image(watched, push):
    ref, _ = push("app:1", ("app", 90))
    for _ in range(2):
        watched.node.pull(ref)
        watched.node.advance(1.5)
    watched.restart()
    watched.polls(2)
    assert len(watched.live) == 2


def test_a_second_pull_of_the_same_image_does_not_hide_a_pull_that_began_before_the_agent_started(watched, push):
    ref, image = push("app:1", ("app", 90))
    first = watched.node.pull(ref)
    watched.node.advance(3)
    watched.restart()
    watched.poll()
    blob = image.layers[0].blob
    watched.node.registries.holds[blob.digest] = watched.node.store.ingests[f"layer-{blob.digest}"].offset
    watched.node.advance(1)
    second = watched.node.pull(ref)
    watched.polls(3, every=0.2)
    watched.node.registries.holds.clear()
    watched.until(lambda: len(watched.ended) == 2)
    assert set(watched.history) == {first.lease.id, second.lease.id}
    assert {(pull.image_ref, pull.status) for pull in watched.ended} == {(ref, PullPhase.COMPLETED)}


def test_a_pull_that_began_before_the_agent_started_is_reported_even_if_it_completes_immediately(watched, push):
    ref, _ = push("app:1", ("app", 10))
    pull = watched.node.pull(ref)
    watched.restart()
    while ref not in watched.node.store.records:
        watched.node.advance(0.05, step=0.05)
    watched.node.store.leases[pull.lease.id] = pull.lease  # the image exists, but the lease has not been deleted yet
    watched.poll()
    assert not watched.live
    del watched.node.store.leases[pull.lease.id]
    watched.polls(1)
    assert [pull.status for pull in watched.ended] == [PullPhase.COMPLETED]


def test_a_pull_without_progress_is_abandoned_after_half_an_hour(watched, push):
    ref, image = push("app:1", ("app", 60))
    watched.node.registries.holds[image.layers[0].blob.digest] = MIB
    watched.node.pull(ref)
    watched.polls(3)
    watched.node.now += UNPACK_LIMIT - 60
    watched.polls(1)
    assert watched.live
    watched.node.now += 120
    watched.polls(2)
    assert not watched.live
    assert [pull.status for pull in watched.ended] == [PullPhase.FAILED]
