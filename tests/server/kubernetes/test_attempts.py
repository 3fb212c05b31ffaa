"""Tests that the end of an attempt is final and reported only once, regardless of the order of pods, events and
reports.
"""

import copy
import heapq
import itertools
from typing import Any

from hypothesis import example, given, note
from hypothesis import settings as examples
from hypothesis import strategies as st

from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.kubernetes.objects import Change, EventSeen, PodGone
from pulltrace.server.models import PullStatus
from pulltrace.server.pulls.earlier import MOST_EARLIER
from pulltrace.server.pulls.inventory import AGENT_GONE, ENDED_UNSEEN
from pulltrace.server.pulls.row import GIVEN_UP
from pulltrace.wire import ErrorReason, PullPhase
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.changes import NOT_FOUND, event, seen
from tests.server.pulls.joined import Joined, web

NGINX = "docker.io/library/nginx:1.27"


class Subscription:
    """A client that reads every change and checks the invariants."""

    def __init__(self) -> None:
        self.published: dict[str, PullStatus] = {}

    def read(self, statuses: list[PullStatus]) -> None:
        for status in statuses:
            before = self.published.get(status.id)
            self.published[status.id] = status
            if before is None or before == status:
                continue
            note(f"{before.status} {before.attempt} -> {status.status} {status.attempt}")
            assert status.attempt >= before.attempt
            self._check_earlier(before, status)
            if status.attempt > before.attempt:
                assert before.status is not PullPhase.COMPLETED, "a success ends the arrival"
                assert status.status is not PullPhase.FAILED or before.completed_at != status.completed_at, (
                    "an attempt ends once"
                )
                continue
            assert status.percent >= before.percent
            presumed = before.error in (ENDED_UNSEEN, AGENT_GONE, GIVEN_UP)
            assert not before.status.ended or presumed or before.status is status.status

    @staticmethod
    def _check_earlier(before: PullStatus, status: PullStatus) -> None:
        numbers = [attempt.attempt for attempt in status.earlier_attempts or ()]
        assert numbers == sorted(set(numbers)), "each earlier attempt is listed once, in order"
        assert len(numbers) <= MOST_EARLIER
        assert all(number < status.attempt for number in numbers)
        if before.status.ended and status.attempt > before.attempt:
            assert numbers[-1] == before.attempt, "the previous attempt is listed"
        if status.status is PullPhase.COMPLETED:
            assert status.failing_since is None
        elif before.failing_since:
            assert status.failing_since, "a pull that fails is failing until it completes"
            assert status.failing_since <= before.failing_since


class Node:
    """A node with two pods that use the same image. The kubelet's events may reach the server out of order."""

    def __init__(self) -> None:
        self.sim = Joined()
        self.at = 0.5
        self._pods = [web("web-1"), web("web-2")]
        self._events: list[Change] = []
        self._lease, self._size, self._began = 0, 0, 0.0
        self._runs = False

    def happen(self, what: str, which: int, ago: float) -> None:
        arrival, when = self._pods[which], float(int(NOW + self.at - ago))
        match what:
            case "pulling":
                self._events.append(event(arrival.pulling("app", when)))
            case "failed":
                self._events.append(event(arrival.failed("app", when, NOT_FOUND)))
            case "pulled":
                self._events.append(event(arrival.pulled("app", when)))
            case "events":
                states, self._events = self._events, []
                self.sim.apply(*states, at=self.at)
            case "backwards":
                states, self._events = self._events[::-1], []
                self.sim.apply(*states, at=self.at)
            case "status":
                self.sim.apply(seen(arrival), at=self.at)
            case "gone":
                self._events = []  # the server remembers deleted pods for only ten minutes
                self.sim.apply(PodGone(arrival.pod["metadata"]["uid"]), at=self.at)
                self._pods[which] = web(f"web-{self.at}")
            case _:
                self._report(what, ago)

    def _report(self, what: str, ago: float) -> None:
        more = {}
        if what == "begin" and not self._runs:
            self._lease, self._size, self._began, self._runs = self._lease + 1, 0, self.at - min(ago, 0.5), True
        elif what == "grow":
            self._size = min(self._size + 20, 100)
        elif what == "done":
            more = {"status": PullPhase.COMPLETED, "ended_at": NOW + self.at, "image_ref": NGINX}
        elif what == "broken":
            more = {"status": PullPhase.FAILED, "ended_at": NOW + self.at, "error_reason": ErrorReason.UNKNOWN}
        elif what == "lost":
            self._runs = False
        state = pull(f"l{self._lease}", layer("a", self._size * MIB), at=NOW + self._began, **more)
        self.sim.report(*([state] if self._runs else []), at=self.at)
        if self._runs and what == "done":
            came = [row.completed_at for row in self.sim.shown if row.status is PullPhase.COMPLETED]
            assert any(abs(at.timestamp() - NOW - self.at) < 3 for at in came if at), "the completed pull is published"
        self._runs = self._runs and not more


KUBELET = ["pulling", "failed", "pulled", "gone"]
HEARD = ["events", "events", "backwards", "status", "status"]
AGENT = ["begin", "begin", "grow", "done", "broken", "lost", "wait"]
step = st.tuples(
    st.sampled_from(KUBELET + HEARD + AGENT),
    st.integers(0, 1),
    st.sampled_from([0.6, 0.9, 1.6, 3.6, 11.6, 30.6, 130.6]),
    st.sampled_from([0.0, 0.0, 1.0, 4.0]),
)


@examples(max_examples=300)
@example([("pulling", 0, 0.6, 0.0), ("pulled", 0, 30.6, 0.0)])
@given(st.lists(step, max_size=25))
def test_the_end_of_an_attempt_is_final_and_a_success_ends_the_arrival(steps) -> None:
    node, reader = Node(), Subscription()
    for what, which, later, ago in steps:
        node.at += later
        note(f"{node.at:.1f} {what} {which} {ago}")
        node.happen(what, which, ago)
        reader.read(node.sim.shown)
    for what, which in (("lost", 0), ("events", 0), ("gone", 0), ("gone", 1), ("wait", 0)):
        node.at += 5
        node.happen(what, which, 0.0)
        reader.read(node.sim.shown)
    assert all(row.status.ended for row in node.sim.shown), "no row is stuck"


def test_a_failure_after_a_success_gets_its_own_row() -> None:
    node = Node()
    for what, later in (("pulling", 0.6), ("events", 0.6), ("begin", 0.6), ("done", 0.6), ("failed", 5), ("events", 1)):
        node.at += later
        node.happen(what, 0, 0.0)
    assert [row.status for row in node.sim.shown].count(PullPhase.COMPLETED) == 1
    assert [row.status for row in node.sim.shown].count(PullPhase.FAILED) == 1


def test_a_failure_reported_in_a_status_is_kept_when_the_events_arrive_later() -> None:
    sim, arrival = Joined(), web()
    began, failed = event(arrival.pulling("app", NOW)), event(arrival.failed("app", NOW + 1, NOT_FOUND))
    states = []
    for at, change in ((1.5, seen(arrival)), (1.8, began), (2.0, failed)):
        sim.apply(change, at=at)
        states.append((sim.one.status, sim.one.attempt))
    assert states == [(PullPhase.FAILED, 1)] * 3
    assert sim.metric("pulls_total", registry="docker.io", result="failed") == 1


class FailingKubelet:
    """A kubelet that repeatedly fails to pull an image, and updates the pod's status only when it syncs the pod."""

    def __init__(self, failures: int, syncs: list[float], lost: set[int]) -> None:
        self.pod = web()
        self.changes: list[tuple[float, Change]] = []
        self.failed_at: list[float] = []
        self._syncs = itertools.cycle(syncs)
        now = NOW
        for number in range(failures):
            self._event(now, self.pod.pulling("app", now))
            now += 0.4
            if number not in lost:
                before = copy.deepcopy(self.pod.pod)
                self._event(now, self.pod.failed("app", now, f"{NOT_FOUND} {number}"))
                self.pod.pod, written = before, self.pod.pod
            self.failed_at.append(now)
            due, first = now + 10.0 * 2**number, True
            while True:
                now += next(self._syncs)
                if first:
                    self.pod.pod, first = written, False
                self.changes.append((now, seen(copy.deepcopy(self.pod.pod))))
                if now >= due:
                    break
                self.pod.backing_off("app", now)

    def _event(self, at: float, item: dict[str, Any]) -> None:
        self.changes.append((at, event(item)))


@examples(max_examples=200)
@given(
    st.integers(1, 5),
    st.lists(st.sampled_from([10.0, 12.5, 15.0]), min_size=1, max_size=6),
    st.lists(st.sampled_from([0.0, 0.0, 0.3, 2.0, 7.0, 12.0, 20.0]), min_size=1, max_size=6),
)
def test_each_failure_is_counted_once_even_if_its_status_arrives_late(failures, syncs, delays) -> None:
    kubelet, cluster = FailingKubelet(failures, syncs, set()), Cluster()
    events = [(at, 0, change) for at, change in kubelet.changes if isinstance(change, EventSeen)]
    statuses = [(at, 1, change) for at, change in kubelet.changes if not isinstance(change, EventSeen)]
    late = itertools.accumulate(
        ((at + delay, 1, change) for (at, _, change), delay in zip(statuses, itertools.cycle(delays), strict=False)),
        lambda before, after: (max(before[0], after[0]), *after[1:]),
    )
    count = 0
    for at, is_status, change in heapq.merge(events, late, key=lambda item: item[0]):
        cluster.apply(change, at)
        if not is_status and change.event.reason == "Failed":
            count += 1
        (demand,) = cluster.demands("node-1")
        if count and not demand.pulling:
            assert (demand.attempt, demand.failure.attempt) == (count, count)
            ended_at = float(int(kubelet.failed_at[count - 1]))
            assert demand.failure.retry.earliest_at == ended_at + 10.0 * 2 ** (count - 1)
