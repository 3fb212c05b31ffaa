"""The server observes pods and their pulls through three delayed channels, but must never publish a state that it later
has to retract.

The simulated kubelet pulls, backs off and retries, as real kubelets do. The three channels are the kubelet's events,
the statuses of the node's pods, and the reports from the node's agent. Each channel delivers messages in order, but
with an arbitrary delay. Whatever the delays, each attempt ends exactly once, percentages and attempt numbers never
decrease, and the final rows match what happened.
"""

import heapq
import itertools
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.kubernetes.objects import PodGone
from pulltrace.server.models import PullStatus
from pulltrace.wire import AgentReport, ErrorReason, PullPhase, PullState
from tests.server.build import MIB, NOW, SimulatedHub, layer, pull, report
from tests.server.kubernetes.changes import NOT_FOUND, event, seen

NGINX = "docker.io/library/nginx"
UNSEEN = {"registry": None, "repository": None, "image_ref": "__pulling__", "total_known": False}
SIZE = 100 * MIB


@dataclass(frozen=True)
class Attempt:
    """One attempt by the kubelet to pull the image."""

    seconds: float
    well: bool
    resolves_after: float
    """Seconds until the manifest is known. If the attempt ends before then, agents see only its lease."""


@dataclass(frozen=True)
class Life:
    """A pod that needs the image, with its creation time and the attempts to pull the image."""

    comes: float
    attempts: list[Attempt]
    """The attempts in order. If the last attempt fails, the pod is deleted afterwards."""
    tag: str = "1.27"


attempts = st.builds(
    Attempt, st.sampled_from([0.3, 1.0, 2.5, 7.0, 20.0, 40.0]), st.booleans(), st.sampled_from([0.0, 0.2, 1.5])
)
lives = st.builds(
    Life,
    st.sampled_from([0.0, 0.5, 4.0, 12.0, 40.0]),
    st.lists(attempts, min_size=1, max_size=4),
    st.sampled_from(["1.27", "1.27", "1.28"]),
)
delays = st.lists(st.sampled_from([0.0, 0.0, 0.2, 0.8, 2.0, 6.0]), min_size=1, max_size=8)
status_delays = st.lists(st.sampled_from([0.0, 0.2, 2.0, 10.5, 12.0, 15.0, 20.0]), min_size=1, max_size=8)
"""A kubelet updates a container's status when it next syncs the pod, 10 to 15 s after the event."""
SLOWEST = 22.0
"""Maximum time, in seconds, between the end of a pull and the update of its row. Reports and events may be late."""
silences = st.lists(st.tuples(st.floats(0, 60), st.sampled_from([1.5, 5.0, 20.0])), max_size=2)


@dataclass
class Lease:
    """A pull as containerd sees it."""

    id: str
    began: float
    attempt: Attempt
    ended: float
    image: str

    def state(self, now: float) -> PullState:
        """Return the pull as an agent observes it."""
        known = now - self.began >= self.attempt.resolves_after
        if now >= self.ended:
            well = self.attempt.well
            end = {
                "status": PullPhase.COMPLETED if well else PullPhase.FAILED,
                "ended_at": self.ended,
                "error_reason": None if well else ErrorReason.UNKNOWN,
            }
            known = self.attempt.well or self.attempt.seconds >= self.attempt.resolves_after
            done = SIZE if well else self._bytes(self.ended)
            name = {"image_ref": self.image} if well else {}
            return pull(self.id, layer("a", done, SIZE), at=self.began, **(name if known else UNSEEN), **end)
        if not known:
            return pull(self.id, at=self.began, status=PullPhase.RESOLVING, **UNSEEN)
        return pull(self.id, layer("a", self._bytes(now), SIZE), at=self.began)

    def _bytes(self, now: float) -> int:
        part = min((now - self.began) / self.attempt.seconds, 0.99)
        return int(SIZE * part * (1 if self.attempt.well else 0.7))


class Node:
    """The actual events on one node, and the times at which each channel reports them."""

    def __init__(self, lives: list[Life]) -> None:
        self.leases: list[Lease] = []
        self.events: list[tuple[float, object]] = []
        self.statuses: list[tuple[float, object]] = []
        self.ends: list[bool] = []
        self.found = 0
        """How many pods, after their own pull had failed, found the image on the node because another pod had pulled
        it. Finding the image also ends the pod's arrival.
        """
        self.images = set[str]()
        """Images that are on the node."""
        self.witnessed: dict[str, Lease] = {}
        """The leases whose end an agent has reported, keyed by id."""
        going = [self._live(f"web-{number}", life) for number, life in enumerate(lives)]
        due = [(next(life), number, life) for number, life in enumerate(going)]
        heapq.heapify(due)
        while due:
            now, number, life = heapq.heappop(due)
            with suppress(StopIteration):
                heapq.heappush(due, (life.send(now), number, life))
        self.over = max(at for at, _ in self.statuses)

    def _live(self, name: str, life: Life) -> Generator[float, float, None]:
        """Simulate one pod. Yield the time of the pod's next action, and resume at that time."""
        arrival = PodEvents(pod(name, "node-1", {"app": f"nginx:{life.tag}"}, at=NOW + life.comes))
        image = f"{NGINX}:{life.tag}"
        now = yield NOW + life.comes
        self.statuses.append((now, seen(arrival)))
        for number, attempt in enumerate(life.attempts):
            if image in self.images:
                break
            self.events.append((now, event(arrival.pulling("app", now))))
            ended = now + 0.1 + attempt.seconds
            self.leases.append(Lease(f"{name}-{number}", now + 0.1, attempt, ended, image))
            now = yield ended
            self.ends.append(attempt.well)
            if attempt.well:
                self.images.add(image)
                self.events.append((now, event(arrival.pulled("app", now))))
                now = yield now + 0.5
                arrival.started("app", now)
                self.statuses.append((now, seen(arrival)))
                return
            self.events.append((now, event(arrival.failed("app", now, NOT_FOUND))))
            self.statuses.append((now + 0.1, seen(arrival)))
            now = yield now + 2.0
            self.events.append((now, event(arrival.backing_off("app", now))))
            self.statuses.append((now, seen(arrival)))
            now = yield ended + 10.0 * 2**number
        if image in self.images:
            self.found += 1
            self.events.append((now, event(arrival.already_present("app", now))))
            arrival.started("app", now)
        self.statuses.append((now, seen(arrival) if image in self.images else PodGone(arrival.pod["metadata"]["uid"])))

    def runs(self, image: str, now: float) -> bool:
        """Return whether a pull of the image is running, or ended so recently that a channel might not have reported it
        yet.
        """
        leases = [lease for lease in self.leases if lease.image == image]
        return any(lease.began - 1.0 <= now <= lease.ended + SLOWEST for lease in leases)

    def beside(self, lease: Lease) -> list[Lease]:
        """Return the successful pulls of the same image that overlapped this pull and therefore share its row."""
        of_image = [each for each in self.leases if each.image == lease.image and each.attempt.well]
        return [each for each in of_image if each.began <= lease.ended and lease.began <= each.ended]

    def reports(self, silences: list[tuple[float, float]]) -> Iterator[tuple[float, AgentReport]]:
        """Yield a report every second. During each of the ``silences``, no agent is running, and the next agent does
        not know which pulls ended during that time.
        """
        boot, known, sequence = 0, dict[str, Lease](), 0
        now = NOW + 0.5
        while now < self.over + 5.0:
            if any(begin <= now - NOW < begin + length for begin, length in silences):
                boot, known = boot + bool(known), {}
            else:
                known |= {lease.id: lease for lease in self.leases if lease.began <= now < lease.ended}
                self.witnessed |= {lease.id: lease for lease in known.values() if lease.ended <= now}
                states = [lease.state(now) for lease in known.values()]
                sequence += 1
                yield now, report(*states, boot=f"boot-{boot}", sequence=sequence)
            now += 1.0


class Follower:
    """A client that checks every published state."""

    def __init__(self, sim: SimulatedHub) -> None:
        self.sim, self.cursor = sim, 0
        self.table: dict[str, PullStatus] = {}
        self.ends: set[tuple[str, int]] = set()
        self.times: set[tuple[bool, float]] = set()
        """The published outcomes: whether the pull succeeded, and when it ended."""

    def look(self, node: Node) -> None:
        for entry in self.sim.hub.feed.since(self.cursor) or ():
            if entry.pull is None:
                self.table.pop(entry.id, None)  # the finished pull with this id belonged to another image after all
                self.ends = {end for end in self.ends if end[0] != entry.id}
                continue
            self.compare(self.table.get(entry.id), entry.pull)
            self.table[entry.id] = entry.pull
        self.cursor = self.sim.hub.feed.revision
        reporting = [seen for _, _, seen in self.sim.hub.gauges().nodes if seen > self.sim.now - 2.0]
        for row in self.table.values() if reporting else ():
            if row.status in (PullPhase.RESOLVING, PullPhase.DOWNLOADING) and ":" in row.image_ref:
                assert node.runs(row.image_ref, self.sim.now), f"no pull of {row.image_ref} runs"

    def compare(self, before: PullStatus | None, now: PullStatus) -> None:
        if now.status.ended:
            self.ends.add((now.id, now.attempt))
            self.times.add((now.status is PullPhase.COMPLETED, now.completed_at.timestamp()))
        if before is None or before.attempt < now.attempt:
            return
        assert before.attempt == now.attempt
        assert before.percent <= now.percent
        if before.status.ended and before.error_reason in (ErrorReason.UNKNOWN, ErrorReason.CANCELED):
            assert now.status.ended  # the cause was unknown, and the kubelet may still report a success
        elif before.status.ended:
            assert before.status is now.status


def channel(
    messages: Iterable[tuple[float, object]], late: list[float], apart: float = 0.0
) -> Iterator[tuple[float, object]]:
    """Delay the messages, but keep them in order and at least ``apart`` seconds apart."""
    before = 0.0
    for (at, message), delay in zip(messages, itertools.cycle(late)):
        before = max(before + apart, at + delay)
        yield before, message


@settings(max_examples=200)
@given(st.lists(lives, min_size=1, max_size=2), delays, status_delays, delays, silences)
@example([Life(0.0, [Attempt(2.5, False, 0.0), Attempt(1.0, True, 0.0)])], [2.0], [0.0], [0.8], [(1.0, 5.0)])
@example(
    [
        Life(0.0, [Attempt(0.3, False, 0.0), Attempt(0.3, False, 0.0)], "1.27"),
        Life(0.0, [Attempt(40.0, False, 0.0), Attempt(1.0, False, 0.0)], "1.28"),
    ],
    [0.8],
    [0.0],
    [0.0],
    [],
)
@example(
    [
        Life(40.0, [Attempt(20.0, False, 0.0), Attempt(40.0, False, 0.2), Attempt(40.0, True, 0.0)], "1.28"),
        Life(0.0, [Attempt(t, False, r) for t, r in ((1.0, 0.0), (0.3, 1.5), (7.0, 0.0), (20.0, 0.0))], "1.27"),
    ],
    [6.0, 0.2, 6.0, 6.0, 2.0],
    [0.0, 0.0, 20.0, 20.0, 12.0, 10.5, 2.0, 15.0],
    [6.0, 0.8, 2.0, 6.0, 6.0, 0.2, 0.2, 0.0],
    [],
)
@example([Life(0.0, [Attempt(1.0, True, 0.0)], "1.28"), Life(0.0, [Attempt(2.5, False, 0.0)])], [0.0], [0.0], [0.8], [])
@example([Life(0.0, [Attempt(1.0, False, 0.0)]), Life(0.0, [Attempt(2.5, False, 1.5)])], [0.0], [0.0], [0.0], [])
@example(
    [Life(0.0, [Attempt(0.3, True, 0.0)], "1.28"), Life(4.0, [Attempt(1.0, False, 0.0)])],
    [6.0],
    [2.0],
    [0.0],
    [(5.0, 1.5)],
)
def test_a_published_state_never_has_to_be_retracted(lives, events_late, statuses_late, reports_late, silences) -> None:
    node = Node(lives)
    cluster = Cluster()
    world = SimulatedHub(cluster=cluster)
    follower = Follower(world)
    heard = heapq.merge(
        channel(sorted(node.events, key=itemgetter(0)), events_late),
        channel(sorted(node.statuses, key=itemgetter(0)), statuses_late),
        channel(node.reports(silences), reports_late, apart=0.6),
        key=itemgetter(0),
    )
    for at, message in heard:
        while world.now < at:
            world.now = min(world.now + 0.5, at)
            world.hub.tick(world.now)
            follower.look(node)
        if isinstance(message, AgentReport):
            world.hub.report(message)
        else:
            world.hub.touch(cluster.apply(message, world.now))
        world.hub.tick(world.now)
        follower.look(node)
    for _ in range(60):
        world.now += 1.0
        world.hub.tick(world.now)
        follower.look(node)
    rows = sorted(follower.table.values(), key=lambda row: row.started_at)
    assert all(row.status.ended for row in rows)
    assert {row.image_ref for row in rows if row.status is PullPhase.COMPLETED} == node.images
    for lease in node.witnessed.values():
        if lease.attempt.well:
            ends = [each.ended for each in node.beside(lease)]
            assert any(well and abs(at - end) <= 2.0 for well, at in follower.times for end in ends), (
                "what arrived is published"
            )
    # As long as nothing distinguishes the simultaneous pulls for two pods, each pull may be shown for the wrong pod. In
    # that case, both rows may show the end of the same pull.
    assert len(follower.ends) <= len(node.ends) + node.found or len(lives) > 1
