"""Tests that the rows match what the kubelet does while it pulls several images, serially or in parallel, and creates
containers.

The kubelet's events and the agent's reports arrive late, but in order. All leases are empty at first, and containers'
leases stay empty. While only a pull's lease is known, the pull may be shown under the wrong image name. However, the
end of a pull must never be attributed to a pull of a different image.
"""

import heapq
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pulltrace.server.kubernetes.errors import back_off
from pulltrace.wire import UNKNOWN_IMAGE, ErrorReason, LayerPhase, PullPhase, PullState
from tests.server.build import MIB, NOW, layer, pull
from tests.server.kubernetes.test_cluster import NOT_FOUND, event, seen
from tests.server.pulls.joined import UNSEEN, Joined, web

SYNC = 12.0


@dataclass(frozen=True)
class Attempt:
    """An attempt by the kubelet to pull an image. The attempt fails if the image does not exist."""

    seconds: float
    fails: bool
    empty: float


@dataclass(frozen=True)
class Image:
    """An image that a pod needs, with the pod's creation time and the attempts to pull the image."""

    comes: float
    attempts: list[Attempt]


@dataclass(frozen=True)
class Lease:
    """A lease in containerd. ``image`` is empty if the lease belongs to a container."""

    id: str
    image: str
    began: float
    ended: float
    empty: float
    fails: bool

    def state(self, now: float, polls: int) -> PullState | None:
        """Return the pull that the agent reports for this lease, or None if the agent does not report the lease.
        ``polls`` is the number of polls that have seen the lease.
        """
        known = self.image and now - self.began >= self.empty
        if now < self.ended:
            if not known:
                return pull(self.id, at=NOW + self.began, status=PullPhase.RESOLVING, **UNSEEN) if polls > 1 else None
            return pull(self.id, layer("a", 10 * MIB), at=NOW + self.began, **self._name())
        if not self.image or (self.fails and polls < 2):
            return None
        if self.fails:
            why = {"ended_at": NOW + now, "error_reason": ErrorReason.UNKNOWN}
            return pull(self.id, at=NOW + self.began, status=PullPhase.FAILED, **UNSEEN, **why)
        done = {"status": PullPhase.COMPLETED, "ended_at": NOW + self.ended, "image_ref": f"docker.io/{self.image}:1"}
        return pull(
            self.id, layer("a", 100 * MIB, state=LayerPhase.EXTRACTED), at=NOW + self.began, **self._name() | done
        )

    def _name(self) -> dict[str, Any]:
        return {"registry": "docker.io", "repository": self.image, "image_ref": f"docker.io/{self.image}"}


class Node:
    """The events on a node, and the messages about them from the kubelet and the agent, each with a time."""

    def __init__(
        self, images: list[Image], containers: list[tuple[float, float]], polls_from: float, *, serial: bool
    ) -> None:
        self.messages: list[tuple[float, Any]] = []
        self.ends: dict[str, list[tuple[float, PullPhase]]] = {}
        leases = [
            Lease(f"container-{n}", "", at, at + lasts, lasts, fails=True) for n, (at, lasts) in enumerate(containers)
        ]
        due = [(image.comes, number, 1) for number, image in enumerate(images)]
        heapq.heapify(due)
        pods = [web(f"web-{number}", f"team/app{number}:1") for number in range(len(images))]
        self.messages += [(image.comes, seen(pod)) for image, pod in zip(images, pods, strict=True)]
        free = 0.0
        while due:
            at, number, count = heapq.heappop(due)
            attempt, name = images[number].attempts[count - 1], f"team/app{number}"
            began = max(at, free) + 0.01 * (number + 1)
            lease = self._pull(name, pods[number], attempt, count, at=at, began=began)
            leases.append(lease)
            free = lease.ended if serial else 0.0
            if attempt.fails and count < len(images[number].attempts):
                heapq.heappush(due, (lease.ended + back_off(count) + SYNC / 2, number, count + 1))
        self.messages.sort(key=itemgetter(0))
        self.over = max(lease.ended for lease in leases)
        self.reports = list(self._polls(leases, polls_from))

    def _pull(self, name: str, pod: Any, attempt: Attempt, count: int, *, at: float, began: float) -> Lease:
        """Have the kubelet request an image at time ``at``. containerd begins the pull at time ``began``."""
        self.messages.append((at, event(pod.pulling("app", float(int(NOW + at))))))
        ended = began + max(attempt.seconds, 0.0 if attempt.fails else attempt.empty + 0.1)
        phase = PullPhase.FAILED if attempt.fails else PullPhase.COMPLETED
        self.ends.setdefault(f"docker.io/{name}:1", []).append((ended, phase))
        when = float(int(NOW + ended))
        if attempt.fails:
            happened = pod.failed("app", when, NOT_FOUND)
        else:
            happened = pod.pulled("app", when, seconds=ended - began, size=100 * MIB)
        self.messages.append((ended, event(happened)))
        empty = attempt.seconds + 1 if attempt.fails else attempt.empty
        return Lease(f"{name}-{count}", name, began, ended, empty, attempt.fails)

    def _polls(self, leases: list[Lease], first: float) -> Iterator[tuple[float, list[PullState]]]:
        polls: Counter[str] = Counter()
        ended = set[str]()
        at = first
        while at < self.over + 2:
            states = []
            for lease in leases:
                if lease.began > at or lease.id in ended:
                    continue
                polls[lease.id] += at < lease.ended
                if state := lease.state(at, polls[lease.id]):
                    states.append(state)
                if at >= lease.ended:
                    ended.add(lease.id)
            yield at, states
            at += 1.0


def late(messages: list[tuple[float, Any]], delays: list[float]) -> Iterator[tuple[float, Any]]:
    """Delay the messages, preserving their order."""
    at = 0.0
    for number, (when, message) in enumerate(messages):
        at = max(at, when + delays[number % len(delays)])
        yield at, message


attempts = st.builds(
    Attempt, st.sampled_from([0.2, 0.7, 2.3, 4.0, 9.0]), st.booleans(), st.sampled_from([0.0, 0.4, 1.6, 3.2])
)
images = st.builds(Image, st.sampled_from([1.0, 1.2, 2.5, 8.0, 20.0]), st.lists(attempts, min_size=1, max_size=3))
containers = st.lists(st.tuples(st.floats(0, 30), st.sampled_from([0.1, 1.2, 2.2, 9.0])), max_size=3)
delays = st.lists(st.sampled_from([0.0, 0.0, 0.3, 1.0, 1.6]), min_size=1, max_size=6)


@settings(max_examples=40)
@given(
    images=st.lists(images, min_size=1, max_size=4),
    containers=containers,
    polls_from=st.floats(0.0, 0.99),
    events_late=delays,
    reports_late=delays,
    serial=st.booleans(),
)
def test_the_rows_match_what_the_kubelet_does(
    images, containers, polls_from, *, events_late, reports_late, serial
) -> None:
    node, sim = Node(images, containers, polls_from, serial=serial), Joined()
    logged: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = logged.append  # type: ignore[method-assign]
    log = logging.getLogger("pulltrace.server.pulls.outcomes")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    ids: dict[str, set[str]] = {}
    reported_at = 0.0
    try:
        for at, message in heapq.merge(
            late(node.messages, events_late), late(node.reports, reports_late), key=itemgetter(0)
        ):
            if isinstance(message, list):
                reported_at = max(at, sim.now - NOW, reported_at + 0.5)
                sim.report(*message, at=reported_at)
            else:
                sim.apply(message, at=at)
            check(sim, node, ids)
        sim.at(sim.now - NOW + 20)
        check(sim, node, ids)
    finally:
        log.removeHandler(handler)
    rows = {row.image_ref: (row.status, row.attempt) for row in sim.shown}
    assert rows == {image: (ends[-1][1], len(ends)) for image, ends in node.ends.items()}
    ended = Counter((record.fields["image"], record.msg) for record in logged if record.msg != "pull.started")
    assert ended == Counter((image, f"pull.{phase.value}") for image, ends in node.ends.items() for _, phase in ends)
    # The tag may be unknown when a pull starts.
    started = Counter(record.fields["image"].removesuffix(":1") for record in logged if record.msg == "pull.started")
    assert started == {image.removesuffix(":1"): len(ends) for image, ends in node.ends.items()}, (started, node.ends)


def check(sim: Joined, node: Node, ids: dict[str, set[str]]) -> None:
    """Compare each row with the actual pulls on the node."""
    now = sim.now - NOW
    for row in sim.shown:
        assert row.image_ref != UNKNOWN_IMAGE, "a lease that may belong to a container has no row"
        known = ids.setdefault(row.image_ref, set())
        known.add(row.id)
        ends = node.ends.get(row.image_ref) or next(e for i, e in node.ends.items() if i.startswith(row.image_ref))
        assert row.attempt <= len(ends)
        assert len(known) == 1, "all attempts have one row"
        if row.status.ended:
            ended, phase = ends[row.attempt - 1]
            assert (row.status, ended <= now + 0.001) == (phase, True), (row.status, row.attempt, ends, now)
