"""Agents' reports and Kubernetes' events together: the rows that users see."""

import pytest

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.kubernetes.objects import PodGone
from pulltrace.server.pulls.arrival import GIVEN_UP
from pulltrace.server.pulls.views import pods_waiting
from pulltrace.wire import ErrorReason, LayerPhase, PullPhase
from tests.server.build import MIB, NOW, World, layer, pull
from tests.server.kubernetes.test_cluster import NOT_FOUND, event, seen

UNSEEN = {"registry": None, "repository": None, "image_ref": "__pulling__", "total_known": False}


class Joined(World):
    """A hub with a cluster."""

    def __init__(self, **more):
        self.cluster = Cluster()
        super().__init__(cluster=self.cluster, **more)
        self.hub._agents_due = float("inf")  # an agent may report at any time

    def tell(self, *changes, at):
        self.at(at)
        for change in changes:
            self.hub.touch(self.cluster.apply(change, self.now))
        self.hub.tick(self.now)

    @property
    def waiting(self):
        return list(pods_waiting(self.cluster.waiting(), self.hub.feed.pulls(), self.now))


@pytest.fixture
def world():
    return Joined()


def web(name="web-1", image="nginx:1.27", node="node-1", **more):
    return PodEvents(pod(name, node, {"app": image}, at=NOW, **more))


def test_an_image_that_is_queued_pulled_and_completed_is_one_arrival_with_its_pod(world):
    arrival = web(owner=("ReplicaSet", "web-5d4f7c9b8d"))
    world.tell(seen(arrival), event(arrival.pulling("app", NOW + 1)), at=1)
    queued = world.one
    assert (queued.status, queued.image_ref, queued.error) == (PullPhase.QUEUED, "docker.io/library/nginx:1.27", None)
    assert queued.started_at.timestamp() == NOW + 1
    assert queued.pods[0].owner == "Deployment/web"
    world.say(pull(at=NOW + 6, status=PullPhase.RESOLVING, **UNSEEN), at=6.2)
    assert (world.one.id, world.one.status, world.one.image_ref) == (
        queued.id,
        PullPhase.RESOLVING,
        "docker.io/library/nginx:1.27",
    )
    assert world.one.ref_guessed
    world.say(pull("lease-1", layer("a", 50 * MIB), at=NOW + 6), at=8)
    assert (world.one.percent, world.one.ref_guessed) == (50.0, False)
    done = layer("a", 100 * MIB, state=LayerPhase.EXTRACTED)
    full = {"image_ref": "docker.io/library/nginx:1.27", "status": PullPhase.COMPLETED, "ended_at": NOW + 10}
    world.say(pull("lease-1", done, at=NOW + 6, **full), at=10)
    world.tell(event(arrival.pulled("app", NOW + 10)), at=11)
    assert (world.one.id, world.one.status, world.one.pods[0].pod_name) == (queued.id, PullPhase.COMPLETED, "web-1")
    assert world.metric("pull_phase_duration_seconds_sum", phase="queued") == 5.0
    world.at(200)
    assert world.one.status is PullPhase.COMPLETED


def test_serial_pulling_shows_which_pods_queue_behind_which(world):
    first, second = web("a"), web("b", "redis:7")
    world.tell(seen(first), seen(second), event(first.pulling("app", NOW)), event(second.pulling("app", NOW + 1)), at=1)
    world.say(pull("lease-1", layer("a", 10 * MIB), at=NOW), at=2)
    assert [(status.image_ref.rpartition("/")[2], status.status) for status in world.shown] == [
        ("nginx:1.27", PullPhase.DOWNLOADING),
        ("redis:7", PullPhase.QUEUED),
    ]


def test_a_failure_that_no_agent_observed_has_its_cause_and_the_retry_is_the_same_row(world):
    arrival = web()
    ids = set()
    for attempt, at in ((1, 0), (2, 11), (3, 32)):
        world.tell(seen(arrival), event(arrival.pulling("app", NOW + at)), at=at)
        assert (world.one.status, world.one.attempt) == (PullPhase.QUEUED, attempt)
        world.tell(event(arrival.failed("app", NOW + at + 1, NOT_FOUND)), seen(arrival), at=at + 1)
        failed = world.one
        assert (failed.status, failed.attempt, failed.error) == (PullPhase.FAILED, attempt, NOT_FOUND)
        assert failed.error_reason is ErrorReason.NOT_FOUND
        assert failed.next_retry_at.timestamp() == NOW + at + 1 + 12.5 * 2 ** (attempt - 1)
        ids.add(failed.id)
    assert len(ids) == 1
    assert world.metric("pull_errors_total", registry="docker.io", reason="not_found") == 3
    world.tell(event(arrival.pulling("app", NOW + 73)), event(arrival.pulled("app", NOW + 80)), at=80)
    assert (world.one.id, world.one.status, world.one.error) == (ids.pop(), PullPhase.COMPLETED, None)


def test_a_failure_the_agent_observed_gets_its_cause_from_the_kubelet(world):
    arrival = web()
    world.tell(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    world.say(pull("lease-1", layer("a", 10 * MIB), at=NOW), at=1)
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 3, "error_reason": ErrorReason.UNKNOWN}
    world.say(pull("lease-1", layer("a", 10 * MIB), at=NOW, **ended), at=3)
    world.tell(event(arrival.failed("app", NOW + 3, NOT_FOUND)), seen(arrival), at=3.5)
    failed = world.one
    assert (failed.status, failed.error_reason, failed.error) == (PullPhase.FAILED, ErrorReason.NOT_FOUND, NOT_FOUND)
    assert failed.percent == 10.0
    assert failed.next_retry_at.timestamp() == NOW + 15.5
    world.tell(event(arrival.pulling("app", NOW + 13)), at=13)
    assert (world.one.id, world.one.status, world.one.attempt) == (failed.id, PullPhase.QUEUED, 2)
    world.say(pull("lease-2", layer("a", 40 * MIB), at=NOW + 13), at=14)
    assert (world.one.id, world.one.status, world.one.attempt, world.one.error) == (
        failed.id,
        PullPhase.DOWNLOADING,
        2,
        None,
    )


@pytest.mark.parametrize("report_first", [True, False])
def test_a_pull_that_fails_before_its_image_is_known_belongs_to_the_kubelets_event(world, report_first):
    arrival, other = web(), web("other", "redis:7")
    world.tell(
        seen(arrival), seen(other), event(other.pulling("app", NOW - 60)), event(arrival.pulling("app", NOW)), at=0
    )
    changes = event(arrival.failed("app", NOW + 1, NOT_FOUND)), seen(arrival)
    if not report_first:
        world.tell(*changes, at=1)
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 0.8, "error_reason": ErrorReason.UNKNOWN}
    world.say(pull("lease-1", at=NOW + 0.2, **(UNSEEN | ended)), at=1.2)
    if report_first:
        world.tell(*changes, at=1.4)
    (failed,) = [status for status in world.shown if status.status is PullPhase.FAILED]
    assert (failed.image_ref, failed.error_reason) == ("docker.io/library/nginx:1.27", ErrorReason.NOT_FOUND)
    assert len(world.shown) == 2
    # The next attempt ends differently, and the published state of the first one remains.
    world.tell(event(arrival.pulling("app", NOW + 11)), at=11)
    world.say(pull("lease-2", layer("a", MIB), at=NOW + 11.2), at=12)
    assert len(world.shown) == 2
    assert {status.attempt for status in world.shown} == {1, 2}


def test_a_live_pull_keeps_its_name_after_its_pod_is_deleted(world):
    arrival = web()
    world.tell(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    world.say(pull("lease-1", layer("a", MIB), at=NOW), at=1)
    gone = arrival.pod | {"metadata": arrival.pod["metadata"] | {"deletionTimestamp": "2023-11-14T22:13:20Z"}}
    world.tell(seen(gone), at=2)
    world.say(pull("lease-1", layer("a", 2 * MIB), at=NOW), at=3)
    assert (world.one.image_ref, world.one.waited[0].pod_name) == ("docker.io/library/nginx:1.27", "web-1")
    assert world.one.pods is None, "no pod waits now"
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 4, "error_reason": ErrorReason.UNKNOWN}
    world.say(pull("lease-1", layer("a", 2 * MIB), at=NOW, **ended), at=4)
    assert world.one.image_ref == "docker.io/library/nginx:1.27"


def test_a_failed_pull_keeps_its_name_after_its_pod_is_deleted(world):
    arrival = web()
    world.tell(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 3, "error_reason": ErrorReason.UNKNOWN}
    world.say(pull("lease-1", layer("a", MIB), at=NOW, **ended), at=3)
    world.tell(event(arrival.failed("app", NOW + 3, NOT_FOUND)), at=3)
    before = world.one
    assert before.image_ref == "docker.io/library/nginx:1.27"
    gone = arrival.pod | {"metadata": arrival.pod["metadata"] | {"deletionTimestamp": "2023-11-14T22:13:20Z"}}
    world.tell(seen(gone), at=5)
    world.at(60)
    assert (world.one.id, world.one.image_ref, world.one.error) == (before.id, before.image_ref, NOT_FOUND)


def test_two_tags_of_one_repository_at_once_are_matched_by_order_until_containerd_knows(world):
    one, two = web("a", "registry.io/team/app:1"), web("b", "registry.io/team/app:2")
    world.tell(seen(one), seen(two), event(two.pulling("app", NOW)), event(one.pulling("app", NOW + 1)), at=1)
    facts = {"registry": "registry.io", "repository": "team/app", "image_ref": "registry.io/team/app"}
    world.say(
        pull("lease-x", layer("x", MIB), at=NOW + 0.2, **facts),
        pull("lease-y", layer("y", 2 * MIB), at=NOW + 1.2, **facts),
        at=2,
    )
    assert [(status.image_ref[-1], status.ref_guessed, status.pods[0].pod_name) for status in world.shown] == [
        ("2", True, "b"),
        ("1", False, "a"),
    ]
    # The guess was wrong: x is tag 1.
    done = layer("x", 100 * MIB, state=LayerPhase.EXTRACTED)
    done_facts = facts | {"image_ref": "registry.io/team/app:1", "status": PullPhase.COMPLETED, "ended_at": NOW + 4}
    other = pull("lease-y", layer("y", 3 * MIB), at=NOW + 1.2, **facts)
    world.say(pull("lease-x", done, at=NOW + 0.2, **done_facts), other, at=4)
    shown = {status.image_ref[-1]: status for status in world.shown}
    assert (shown["1"].status, shown["1"].pods[0].pod_name) == (PullPhase.COMPLETED, "a")
    assert (shown["2"].status, shown["2"].pods[0].pod_name) == (PullPhase.DOWNLOADING, "b")
    assert len(world.shown) == 2


def test_a_reference_by_digest_is_exact(world):
    digest = "sha256:" + "a" * 64
    one, two = web("a", f"registry.io/team/app:1@{digest}"), web("b", "registry.io/team/app:2")
    world.tell(seen(one), seen(two), event(two.pulling("app", NOW)), event(one.pulling("app", NOW)), at=0)
    facts = {"registry": "registry.io", "repository": "team/app", "image_ref": "registry.io/team/app"}
    world.say(pull("lease-x", layer("x", MIB), at=NOW, manifest_digest=digest, **facts), at=1)
    found = next(status for status in world.shown if status.status is PullPhase.DOWNLOADING)
    assert (found.image_ref, found.ref_guessed, found.pods[0].pod_name) == (
        f"registry.io/team/app@{digest}",
        False,
        "a",
    )


def test_several_pods_that_fail_on_one_image_are_one_pull(world):
    arrivals = [web(f"web-{number}") for number in range(3)]
    for number, arrival in enumerate(arrivals):
        world.tell(seen(arrival), event(arrival.pulling("app", NOW + number)), at=number)
    for number, arrival in enumerate(arrivals):
        world.tell(event(arrival.failed("app", NOW + 5 + number, NOT_FOUND)), seen(arrival), at=5 + number)
    assert (world.one.status, len(world.one.pods)) == (PullPhase.FAILED, 3)
    assert world.one.next_retry_at.timestamp() == NOW + 17.5
    assert world.metric("pull_errors_total", registry="docker.io", reason="not_found") == 1


def test_a_container_without_events_from_the_kubelet_makes_no_row(world):
    world.tell(seen(web()), at=0)
    assert not world.shown
    assert not world.waiting


def test_a_deleted_pod_is_no_longer_queued(world):
    arrival = web()
    world.tell(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    assert world.one.status is PullPhase.QUEUED
    deleted = arrival.pod | {"metadata": arrival.pod["metadata"] | {"deletionTimestamp": "2023-11-14T22:13:20Z"}}
    world.tell(seen(deleted), at=1)
    assert not world.shown


def test_a_pull_with_an_invalid_image_name_is_a_failed_row_too(world):
    arrival = web(image="Registry.io/UPPER:1")
    world.tell(seen(arrival), event(arrival.invalid("app", NOW)), seen(arrival), at=0)
    assert (world.one.status, world.one.error_reason) == (PullPhase.FAILED, ErrorReason.INVALID_REFERENCE)
    assert world.one.image_ref == "Registry.io/UPPER:1"
    assert world.one.next_retry_at is None


def test_an_end_from_the_kubelet_remains_although_an_older_report_arrives_later(world):
    arrival = web()
    world.tell(seen(arrival), event(arrival.pulling("app", NOW)), at=1)
    world.tell(event(arrival.pulled("app", NOW + 5)), at=5)
    ended = world.one
    assert (ended.status, ended.percent) == (PullPhase.COMPLETED, 100.0)
    world.say(pull("lease-1", layer("a", 10 * MIB), at=NOW + 0.5), at=6)
    assert (world.one.id, world.one.status) == (ended.id, PullPhase.COMPLETED)
    full = {"image_ref": "docker.io/library/nginx:1.27", "status": PullPhase.COMPLETED, "ended_at": NOW + 5}
    world.say(pull("lease-1", layer("a", 100 * MIB, state=LayerPhase.EXTRACTED), at=NOW + 0.5, **full), at=7)
    assert (world.one.id, world.one.status, world.one.downloaded_bytes) == (ended.id, PullPhase.COMPLETED, 100 * MIB)
    assert world.metric("pulls_total", registry="docker.io", result="completed") == 1


def test_a_pull_that_the_kubelet_reports_as_completed_did_not_fail_although_no_agent_observed_its_end(world):
    arrival = web()
    world.tell(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    had = layer("b", 0, state=LayerPhase.CACHED, cached_bytes=100 * MIB)
    world.say(pull("lease-1", layer("a", 60 * MIB), had, at=NOW), at=1)
    world.tell(event(arrival.pulled("app", NOW + 5)), at=5)
    assert world.one.status is PullPhase.DOWNLOADING, "its agent may still report more"
    world.say(boot="the next one", at=8)
    done = world.one
    assert (done.status, done.percent, done.error, done.error_reason) == (PullPhase.COMPLETED, 100.0, None, None)
    assert (done.downloaded_bytes, done.completed_at.timestamp()) == (done.total_bytes, NOW + 5)
    world.say(pull("lease-1", layer("a", 70 * MIB), at=NOW), at=9, boot="the next one")
    assert world.one.status is PullPhase.COMPLETED, "a report from before the end"
    world.at(30)
    assert world.metric("pulls_total", registry="docker.io", result="completed") == 1
    assert world.metric("pulls_total", registry="docker.io", result="failed") == 0


def test_bytes_of_one_attempt_are_not_shown_as_those_of_the_next(world):
    """The agent is disconnected while its pull fails and the kubelet starts again."""
    arrival = web()
    world.tell(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    world.say(pull("lease-1", layer("a", 60 * MIB), at=NOW), at=1)
    world.tell(event(arrival.failed("app", NOW + 5, NOT_FOUND)), event(arrival.pulling("app", NOW + 15)), at=15)
    assert (world.one.attempt, world.one.percent) == (1, 60.0)
    ended = {"status": PullPhase.FAILED, "ended_at": NOW + 5}
    again = pull("lease-2", layer("a", 5 * MIB), at=NOW + 15)
    world.say(pull("lease-1", layer("a", 60 * MIB), at=NOW, **ended), again, at=20)
    assert (world.one.attempt, world.one.percent, world.one.status) == (2, 5.0, PullPhase.DOWNLOADING)


def test_a_repeated_pull_of_an_image_is_another_row(world):
    arrival, again = web(), web("web-2")
    world.tell(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    world.tell(event(arrival.pulled("app", NOW + 1)), at=1)
    first = world.one
    world.tell(seen(again), event(again.pulling("app", NOW + 10)), at=10)
    kept, second = world.shown
    assert kept == first
    assert (first.status, second.status) == (PullPhase.COMPLETED, PullPhase.QUEUED)
    assert first.id != second.id


def test_the_first_attempt_of_another_pod_is_the_second_attempt_of_the_row(world):
    """A pod is deleted in the middle of its pull, and its successor requests the same image."""
    arrival, again = web(), web("web-2")
    world.tell(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    world.say(pull("lease-1", layer("a", 60 * MIB), at=NOW), at=1)
    world.tell(PodGone(arrival.pod["metadata"]["uid"]), at=2)
    world.say(pull("lease-1", layer("a", 60 * MIB), at=NOW, status=PullPhase.FAILED, ended_at=NOW + 3), at=3)
    world.tell(seen(again), event(again.pulling("app", NOW + 9)), at=9)
    assert (world.one.attempt, world.one.percent, world.one.status) == (2, 0.0, PullPhase.QUEUED)
    world.say(pull("lease-2", layer("a", 5 * MIB), at=NOW + 9), at=10)
    assert (world.one.attempt, world.one.percent, world.one.status) == (2, 5.0, PullPhase.DOWNLOADING)


def test_a_failure_from_the_kubelet_remains_although_an_older_report_arrives_later(world):
    arrival = web()
    world.tell(seen(arrival), event(arrival.pulling("app", NOW)), at=0)
    world.tell(event(arrival.failed("app", NOW + 1, NOT_FOUND)), seen(arrival), at=1)
    assert world.one.status is PullPhase.FAILED
    live = pull("lease-1", at=NOW + 0.2, status=PullPhase.RESOLVING, image_ref="docker.io/library/nginx")
    world.say(live, at=2)
    assert (world.one.status, world.one.attempt) == (PullPhase.FAILED, 1)
    world.say(pull("lease-1", at=NOW + 0.2, status=PullPhase.FAILED, ended_at=NOW + 1), at=3)
    assert (world.one.status, world.one.error) == (PullPhase.FAILED, NOT_FOUND)
    # The agent observes the next attempt before the kubelet's event about it arrives.
    world.say(pull("lease-2", layer("a", 5 * MIB), at=NOW + 11), at=12)
    assert (world.one.status, world.one.attempt) == (PullPhase.DOWNLOADING, 2)


def test_a_failure_belongs_to_its_own_attempt_even_if_the_kubelet_has_started_the_next(world):
    arrival = web()
    world.tell(seen(arrival), event(arrival.pulling("app", NOW)), at=1)
    world.say(pull("lease-1", layer("a", 50 * MIB), at=NOW + 0.3), at=1.2)
    world.tell(event(arrival.failed("app", NOW + 1, NOT_FOUND)), at=1.4)
    world.say(pull("lease-1", layer("a", 50 * MIB), at=NOW + 0.3, status=PullPhase.FAILED, ended_at=NOW + 1.5), at=1.8)
    world.tell(event(arrival.pulling("app", NOW + 2)), at=2)
    assert world.one.attempt == (1 if world.one.status is PullPhase.FAILED else 2)
    world.say(pull("lease-2", layer("a", 60 * MIB), at=NOW + 2.1), at=2.5)
    assert (world.one.status, world.one.attempt) == (PullPhase.DOWNLOADING, 2)
    world.say(pull("lease-2", layer("a", 70 * MIB), at=NOW + 2.1), at=3.5)
    assert (world.one.status, world.one.attempt) == (PullPhase.DOWNLOADING, 2)


def test_a_retry_ends_when_no_pod_waits_for_it_any_longer(world):
    arrival = web()
    world.tell(seen(arrival), event(arrival.pulling("app", NOW)), at=1)
    world.say(pull("lease-1", layer("a", MIB), at=NOW + 0.5), at=2)
    world.say(pull("lease-1", layer("a", MIB), at=NOW + 0.5, status=PullPhase.FAILED, ended_at=NOW + 3), at=3)
    world.tell(event(arrival.failed("app", NOW + 3, NOT_FOUND)), event(arrival.pulling("app", NOW + 13)), at=13)
    assert (world.one.status, world.one.attempt) == (PullPhase.QUEUED, 2)
    world.tell(PodGone(arrival.pod["metadata"]["uid"]), at=14)
    assert (world.one.status, world.one.attempt, world.one.error) == (PullPhase.FAILED, 2, GIVEN_UP)
    # The kubelet's pull nevertheless continues.
    world.say(pull("lease-2", layer("a", 2 * MIB), at=NOW + 13.5), at=15)
    assert (world.one.status, world.one.attempt) == (PullPhase.DOWNLOADING, 2)


def test_a_pull_for_another_pod_that_began_together_with_a_failed_one_is_the_next_attempt(world):
    one, two = web("web-1"), web("web-2")
    world.tell(seen(one), seen(two), event(one.pulling("app", NOW)), event(two.pulling("app", NOW)), at=0)
    world.tell(event(one.failed("app", NOW + 1, NOT_FOUND)), at=1)
    world.tell(event(two.failed("app", NOW + 1, NOT_FOUND)), at=1)
    for second in range(2, 9):  # the report may be late, and this may be the pull that failed
        world.say(pull("lease-1", layer("a", second * MIB), at=NOW + 0.5), at=second)
        assert (world.one.status, world.one.attempt) == (PullPhase.FAILED, 1)
    world.say(pull("lease-1", layer("a", 20 * MIB), at=NOW + 0.5), at=10)
    assert (world.one.status, world.one.attempt) == (PullPhase.DOWNLOADING, 2)
