"""Tests for how the newest attempt of an arrival, and its result, are determined from the reports of agents and the
kubelet.
"""

import pytest

from pulltrace.server.kubernetes.objects import PodGone
from pulltrace.server.pulls.row import GIVEN_UP
from pulltrace.wire import ErrorReason, LayerPhase, PullPhase
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.changes import NOT_FOUND, event, seen
from tests.server.pulls.joined import UNSEEN, Joined, web


@pytest.fixture
def sim():
    return Joined()


def test_a_failure_that_no_agent_observed_shows_its_cause_and_its_retry_stays_in_the_same_row(sim):
    arrival = web()
    ids = set()
    for attempt, at, later in ((1, 0, 12.5), (2, 11, 25.0), (3, 32, 46.3)):
        sim.apply(seen(arrival), event(arrival.pulling("app", NOW + at)), at=at)
        assert (sim.one.status, sim.one.attempt) == (PullPhase.QUEUED, attempt)
        sim.apply(event(arrival.failed("app", NOW + at + 1, NOT_FOUND)), seen(arrival), at=at + 1)
        failed = sim.one
        assert (failed.status, failed.attempt, failed.error) == (PullPhase.FAILED, attempt, NOT_FOUND)
        assert failed.error_reason is ErrorReason.NOT_FOUND
        assert failed.next_retry_at.timestamp() == pytest.approx(NOW + at + 1 + later)
        ids.add(failed.id)
    assert len(ids) == 1
    assert sim.metric("pull_errors_total", registry="docker.io", reason="not_found") == 3
    sim.apply(event(arrival.pulling("app", NOW + 73)), event(arrival.pulled("app", NOW + 80)), at=80)
    assert (sim.one.id, sim.one.status, sim.one.error) == (ids.pop(), PullPhase.COMPLETED, None)


def test_a_failure_that_the_agent_observed_gets_its_cause_from_the_kubelet(sim):
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    sim.report(pull("lease-1", layer("a", 10 * MIB), at=NOW), at=1)
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 3, "error_reason": ErrorReason.UNKNOWN}
    sim.report(pull("lease-1", layer("a", 10 * MIB), at=NOW, **ended), at=3)
    sim.apply(event(arrival.failed("app", NOW + 3, NOT_FOUND)), seen(arrival), at=3.5)
    failed = sim.one
    assert (failed.status, failed.error_reason, failed.error) == (PullPhase.FAILED, ErrorReason.NOT_FOUND, NOT_FOUND)
    assert failed.percent == 10.0
    assert failed.next_retry_at.timestamp() == NOW + 15.5
    sim.apply(event(arrival.pulling("app", NOW + 13)), at=13)
    assert (sim.one.id, sim.one.status, sim.one.attempt) == (failed.id, PullPhase.QUEUED, 2)
    sim.report(pull("lease-2", layer("a", 40 * MIB), at=NOW + 13), at=14)
    assert (sim.one.id, sim.one.status, sim.one.attempt, sim.one.error) == (
        failed.id,
        PullPhase.DOWNLOADING,
        2,
        None,
    )


@pytest.mark.parametrize("report_first", [True, False])
def test_a_pull_that_fails_before_its_image_is_known_is_matched_to_the_kubelet_event(sim, report_first):
    arrival, other = web(), web("other", "redis:7")
    sim.apply(
        seen(arrival), seen(other), event(other.pulling("app", NOW - 60)), event(arrival.pulling("app", NOW)), at=0
    )
    changes = event(arrival.failed("app", NOW + 1, NOT_FOUND)), seen(arrival)
    if not report_first:
        sim.apply(*changes, at=1)
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 0.8, "error_reason": ErrorReason.UNKNOWN}
    sim.report(pull("lease-1", at=NOW + 0.2, **(UNSEEN | ended)), at=1.2)
    if report_first:
        sim.apply(*changes, at=1.4)
    (failed,) = [status for status in sim.shown if status.status is PullPhase.FAILED]
    assert (failed.image_ref, failed.error_reason) == ("docker.io/library/nginx:1.27", ErrorReason.NOT_FOUND)
    assert len(sim.shown) == 2
    # The next attempt gets its own row because the first attempt's state has already been published.
    sim.apply(event(arrival.pulling("app", NOW + 11)), at=11)
    sim.report(pull("lease-2", layer("a", MIB), at=NOW + 11.2), at=12)
    assert len(sim.shown) == 2
    assert {status.attempt for status in sim.shown} == {1, 2}


def test_pulls_of_two_tags_of_the_same_repository_are_matched_in_request_order_until_containerd_reports_the_tags(sim):
    one, two = web("a", "registry.io/team/app:1"), web("b", "registry.io/team/app:2")
    sim.apply(seen(one), seen(two), event(two.pulling("app", NOW)), event(one.pulling("app", NOW + 1)), at=1)
    facts = {"registry": "registry.io", "repository": "team/app", "image_ref": "registry.io/team/app"}
    sim.report(
        pull("lease-x", layer("x", MIB), at=NOW + 0.2, **facts),
        pull("lease-y", layer("y", 2 * MIB), at=NOW + 1.2, **facts),
        at=2,
    )
    assert [(status.image_ref[-1], status.ref_guessed, status.pods[0].pod_name) for status in sim.shown] == [
        ("2", True, "b"),
        ("1", False, "a"),
    ]
    # The server guessed wrong: lease-x belongs to tag 1.
    done = layer("x", 100 * MIB, state=LayerPhase.EXTRACTED)
    done_facts = facts | {"image_ref": "registry.io/team/app:1", "status": PullPhase.COMPLETED, "ended_at": NOW + 4}
    other = pull("lease-y", layer("y", 3 * MIB), at=NOW + 1.2, **facts)
    sim.report(pull("lease-x", done, at=NOW + 0.2, **done_facts), other, at=4)
    shown = {status.image_ref[-1]: status for status in sim.shown}
    assert (shown["1"].status, shown["1"].pods[0].pod_name) == (PullPhase.COMPLETED, "a")
    assert (shown["2"].status, shown["2"].pods[0].pod_name) == (PullPhase.DOWNLOADING, "b")
    assert len(sim.shown) == 2


def test_a_reference_by_digest_is_matched_exactly(sim):
    digest = "sha256:" + "a" * 64
    one, two = web("a", f"registry.io/team/app:1@{digest}"), web("b", "registry.io/team/app:2")
    sim.apply(seen(one), seen(two), event(two.pulling("app", NOW)), event(one.pulling("app", NOW)), at=0)
    facts = {"registry": "registry.io", "repository": "team/app", "image_ref": "registry.io/team/app"}
    sim.report(pull("lease-x", layer("x", MIB), at=NOW, manifest_digest=digest, **facts), at=1)
    found = next(status for status in sim.shown if status.status is PullPhase.DOWNLOADING)
    assert (found.image_ref, found.ref_guessed, found.pods[0].pod_name) == (
        f"registry.io/team/app@{digest}",
        False,
        "a",
    )


def test_a_success_that_the_kubelet_reported_is_kept_if_an_older_report_arrives_afterwards(sim):
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=1)
    sim.apply(event(arrival.pulled("app", NOW + 5)), at=5)
    ended = sim.one
    assert (ended.status, ended.percent) == (PullPhase.COMPLETED, 100.0)
    sim.report(pull("lease-1", layer("a", 10 * MIB), at=NOW + 0.5), at=6)
    assert (sim.one.id, sim.one.status) == (ended.id, PullPhase.COMPLETED)
    full = {"image_ref": "docker.io/library/nginx:1.27", "status": PullPhase.COMPLETED, "ended_at": NOW + 5}
    sim.report(pull("lease-1", layer("a", 100 * MIB, state=LayerPhase.EXTRACTED), at=NOW + 0.5, **full), at=7)
    assert (sim.one.id, sim.one.status, sim.one.downloaded_bytes) == (
        ended.id,
        PullPhase.COMPLETED,
        100 * MIB,
    )
    assert sim.metric("pulls_total", registry="docker.io", result="completed") == 1


def test_the_bytes_of_one_attempt_are_not_carried_over_to_the_next_attempt(sim):
    """The agent is disconnected when the pull fails and the kubelet starts the next attempt."""
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    sim.report(pull("lease-1", layer("a", 60 * MIB), at=NOW), at=1)
    sim.apply(event(arrival.failed("app", NOW + 5, NOT_FOUND)), event(arrival.pulling("app", NOW + 15)), at=15)
    assert (sim.one.attempt, sim.one.percent) == (1, 60.0)
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 5}
    again = pull("lease-2", layer("a", 5 * MIB), at=NOW + 15)
    sim.report(pull("lease-1", layer("a", 60 * MIB), at=NOW, **ended), again, at=20)
    assert (sim.one.attempt, sim.one.percent, sim.one.status) == (2, 5.0, PullPhase.DOWNLOADING)


def test_the_first_attempt_for_a_replacement_pod_is_shown_as_the_second_attempt_in_the_same_row(sim):
    """A pod is deleted in the middle of its pull, and its successor requests the same image."""
    arrival, again = web(), web("web-2")
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    sim.report(pull("lease-1", layer("a", 60 * MIB), at=NOW), at=1)
    sim.apply(PodGone(arrival.pod["metadata"]["uid"]), at=2)
    sim.report(pull("lease-1", layer("a", 60 * MIB), at=NOW, status=PullPhase.FAILED, ended_at=NOW + 3), at=3)
    sim.apply(seen(again), event(again.pulling("app", NOW + 9)), at=9)
    assert (sim.one.attempt, sim.one.percent, sim.one.status) == (2, 0.0, PullPhase.QUEUED)
    sim.report(pull("lease-2", layer("a", 5 * MIB), at=NOW + 9), at=10)
    assert (sim.one.attempt, sim.one.percent, sim.one.status) == (2, 5.0, PullPhase.DOWNLOADING)


def test_a_failure_that_the_kubelet_reported_is_kept_if_an_older_report_arrives_afterwards(sim):
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    sim.apply(event(arrival.failed("app", NOW + 1, NOT_FOUND)), seen(arrival), at=1)
    assert sim.one.status is PullPhase.FAILED
    live = pull("lease-1", at=NOW + 0.2, status=PullPhase.RESOLVING, image_ref="docker.io/library/nginx")
    sim.report(live, at=2)
    assert (sim.one.status, sim.one.attempt) == (PullPhase.FAILED, 1)
    sim.report(pull("lease-1", at=NOW + 0.2, status=PullPhase.FAILED, ended_at=NOW + 1), at=3)
    assert (sim.one.status, sim.one.error) == (PullPhase.FAILED, NOT_FOUND)
    # The agent observes the next attempt before the kubelet event about it arrives.
    sim.report(pull("lease-2", layer("a", 5 * MIB), at=NOW + 11), at=12)
    assert (sim.one.status, sim.one.attempt) == (PullPhase.DOWNLOADING, 2)


def test_a_failure_is_attributed_to_its_own_attempt_even_if_the_next_attempt_has_started(sim):
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=1)
    sim.report(pull("lease-1", layer("a", 50 * MIB), at=NOW + 0.3), at=1.2)
    sim.apply(event(arrival.failed("app", NOW + 1, NOT_FOUND)), at=1.4)
    sim.report(pull("lease-1", layer("a", 50 * MIB), at=NOW + 0.3, status=PullPhase.FAILED, ended_at=NOW + 1.5), at=1.8)
    sim.apply(event(arrival.pulling("app", NOW + 2)), at=2)
    assert sim.one.attempt == (1 if sim.one.status is PullPhase.FAILED else 2)
    sim.report(pull("lease-2", layer("a", 60 * MIB), at=NOW + 2.1), at=2.5)
    assert (sim.one.status, sim.one.attempt) == (PullPhase.DOWNLOADING, 2)
    sim.report(pull("lease-2", layer("a", 70 * MIB), at=NOW + 2.1), at=3.5)
    assert (sim.one.status, sim.one.attempt) == (PullPhase.DOWNLOADING, 2)


def test_a_retry_ends_when_the_last_pod_waiting_for_the_image_is_deleted(sim):
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=1)
    sim.report(pull("lease-1", layer("a", MIB), at=NOW + 0.5), at=2)
    sim.report(pull("lease-1", layer("a", MIB), at=NOW + 0.5, status=PullPhase.FAILED, ended_at=NOW + 3), at=3)
    sim.apply(event(arrival.failed("app", NOW + 3, NOT_FOUND)), event(arrival.pulling("app", NOW + 13)), at=13)
    assert (sim.one.status, sim.one.attempt) == (PullPhase.QUEUED, 2)
    sim.apply(PodGone(arrival.pod["metadata"]["uid"]), at=14)
    assert (sim.one.status, sim.one.attempt, sim.one.error) == (PullPhase.FAILED, 2, GIVEN_UP)
    # The kubelet pulls the image anyway.
    sim.report(pull("lease-2", layer("a", 2 * MIB), at=NOW + 13.5), at=15)
    assert (sim.one.status, sim.one.attempt) == (PullPhase.DOWNLOADING, 2)


def test_a_pull_counts_as_the_next_attempt_if_it_is_still_running_long_after_the_failure(sim):
    one, two = web("web-1"), web("web-2")
    sim.apply(seen(one), seen(two), event(one.pulling("app", NOW)), event(two.pulling("app", NOW)), at=0)
    sim.apply(event(one.failed("app", NOW + 1, NOT_FOUND)), at=1)
    sim.apply(event(two.failed("app", NOW + 1, NOT_FOUND)), at=1)
    for second in range(2, 9):  # the report may be late, and may be about the pull that failed
        sim.report(pull("lease-1", layer("a", second * MIB), at=NOW + 0.5), at=second)
        assert (sim.one.status, sim.one.attempt) == (PullPhase.FAILED, 1)
    sim.report(pull("lease-1", layer("a", 20 * MIB), at=NOW + 0.5), at=10)
    assert (sim.one.status, sim.one.attempt) == (PullPhase.DOWNLOADING, 2)
