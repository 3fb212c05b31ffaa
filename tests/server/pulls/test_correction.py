"""Tests for how the kubelet's reports correct a pull: first the rules, then the resulting rows."""

import pytest

from pulltrace.server.kubernetes.attempts import Failure
from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.kubernetes.errors import FIRST_BACK_OFF
from pulltrace.server.kubernetes.objects import EventsHeard
from pulltrace.server.pulls.correction import Correction, correction, explained_end
from pulltrace.server.pulls.node import Node, Pull
from pulltrace.wire import ErrorReason, LayerPhase, PullPhase, PullState
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.changes import event, seen
from tests.server.pulls.joined import Joined, web

STARTED, ENDED = NOW, NOW + 30


def ended(phase=PullPhase.FAILED, reason=None, *, presumed=False):
    """Return a pull that has ended."""
    found = Pull("lease", Node("n", NOW, NOW), PullState(), STARTED)
    found.end(phase, ENDED, ENDED, None, reason)
    found.presumed = presumed
    return found


def demand(since=STARTED, *, pulled_at=None, exact=True, seconds=None):
    return ImageDemand(
        node="n",
        image="docker.io/library/nginx:1",
        pods=(),
        since=since,
        pulling=pulled_at is None,
        failure=None,
        pulled_at=pulled_at,
        since_exact=exact,
        pull_seconds=seconds,
    )


def failure(at):
    return Failure(ErrorReason.NOT_FOUND, "not found", attempt=1, at=at, retry=None)


def test_the_start_and_end_of_a_running_pull_are_not_corrected():
    running = Pull("lease", Node("n", NOW, NOW), PullState(), STARTED)
    assert correction(running, demand(pulled_at=ENDED)) is None
    assert explained_end(running, failure(ENDED)) is None


@pytest.mark.parametrize(
    ("since", "end"),
    [(ENDED + 60, ENDED), (ENDED + 4, ENDED + 4 - FIRST_BACK_OFF), (STARTED + 5, STARTED)],
)
def test_an_inferred_end_precedes_the_next_attempt_by_at_least_one_back_off_period(since, end):
    assert correction(ended(presumed=True), demand(since)) == Correction(STARTED, end)
    assert correction(ended(), demand(since)) is None, "the agent observed the end"


def test_an_image_that_arrives_during_a_later_attempt_is_not_attributed_to_the_earlier_pull():
    assert correction(ended(), demand(ENDED + 20, pulled_at=ENDED + 25, seconds=5)) is None


@pytest.mark.parametrize(
    ("presumed", "exact", "pulled_at", "expected"),
    [
        (False, True, ENDED + 20, (ENDED, True)),
        (True, True, ENDED - 20, (ENDED - 20, True)),
        (True, True, ENDED + 20, (ENDED + 20, True)),
        (True, False, ENDED + 20, (ENDED + 20, True)),
        (False, False, ENDED + 7, (ENDED, True)),
        (False, False, ENDED + 20, (ENDED, False)),  # another pull may have fetched the image
        (False, True, STARTED - 20, (ENDED, False)),  # the image arrived before the pull
    ],
)
def test_a_failure_with_an_unknown_reason_is_corrected_if_the_image_is_present(presumed, exact, pulled_at, expected):
    found = correction(ended(presumed=presumed), demand(pulled_at=pulled_at, exact=exact))
    assert (found.ended_at, found.succeeded) == expected


def test_reports_from_the_kubelet_neither_correct_nor_explain_a_cancelled_pull():
    cancelled = ended(reason=ErrorReason.CANCELED)
    assert correction(cancelled, demand(pulled_at=ENDED)) == Correction(STARTED, ENDED)
    assert explained_end(cancelled, failure(ENDED)) is None


@pytest.mark.parametrize(
    ("seconds", "pulled_at", "start"),
    [
        (29.8, ENDED, STARTED),
        (10.0, ENDED + 2, ENDED - 10),
        (40.0, ENDED, STARTED),
        (10.0, ENDED + 3, STARTED),  # the duration is about another pull
    ],
)
def test_the_start_time_of_a_pull_is_corrected_using_the_duration_that_the_kubelet_reports(seconds, pulled_at, start):
    found = correction(ended(PullPhase.COMPLETED), demand(pulled_at=pulled_at, seconds=seconds))
    assert found == Correction(start, ENDED)


@pytest.mark.parametrize(
    ("at", "observed", "inferred"),
    [
        (STARTED - 3, None, None),
        (STARTED - 1, ENDED, ENDED),
        (ENDED - 5, ENDED, ENDED - 5),
        (ENDED + 8, ENDED, ENDED),
        (ENDED + 9, None, None),
    ],
)
def test_a_failure_during_or_soon_after_a_pull_explains_why_the_pull_ended(at, observed, inferred):
    assert explained_end(ended(), failure(at)) == observed
    assert explained_end(ended(presumed=True), failure(at)) == inferred


@pytest.fixture
def sim():
    return Joined()


def test_a_pull_counts_as_completed_if_no_agent_observed_its_end_but_the_kubelet_reports_success(sim):
    arrival = web()
    sim.apply(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    had = layer("b", 0, state=LayerPhase.CACHED, cached_bytes=100 * MIB)
    sim.report(pull("lease-1", layer("a", 60 * MIB), had, at=NOW), at=1)
    sim.apply(event(arrival.pulled("app", NOW + 5)), at=5)
    assert sim.one.status is PullPhase.DOWNLOADING, "its agent may still report more"
    sim.report(boot="the next one", at=8)
    done = sim.one
    assert (done.status, done.percent, done.error, done.error_reason) == (PullPhase.COMPLETED, 100.0, None, None)
    assert (done.downloaded_bytes, done.completed_at.timestamp()) == (done.total_bytes, NOW + 5)
    sim.report(pull("lease-1", layer("a", 70 * MIB), at=NOW), at=9, boot="the next one")
    assert sim.one.status is PullPhase.COMPLETED, "the report describes a time before the end"
    sim.at(30)
    assert sim.metric("pulls_total", registry="docker.io", result="completed") == 1
    assert sim.metric("pulls_total", registry="docker.io", result="failed") == 0


def test_a_start_time_that_the_agent_estimated_too_early_is_corrected(sim):
    one = web()
    sim.report(at=0)
    sim.apply(seen(one), event(one.pulling("app", NOW + 1)), at=1)
    full = {"image_ref": "docker.io/library/nginx:1.27", "status": PullPhase.COMPLETED, "ended_at": NOW + 1.77}
    sim.apply(event(one.pulled("app", NOW + 1, seconds=0.17, size=5)), at=1.8)
    sim.report(pull("lease-1", layer("a", 5, 5, state=LayerPhase.EXTRACTED), at=NOW + 1, **full), at=2)
    assert (sim.one.completed_at - sim.one.started_at).total_seconds() == pytest.approx(0.17)


def test_a_success_reported_by_the_kubelet_overrides_a_failure_reported_by_an_agent(sim):
    """The image was removed right after it was pulled, so the agent did not find it."""
    one = web()
    sim.apply(seen(one), event(one.pulling("app", NOW)), at=0)
    sim.report(pull("lease-1", layer("a", 49 * MIB), at=NOW + 0.1), at=1)
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 3, "error_reason": ErrorReason.UNKNOWN}
    sim.report(pull("lease-1", layer("a", 49 * MIB), at=NOW + 0.1, **ended), at=3.4)
    sim.apply(event(one.pulled("app", NOW + 3, seconds=2.9, size=100)), at=3.5)
    sim.at(20)
    assert (sim.one.status, sim.one.attempt) == (PullPhase.COMPLETED, 1)
    assert (sim.one.percent, sim.one.error) == (100.0, None)
    assert sim.metric("pulls_total", registry="docker.io", result="completed") == 1
    assert sim.metric("pulls_total", registry="docker.io", result="failed") == 0


@pytest.mark.parametrize("report_first", [True, False])
def test_a_running_container_overrides_a_failure_reported_by_an_agent(sim, report_first):
    """The image was removed right after it was pulled, and the kubelet's events cannot be read."""
    one = web()
    sim.apply(EventsHeard(None, heard=False), seen(one), at=0)
    sim.report(pull("lease-1", layer("a", 49 * MIB), at=NOW + 0.1), at=1)
    assert sim.one.status is PullPhase.DOWNLOADING
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 3, "error_reason": ErrorReason.UNKNOWN}
    one.started("app", NOW + 3)
    if not report_first:
        sim.apply(seen(one), at=3.2)
    sim.report(pull("lease-1", layer("a", 49 * MIB), at=NOW + 0.1, **ended), at=3.4)
    if report_first:
        sim.apply(seen(one), at=3.6)
    sim.at(20)
    assert (sim.one.status, sim.one.attempt) == (PullPhase.COMPLETED, 1)
    assert (sim.one.percent, sim.one.error) == (100.0, None)
    assert sim.metric("pulls_total", registry="docker.io", result="completed") == 1
    assert sim.metric("pulls_total", registry="docker.io", result="failed") == 0
