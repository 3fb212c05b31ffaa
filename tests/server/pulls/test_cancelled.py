"""Pulls that were cancelled, pods that no longer wait, nodes that no agent observes."""

import logging

import pytest

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes.objects import PodGone
from pulltrace.wire import ErrorReason, NodeState, PullPhase
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.test_cluster import event, seen
from tests.server.pulls.test_arrival import Joined, web

GONE = {"status": PullPhase.FAILED, "ended_at": NOW + 4, "error_reason": ErrorReason.UNKNOWN}


@pytest.fixture
def world():
    return Joined()


@pytest.mark.parametrize("deleted", [True, False])
def test_a_pull_that_ends_without_an_error_is_cancelled_and_no_failure(world, deleted, caplog):
    caplog.set_level(logging.INFO, "pulltrace")
    one = web()
    world.tell(seen(one), event(one.pulling("app", NOW)), at=0)
    world.say(pull("lease-1", layer("a", 40 * MIB), at=NOW + 0.1), at=1)
    if deleted:
        world.tell(PodGone(one.pod["metadata"]["uid"]), at=2)
    world.say(pull("lease-1", layer("a", 40 * MIB), at=NOW + 0.1, **GONE), at=4)
    world.at(12)
    row = world.one
    assert (row.status, row.error_reason) == (PullPhase.FAILED, ErrorReason.CANCELED)
    assert "40 %" in row.error
    assert ("no pod waits" in row.error, row.pods is None) == (deleted, deleted)
    assert "pull.canceled" in caplog.messages
    assert "pull.failed" not in caplog.messages
    assert world.metric("pulls_total", registry="docker.io", result="canceled") == 1
    assert world.metric("pulls_total", registry="docker.io", result="failed") == 0
    assert world.metric("pull_errors_total", registry="docker.io", reason="canceled") == 0


def test_waiting_pods_are_listed_apart_from_those_that_waited_before(world):
    one, two = web("web-1"), web("web-2")
    for item in (one, two):
        world.tell(seen(item), event(item.pulling("app", NOW)), at=0)
    assert [item.pod_name for item in world.one.pods] == ["web-1", "web-2"]
    world.tell(PodGone(one.pod["metadata"]["uid"]), at=1)
    assert ([item.pod_name for item in world.one.pods], world.one.waited[0].pod_name) == (["web-2"], "web-1")


def test_on_a_node_without_an_agent_a_pull_is_unobserved(world):
    world.hub._agents_due = NOW + 15
    one = PodEvents(pod("web-1", "node-9", {"app": "nginx:1.27"}, at=NOW))
    world.tell(seen(one), event(one.pulling("app", NOW + 20)), at=20)
    assert world.one.status is PullPhase.UNOBSERVED
    (unobserved,) = world.hub.unobserved()
    assert (unobserved.count, unobserved.names) == (1, ["node-9"])
    assert unobserved.reason == "no agent has reported from it"
    world.say(node="node-9", at=21)
    assert world.one.status is PullPhase.QUEUED
    assert world.hub.unobserved() == []
    world.at(121)
    assert next(world.hub.nodes()).state is NodeState.LOST
    assert world.one.status is PullPhase.UNOBSERVED
    assert world.hub.unobserved()[0].reason == "its agent has stopped reporting"
