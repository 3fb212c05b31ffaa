"""Tests for the phases of a pod's start-up: each point in time belongs to exactly one phase, and the durations add up
to the total.
"""

import pytest

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes.objects import PodGone
from pulltrace.server.pulls.startup import KEPT, MAX_PODS
from pulltrace.wire import LayerPhase, PullPhase, to_time
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.changes import NOT_FOUND, event, seen
from tests.server.pulls.joined import Joined

NGINX = {"image_ref": "docker.io/library/nginx:1.27"}


class Starting(Joined):
    """A simulated hub that also tracks how pods start."""

    def apply(self, *changes, at):
        self.at(at)
        for change in changes:
            self.hub.startup.apply(change, self.now)
        super().apply(*changes, at=at)

    @property
    def started(self):
        return list(self.hub.startup.started(self.now))

    def phases(self, name="web-1"):
        found = self.hub.startup.phases_of("default", name, self.now)
        return {item.phase.value: item.seconds for item in found or ()}


def seconds(pod):
    return {item.phase.value: item.seconds for item in pod.phases}


@pytest.fixture
def sim():
    return Starting()


@pytest.fixture
def web():
    return PodEvents(pod("web-1", "node-1", {"app": "nginx:1.27"}, at=NOW, owner=("ReplicaSet", "web-5d4f7c9b8d")))


def start(sim, web):
    """Start a pod whose phases take 3 s (scheduled), 4 s (queued), 10 s (pulling), 5 s (unpacking) and 2 s
    (created).
    """
    sim.apply(seen(web), at=0.5)
    assert sim.phases() == {"scheduled": None}
    sim.apply(event(web.pulling("app", NOW + 3)), at=3)
    sim.at(5)
    assert sim.phases() == {"scheduled": 3.0, "queued": None}
    for second in range(8, 17):
        sim.report(pull("lease-1", layer("a", (second - 7) * 10 * MIB), at=NOW + 7), at=second)
    assert sim.phases() == {"scheduled": 3.0, "queued": 4.0, "pulling": None}
    here = layer("a", 100 * MIB, state=LayerPhase.EXTRACTING)
    sim.report(pull("lease-1", here, at=NOW + 7, status=PullPhase.EXTRACTING), at=17)
    sim.report(pull("lease-1", here, at=NOW + 7, status=PullPhase.EXTRACTING), at=20)
    assert sim.phases() == {"scheduled": 3.0, "queued": 4.0, "pulling": 10.0, "unpacking": None}
    done = layer("a", 100 * MIB, state=LayerPhase.EXTRACTED)
    ended = {"status": PullPhase.COMPLETED, "ended_at": NOW + 22}
    sim.report(pull("lease-1", done, at=NOW + 7, **(NGINX | ended)), at=22.5)
    sim.apply(event(web.pulled("app", NOW + 22, seconds=15)), at=23)
    assert sim.phases()["created"] is None
    web.started("app", NOW + 24)
    sim.apply(seen(web), at=24.5)


def test_the_first_attempt_counts_even_if_its_event_arrives_before_the_pod(sim, web):
    sim.apply(event(web.pulling("app", NOW + 1)), event(web.failed("app", NOW + 2, NOT_FOUND)), at=2)
    sim.apply(seen(web), at=3)
    sim.apply(event(web.pulling("app", NOW + 14)), at=14)
    sim.at(20)
    assert sim.phases() == {"scheduled": 1.0, "queued": None}


def test_a_pod_goes_through_its_phases_and_is_listed_once_it_has_started(sim, web):
    start(sim, web)
    assert sim.phases() == {}
    (started,) = sim.started
    assert (started.pod_name, started.owner, started.seconds) == ("web-1", "Deployment/web", 24.0)
    assert (started.scheduled_at, started.started_at) == (to_time(NOW), to_time(NOW + 24))
    assert seconds(started) == {"scheduled": 3.0, "queued": 4.0, "pulling": 10.0, "unpacking": 5.0, "created": 2.0}
    assert sum(seconds(started).values()) == started.seconds
    assert [item.started_at for item in started.phases] == [to_time(NOW + at) for at in (0, 3, 7, 17, 22)]


def test_the_phases_of_a_started_pod_are_measured_only_once(sim, web):
    start(sim, web)
    sim.apply(seen(web), at=30)
    for phase, total in (("scheduled", 3.0), ("queued", 4.0), ("pulling", 10.0), ("unpacking", 5.0), ("created", 2.0)):
        assert sim.metric("pod_start_phase_seconds_sum", phase=phase) == total
        assert sim.metric("pod_start_phase_seconds_count", phase=phase) == 1


def test_a_started_pod_is_listed_for_half_an_hour(sim, web):
    start(sim, web)
    sim.at(24 + KEPT - 1)
    assert len(sim.started) == 1
    sim.at(24 + KEPT + 1)
    assert sim.started == []


def test_a_deleted_pod_is_not_listed(sim, web):
    start(sim, web)
    sim.apply(PodGone(web.pod["metadata"]["uid"]), at=25)
    assert sim.started == []


def test_a_pull_that_no_agent_observed_is_split_into_the_phases_that_the_kubelet_reports(sim, web):
    sim.apply(seen(web), event(web.pulling("app", NOW + 1)), at=1)
    message = web.pulled("app", NOW + 21, seconds=15)
    message["message"] = message["message"].replace("15.000s including", "20.000s including")
    sim.apply(event(message), at=21)
    web.started("app", NOW + 22)
    sim.apply(seen(web), at=22)
    (started,) = sim.started
    assert seconds(started) == {"scheduled": 1.0, "queued": 5.0, "pulling": 15.0, "created": 1.0}


def test_a_replica_is_queued_until_the_kubelet_has_checked_that_the_image_is_present(sim, web):
    """A kubelet that pulls serially calls the runtime once for each pod, in the order in which the pods requested the
    image.
    """
    sim.apply(seen(web), at=0.5)
    sim.apply(event(web.pulling("app", NOW + 1)), at=1)
    sim.report(pull("lease-1", layer("a", 50 * MIB), at=NOW + 1), at=3)
    done = layer("a", 100 * MIB, state=LayerPhase.EXTRACTED)
    ended = {"status": PullPhase.COMPLETED, "ended_at": NOW + 5}
    sim.report(pull("lease-1", done, at=NOW + 1, **(NGINX | ended)), at=5.2)
    sim.at(9)
    assert sim.phases() == {"scheduled": 1.0, "queued": None, "pulling": 4.0}
    sim.apply(event(web.pulled("app", NOW + 12, seconds=0.1)), at=12)
    web.started("app", NOW + 13)
    sim.apply(seen(web), at=13.5)
    (started,) = sim.started
    assert seconds(started) == pytest.approx({"scheduled": 1.0, "queued": 7.0, "pulling": 4.0, "created": 1.0})


def test_an_image_that_is_already_present_does_not_delay_the_start_of_a_pod(sim, web):
    sim.apply(seen(web), event(web.already_present("app", NOW + 2)), at=2)
    web.started("app", NOW + 3)
    sim.apply(seen(web), at=3)
    (started,) = sim.started
    assert seconds(started) == {"scheduled": 2.0, "created": 1.0}


def test_a_pod_counts_as_queued_between_a_failed_pull_and_the_next_attempt(sim, web):
    sim.apply(seen(web), event(web.pulling("app", NOW + 1)), event(web.failed("app", NOW + 2, "timeout")), at=2)
    sim.at(30)
    assert sim.phases() == {"scheduled": 1.0, "queued": None}


def test_a_pod_is_not_listed_before_an_event_about_its_image_arrives(sim, web):
    web.started("app", NOW + 3)
    sim.apply(seen(web), at=4)
    assert sim.started == []
    assert sim.metric("pod_start_phase_seconds_count", phase="scheduled") == 0


def test_the_durations_of_the_phases_also_add_up_if_containers_start_one_after_another(sim):
    both = PodEvents(pod("web-1", "node-1", {"app": "nginx:1.27"}, init={"prepare": "busybox:1"}, at=NOW))
    sim.apply(seen(both), event(both.pulling("prepare", NOW + 1)), at=1)
    sim.apply(event(both.pulled("prepare", NOW + 5, seconds=4)), at=5)
    both.started("prepare", NOW + 6)
    sim.apply(seen(both), at=6)
    sim.apply(event(both.pulling("app", NOW + 10)), at=10)
    sim.apply(event(both.pulled("app", NOW + 16, seconds=6)), at=16)
    both.started("app", NOW + 17)
    sim.apply(seen(both), at=17)
    (started,) = sim.started
    assert seconds(started) == {"scheduled": 1.0, "pulling": 10.0, "created": 1.0, "started": 5.0}
    assert started.seconds == 17.0


def test_a_pod_that_started_before_this_server_is_listed_but_not_measured(sim, web):
    web.pod["status"]["startTime"] = "2023-11-14T22:12:00Z"
    sim.apply(seen(web), event(web.pulling("app", NOW - 60)), event(web.pulled("app", NOW - 50, seconds=10)), at=0)
    web.started("app", NOW - 45)
    sim.apply(seen(web), at=1)
    (started,) = sim.started
    assert seconds(started) == {"scheduled": 20.0, "pulling": 10.0, "created": 5.0}
    assert sim.metric("pod_start_phase_seconds_count", phase="created") == 0


def test_the_number_of_tracked_pods_is_limited(sim):
    for number in range(MAX_PODS + 10):
        sim.hub.startup.apply(seen(PodEvents(pod(f"p{number}", "node-1", {"app": "a:1"}, at=NOW))), NOW + 1)
    sim.hub.startup.expire(NOW + 2)
    assert sim.hub.startup.phases_of("default", "p0", NOW + 2) is None
    assert sim.hub.startup.phases_of("default", f"p{MAX_PODS + 9}", NOW + 2)
