"""Tests with cancelled pulls, pods that stop waiting, and nodes without an agent."""

import logging

import pytest

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes.objects import PodGone
from pulltrace.server.responses import NodeState
from pulltrace.wire import NO_CAUSE, ErrorReason, PullPhase
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.changes import NOT_FOUND, event, seen
from tests.server.pulls.joined import Joined, web

GONE = {"status": PullPhase.FAILED, "ended_at": NOW + 4, "error": NO_CAUSE}


@pytest.fixture
def sim():
    return Joined()


@pytest.mark.parametrize("deleted", [True, False])
def test_a_pull_counts_as_cancelled_rather_than_failed_if_it_ends_without_an_error(sim, deleted, caplog):
    caplog.set_level(logging.INFO, "pulltrace")
    one = web()
    sim.apply(seen(one), event(one.pulling("app", NOW)), at=0)
    sim.report(pull("lease-1", layer("a", 40 * MIB), at=NOW + 0.1), at=1)
    if deleted:
        sim.apply(PodGone(one.pod["metadata"]["uid"]), at=2)
    sim.report(pull("lease-1", layer("a", 40 * MIB), at=NOW + 0.1, **GONE), at=4)
    sim.at(12)
    row = sim.one
    assert (row.status, row.error_reason) == (PullPhase.FAILED, ErrorReason.CANCELED)
    assert "40 %" in row.error
    assert ("no pod waits" in row.error, row.pods is None) == (deleted, deleted)
    assert "pull.canceled" in caplog.messages
    assert "pull.failed" not in caplog.messages
    assert sim.metric("pulls_total", registry="docker.io", result="canceled") == 1
    assert sim.metric("pulls_total", registry="docker.io", result="failed") == 0
    assert sim.metric("pull_errors_total", registry="docker.io", reason="canceled") == 0


def cancel_and_retry(sim):
    """Cancel an attempt, and begin the next one before the kubelet could have reported an error."""
    one = web()
    sim.apply(seen(one), event(one.pulling("app", NOW)), at=0)
    sim.report(pull("lease-1", layer("a", 40 * MIB), at=NOW + 0.1), at=1)
    sim.report(pull("lease-1", layer("a", 40 * MIB), at=NOW + 0.1, **GONE), at=4)
    sim.apply(event(one.pulling("app", NOW + 7)), at=7)
    sim.report(pull("lease-2", layer("a", 50 * MIB), at=NOW + 7.1), at=8)


def test_a_cancelled_attempt_that_is_retried_immediately_is_counted_once_as_cancelled(sim, caplog):
    caplog.set_level(logging.INFO, "pulltrace")
    cancel_and_retry(sim)
    sim.at(20)
    (earlier,) = sim.one.earlier_attempts
    assert earlier.error_reason is ErrorReason.CANCELED
    assert sim.hub.throughput.totals(sim.now)[1] == {"canceled": 1}
    assert sim.metric("pulls_total", registry="docker.io", result="canceled") == 1
    assert caplog.messages.count("pull.canceled") == 1
    assert "pull.failed" not in caplog.messages


def test_two_attempts_that_are_cancelled_within_seconds_are_both_counted(sim):
    cancel_and_retry(sim)
    sim.report(pull("lease-2", layer("a", 50 * MIB), at=NOW + 7.1, **(GONE | {"ended_at": NOW + 8.5})), at=8.6)
    sim.at(20)
    assert sim.one.attempt == 2
    assert sim.hub.throughput.totals(sim.now)[1] == {"canceled": 2}


def test_a_pull_that_containerd_interrupts_by_a_restart_is_counted_once_as_cancelled(sim):
    one = web()
    sim.apply(seen(one), event(one.pulling("app", NOW)), at=0)
    sim.report(pull("lease-1", layer("a", 49 * MIB), at=NOW + 0.1), at=1)
    error = "rpc error: code = Unavailable desc = error reading from server: EOF"
    sim.apply(event(one.failed("app", NOW + 4, error)), at=4)
    sim.report(pull("lease-1", layer("a", 49 * MIB), at=NOW + 0.1, **GONE), at=5)
    sim.at(20)
    assert (sim.one.error_reason, sim.one.error) == (ErrorReason.CANCELED, error)
    assert sim.hub.throughput.totals(sim.now)[1] == {"canceled": 1}


def test_a_cancelled_pull_keeps_its_layers(sim):
    one = web()
    sim.apply(seen(one), event(one.pulling("app", NOW)), at=0)
    sim.report(pull("lease-1", layer("a", 40 * MIB), at=NOW + 0.1), at=1)
    sim.apply(PodGone(one.pod["metadata"]["uid"]), at=2)
    sim.report(pull("lease-1", layer("a", 40 * MIB), at=NOW + 0.1, **GONE), at=4)
    for seconds in (12, 200):
        sim.at(seconds)
        (entry,) = sim.hub.feed.current()
        row = entry.shown(layers=True)
        assert row.error_reason is ErrorReason.CANCELED
        assert row.layers is not None
        assert row.layer_count == 1


def test_an_attempt_that_is_cancelled_before_it_begins_has_the_same_request_time_and_start(sim):
    one = web()
    sim.apply(seen(one), event(one.pulling("app", NOW)), at=0)
    sim.report(pull("lease-1", layer("a", 40 * MIB), at=NOW + 0.1), at=1)
    sim.report(pull("lease-1", layer("a", 40 * MIB), at=NOW + 0.1, **GONE), at=4)
    sim.apply(event(one.failed("app", NOW + 4, NOT_FOUND)), at=4)
    sim.apply(event(one.pulling("app", NOW + 16)), at=16)
    assert (sim.one.status, sim.one.attempt) == (PullPhase.QUEUED, 2)
    sim.apply(PodGone(one.pod["metadata"]["uid"]), at=18)
    sim.at(30)
    row = sim.one
    assert (row.attempt, row.status, row.error_reason) == (2, PullPhase.FAILED, ErrorReason.CANCELED)
    assert row.queued_at == row.started_at < row.completed_at


def test_waiting_pods_and_pods_that_have_stopped_waiting_are_listed_separately(sim):
    one, two = web("web-1"), web("web-2")
    for item in (one, two):
        sim.apply(seen(item), event(item.pulling("app", NOW)), at=0)
    assert [item.pod_name for item in sim.one.pods] == ["web-1", "web-2"]
    sim.apply(PodGone(one.pod["metadata"]["uid"]), at=1)
    assert ([item.pod_name for item in sim.one.pods], sim.one.waited[0].pod_name) == (["web-2"], "web-1")


def test_a_pull_on_a_node_without_an_agent_is_shown_as_unobserved(sim):
    sim.hub._agents_due = NOW + 15
    one = PodEvents(pod("web-1", "node-9", {"app": "nginx:1.27"}, at=NOW))
    sim.apply(seen(one), event(one.pulling("app", NOW + 20)), at=20)
    assert sim.one.status is PullPhase.UNOBSERVED
    (unobserved,) = sim.hub.unobserved()
    assert (unobserved.count, unobserved.names) == (1, ["node-9"])
    assert unobserved.reason == "no agent has reported from it"
    sim.report(node="node-9", at=21)
    assert sim.one.status is PullPhase.QUEUED
    assert sim.hub.unobserved() == []
    sim.at(121)
    assert next(sim.hub.nodes()).state is NodeState.LOST
    assert sim.one.status is PullPhase.UNOBSERVED
    assert sim.hub.unobserved()[0].reason == "its agent has stopped reporting"
