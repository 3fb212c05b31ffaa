"""Compare ``usualSeconds`` with the real duration of pulls, over a day of the demo in virtual time.

    python -m tests.demo.usual_day --hours 24 --nodes 8

The demo's nodes, the agent's tracker and the server's hub run without sockets and without waiting. An estimate counts
as of the time when the size of the pull became known, which is before the pull ended.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import msgspec

from pulltrace.demo.kubelet import Said
from pulltrace.demo.scenario import Scenario
from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.kubernetes.objects import Change, Event, EventSeen, Pod, PodGone, PodSeen
from pulltrace.server.metrics import Metrics
from pulltrace.server.pulls.hub import Hub
from pulltrace.settings import ServerSettings, load
from pulltrace.wire import AgentReport, PullPhase, PullStatus
from tests.agent.virtual import Watched

NOON = 1_800_000_000.0
STEP = 1.0


@dataclass
class Comparison:
    """The errors of all estimates, as shares of the real duration."""

    known: list[float]
    new: list[float]
    without: int

    def __str__(self) -> str:
        named = (("known images", self.known), ("new images", self.new))
        parts = [f"{name}: {len(errors)} pulls, median error {median(errors):.1%}" for name, errors in named if errors]
        parts += [f"nine of ten known images below {_ninetieth(self.known):.1%}"] if self.known else []
        return "; ".join([*parts, f"without an estimate: {self.without}"])


def _ninetieth(errors: list[float]) -> float:
    return sorted(errors)[int(0.9 * len(errors))]


def compare(*, hours: float, nodes: int, seed: int = 20261123) -> Comparison:
    """Run the demo for this many virtual hours."""
    *_, last = hourly(hours=hours, nodes=nodes, seed=seed)
    return last


def hourly(*, hours: float, nodes: int, seed: int = 20261123) -> Iterator[Comparison]:
    """Return the comparison so far after each virtual hour, and at the end."""
    day = _Day(nodes, seed)
    for number in range(int(hours * 3600 / STEP)):
        if number and number % 3600 == 0:
            yield day.found
        day.step()
    yield day.found


class _Day:
    def __init__(self, nodes: int, seed: int) -> None:
        self.found = Comparison([], [], 0)
        self._now = NOON
        self._scenario = Scenario(nodes, now=NOON, seed=seed)
        self._cluster = Cluster()
        self._hub = Hub(load(ServerSettings, {}), Metrics(), cluster=self._cluster, clock=lambda: self._now)
        self._agents = {name: Watched(node) for name, node in self._scenario.nodes.items()}
        self._sequence = 0
        self._first: dict[str, tuple[float | None, bool]] = {}
        self._images: set[str] = set()
        self._done: set[str] = set()

    def step(self) -> None:
        self._now += STEP
        self._sequence += 1
        for said in self._scenario.advance(STEP):
            if isinstance(said, Said):
                for change in _changes(said):
                    self._hub.touch(self._cluster.apply(change, self._now))
        for name, agent in self._agents.items():
            self._report(name, agent)
        self._hub.tick(self._now)
        for pull in [pull for pull in self._hub.feed.pulls() if pull.id not in self._done]:
            self._compare(pull)

    def _report(self, name: str, agent: Watched) -> None:
        agent.poll()
        ended, agent.ended = agent.ended, []
        agent.history.clear()
        if agent.live or ended or self._sequence % 10 == 0:
            pulls = [*ended, *agent.live] or None
            report = AgentReport(
                node_name=name, pulls=pulls, boot_id="boot", sequence=self._sequence, heartbeat_seconds=10
            )
            self._hub.report(report)

    def _compare(self, pull: PullStatus) -> None:
        key = f"{pull.id} {pull.attempt}"
        if pull.total_known:
            self._first.setdefault(key, (pull.usual_seconds, pull.image_ref in self._images))
        if not pull.status.ended:
            return
        self._done.add(pull.id)
        if pull.status is not PullPhase.COMPLETED or not pull.total_bytes or not pull.completed_at:
            return
        usual, known = self._first.get(key, (None, False))
        took = (pull.completed_at - pull.started_at).total_seconds()
        if usual is None:
            self.found.without += 1
        else:
            (self.found.known if known else self.found.new).append(abs(usual - took) / took)
        self._images.add(pull.image_ref)


def _changes(said: Said) -> Iterator[Change]:
    if said.resource == "events":
        if not said.gone:
            yield EventSeen(msgspec.convert(said.object, Event), fresh=True)
        return
    pod = msgspec.convert(said.object, Pod)
    yield PodGone(pod.key) if said.gone else PodSeen(pod)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--nodes", type=int, default=8)
    args = parser.parse_args()
    for hour, found in enumerate(hourly(hours=args.hours, nodes=args.nodes), 1):
        print(f"{hour} h: {found}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
