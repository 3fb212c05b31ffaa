"""Tests for a pull's earlier attempts, and for the time of its first failure."""

import pytest

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.api import text
from pulltrace.server.kubernetes.objects import PodGone
from pulltrace.server.pulls.earlier import MAX_TEXT, MOST_EARLIER
from pulltrace.wire import NO_CAUSE, ErrorReason, PullPhase, to_time
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull
from tests.server.kubernetes.changes import NOT_FOUND, event, seen
from tests.server.pulls.joined import Joined, web

FAILED = {"status": PullPhase.FAILED, "error": "no space left on device", "error_reason": ErrorReason.DISK_FULL}
CANCELLED = {"status": PullPhase.FAILED, "error": NO_CAUSE}


@pytest.fixture
def sim():
    return Joined()


def fail(sim, arrival, *, began, ended, error=NOT_FOUND):
    """Simulate a failed attempt, with the events and the status that the kubelet would write."""
    sim.apply(event(arrival.pulling("app", NOW + began)), at=began)
    sim.apply(event(arrival.failed("app", NOW + ended, error)), seen(arrival), at=ended)


def numbers(status):
    return [attempt.attempt for attempt in status.earlier_attempts or ()]


def since(status):
    return status.failing_since and status.failing_since.timestamp() - NOW


def test_each_failed_attempt_stays_listed_with_its_start_its_end_and_its_reason(sim):
    arrival = web()
    sim.apply(seen(arrival), at=0)
    fail(sim, arrival, began=1, ended=3)
    assert (sim.one.attempt, sim.one.earlier_attempts, since(sim.one)) == (1, None, 3)
    fail(sim, arrival, began=14, ended=15, error="dial tcp 10.0.0.1:443: i/o timeout")
    sim.apply(event(arrival.pulling("app", NOW + 40)), at=40)
    assert (sim.one.status, sim.one.attempt, since(sim.one)) == (PullPhase.QUEUED, 3, 3)
    first, second = sim.one.earlier_attempts
    assert (first.attempt, first.error_reason, first.error) == (1, ErrorReason.NOT_FOUND, NOT_FOUND)
    assert (first.started_at.timestamp(), first.completed_at.timestamp()) == (NOW + 1, NOW + 3)
    assert (second.attempt, second.error_reason) == (2, ErrorReason.TIMEOUT)


def test_the_attempts_stay_listed_after_a_success_but_the_pull_is_no_longer_shown_as_failing(sim):
    arrival = web()
    sim.apply(seen(arrival), at=0)
    fail(sim, arrival, began=1, ended=3)
    sim.apply(event(arrival.pulling("app", NOW + 14)), event(arrival.pulled("app", NOW + 20)), at=20)
    sim.at(30)
    assert (sim.one.status, numbers(sim.one), since(sim.one)) == (PullPhase.COMPLETED, [1], None)


def test_only_the_newest_attempts_are_kept(sim):
    arrival = web()
    sim.apply(seen(arrival), at=0)
    for attempt in range(MOST_EARLIER + 3):
        fail(sim, arrival, began=400 * attempt + 1, ended=400 * attempt + 3, error=NOT_FOUND + " (x)" * 9)
    assert numbers(sim.one) == list(range(3, MOST_EARLIER + 3))
    assert since(sim.one) == 3
    kept = sim.one.earlier_attempts
    assert len({id(attempt.error) for attempt in kept}) == 1, "equal texts are stored once"
    assert len(kept[0].error) == MAX_TEXT


def test_a_cancelled_attempt_stays_listed_when_it_is_retried(sim):
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    sim.report(pull("lease-1", layer("a", 40 * MIB), at=NOW + 0.1), at=1)
    sim.report(pull("lease-1", layer("a", 40 * MIB), at=NOW + 0.1, ended_at=NOW + 4, **CANCELLED), at=4)
    sim.at(12)
    assert (sim.one.error_reason, since(sim.one)) == (ErrorReason.CANCELED, None)
    sim.apply(event(arrival.pulling("app", NOW + 14)), at=14)
    sim.report(pull("lease-2", layer("a", 50 * MIB), at=NOW + 14.1), at=15)
    (cancelled,) = sim.one.earlier_attempts
    assert (sim.one.status, sim.one.attempt) == (PullPhase.DOWNLOADING, 2)
    assert (cancelled.attempt, cancelled.error_reason, cancelled.percent) == (1, ErrorReason.CANCELED, 40.0)
    assert (cancelled.started_at.timestamp(), cancelled.completed_at.timestamp()) == (NOW + 0.1, NOW + 4)
    assert "cancelled at 40 %" in cancelled.error


def test_an_attempt_counts_as_cancelled_if_it_ends_without_an_error_and_is_retried_immediately(sim):
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    sim.report(pull("lease-1", layer("a", 40 * MIB), at=NOW + 0.1), at=1)
    sim.report(pull("lease-1", layer("a", 40 * MIB), at=NOW + 0.1, ended_at=NOW + 4, **CANCELLED), at=4)
    sim.apply(event(arrival.pulling("app", NOW + 7)), at=7)
    sim.report(pull("lease-2", layer("a", 50 * MIB), at=NOW + 7.1), at=8)
    (cancelled,) = sim.one.earlier_attempts
    assert (cancelled.error_reason, cancelled.error) == (ErrorReason.CANCELED, None)
    assert sim.one.failing_since is None


def test_a_server_that_starts_later_learns_the_time_of_the_first_failure_from_the_kubelet_event(sim):
    arrival = web()
    for attempt in range(5):
        arrival.pulling("app", NOW - 600 + 100 * attempt)
        failed = arrival.failed("app", NOW - 597 + 100 * attempt, NOT_FOUND)
    sim.apply(seen(arrival), event(failed, fresh=False), at=0)
    assert (sim.one.attempt, since(sim.one), sim.one.earlier_attempts) == (5, -597, None)
    fail(sim, arrival, began=10, ended=12)
    assert (sim.one.attempt, since(sim.one), numbers(sim.one)) == (6, -597, [5])
    assert sim.one.earlier_attempts[0].started_at is None, "no event reported this start"


def test_failures_before_the_last_success_do_not_affect_the_time_of_the_first_failure(sim):
    arrival = web()
    sim.apply(seen(arrival), at=0)
    fail(sim, arrival, began=1, ended=3)
    sim.apply(event(arrival.pulling("app", NOW + 14)), event(arrival.pulled("app", NOW + 20)), at=20)
    fail(sim, arrival, began=300, ended=303)
    assert since(sim.shown[-1]) == 303


def test_the_time_of_the_first_failure_is_unknown_without_a_kubelet_event(sim):
    arrival = web()
    arrival.failed("app", NOW - 100, NOT_FOUND)
    sim.apply(seen(arrival), at=0)
    assert (sim.one.status, sim.one.failing_since) == (PullPhase.FAILED, None)


def test_two_pods_that_need_the_same_image_share_the_first_failure_time_of_the_older_pod(sim):
    older, newer = web("web-1"), web("web-2")
    sim.apply(seen(older), seen(newer), at=0)
    fail(sim, older, began=1, ended=3)
    fail(sim, newer, began=50, ended=52)
    assert since(sim.one) == 3
    sim.apply(PodGone(older.pod["metadata"]["uid"]), at=60)
    assert since(sim.one) == 3, "the image has not been on the node since then"


def test_a_pull_with_an_invalid_image_name_has_a_first_failure_time_but_no_earlier_attempts(sim):
    arrival = PodEvents(pod("web-1", "node-1", {"app": "UPPER/Case:1"}, at=NOW))
    for second in (1, 14, 27):
        sim.apply(event(arrival.invalid("app", NOW + second)), seen(arrival), at=second)
    assert (sim.one.attempt, since(sim.one), sim.one.earlier_attempts) == (1, 1, None)


def test_the_earlier_attempts_and_the_first_failure_time_are_known_without_access_to_kubernetes():
    sim = SimulatedHub()
    sim.report(pull("lease-1", layer("a", 10 * MIB), at=NOW), at=1)
    sim.report(pull("lease-1", layer("a", 10 * MIB), at=NOW, ended_at=NOW + 3, **FAILED), at=3)
    assert since(sim.one) == 3
    sim.report(pull("lease-2", layer("a", 20 * MIB), at=NOW + 20), at=21)
    (first,) = sim.one.earlier_attempts
    assert (sim.one.attempt, since(sim.one)) == (2, 3)
    assert (first.attempt, first.error, first.percent) == (1, "no space left on device", 10.0)


def test_the_pod_list_shows_how_long_a_pull_has_been_failing(sim):
    arrival = web()
    sim.apply(seen(arrival), at=0)
    fail(sim, arrival, began=1, ended=3)
    fail(sim, arrival, began=14, ended=16)
    ((container,),) = [row.containers for row in sim.waiting]
    assert (container.attempt, container.failing_since.timestamp()) == (2, NOW + 3)
    assert "not_found for 13s" in text.pulls(sim.shown, to_time(sim.now))
    sim.apply(event(arrival.pulling("app", NOW + 40)), at=40)
    assert "retry queued" in text.pods(sim.waiting, [], to_time(sim.now))
