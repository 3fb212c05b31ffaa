"""The demo in virtual time, with the demo's nodes, the agent's tracker and the server's hub, but without sockets or
waiting.
"""

from collections.abc import Iterator

import msgspec

from pulltrace.demo.kubelet import Said
from pulltrace.demo.scenario import Crashed, Scenario
from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.kubernetes.objects import Change, Event, EventSeen, Pod, PodGone, PodSeen
from pulltrace.server.metrics import Metrics
from pulltrace.server.models import PullStatus
from pulltrace.server.pulls.hub import Hub
from pulltrace.settings import ServerSettings, load
from pulltrace.wire import AgentReport
from tests.agent.virtual import Watched

NOON = 1_800_000_000.0
STEP = 1.0


class VirtualWorld:
    """A simulated cluster. Each call to ``step`` advances the cluster's time by one second."""

    def __init__(self, nodes: int, seed: int = 20261123) -> None:
        self.now = NOON
        self.scenario = Scenario(nodes, now=NOON, seed=seed)
        self._cluster = Cluster()
        self._hub = Hub(load(ServerSettings, {}), Metrics(), cluster=self._cluster, clock=lambda: self.now)
        self._agents = {name: Watched(node) for name, node in self.scenario.nodes.items()}
        self._sequence = 0

    @property
    def pulls(self) -> list[PullStatus]:
        """Return every published pull."""
        return list(self._hub.feed.pulls())

    def step(self) -> None:
        """Advance time by a second."""
        self.now += STEP
        self._sequence += 1
        for happened in self.scenario.advance(STEP):
            self.take(happened)
        for name, agent in self._agents.items():
            self._report(name, agent)
        self._hub.tick(self.now)

    def take(self, happened: Said | Crashed) -> None:
        """Forward a scenario event to the agents or the server."""
        if isinstance(happened, Crashed):
            tracker = self._agents[happened.node].tracker
            tracker.containerd_since = self.now
            tracker.containerd_restarted()
            return
        for change in _changes(happened):
            self._hub.touch(self._cluster.apply(change, self.now))

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


def _changes(said: Said) -> Iterator[Change]:
    if said.resource == "events":
        if not said.gone:
            yield EventSeen(msgspec.convert(said.object, Event), fresh=True)
        return
    pod = msgspec.convert(said.object, Pod)
    yield PodGone(pod.key) if said.gone else PodSeen(pod)
