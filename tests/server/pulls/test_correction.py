"""Tests for the corrections of a pull by the kubelet's reports."""

import pytest

from pulltrace.server.kubernetes.objects import EventsHeard
from pulltrace.wire import ErrorReason, LayerPhase, PullPhase
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.changes import event, seen
from tests.server.pulls.test_arrival import Joined, web


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


def test_a_start_time_that_the_agent_guessed_too_early_is_corrected(sim):
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
