"""The hub owns and updates all state. The hub receives reports, joins them with image demands, and publishes the result
at each tick.

A report marks its node as changed. At each tick, the hub joins the reports from the marked nodes with the image
demands, and publishes the changes as one frame. The list endpoints show a finished pull immediately. Streams wait for
``next_frame`` and then read the feed.
"""

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from pulltrace.logs import fields
from pulltrace.server.kubernetes.demand import ImageDemand, WaitingPod
from pulltrace.server.kubernetes.objects import Change
from pulltrace.server.kubernetes.source import ClusterSource
from pulltrace.server.limits import Limits
from pulltrace.server.metrics import Gauges, Metrics
from pulltrace.server.pulls.analysis import Analysis
from pulltrace.server.pulls.correlation import SETTLES_AFTER, Correlation
from pulltrace.server.pulls.feed import Feed
from pulltrace.server.pulls.inventory import Inventory, Merged
from pulltrace.server.pulls.node import Node
from pulltrace.server.pulls.outcomes import Exporter, Outcomes
from pulltrace.server.pulls.startup import Startup
from pulltrace.server.pulls.throughput import Throughput
from pulltrace.server.pulls.views import count_slow_nodes, count_waiting
from pulltrace.server.responses import NodeState, NodeStatus, OwnerPulls, RegistryStatus, UnobservedNodes
from pulltrace.settings import ServerSettings
from pulltrace.wire import AgentReport, PullPhase, to_time

TOP_OWNERS = 5
"""Maximum number of owners to list for each registry. The owners with the most pulls come first."""
CONFLICT = "two agents report with this node name, so two machines have the same name"

MOST_NAMES = 100
"""Maximum number of nodes without an agent that are listed by name."""

SLICE = 16
"""The number of nodes whose changes are published before waiting requests are handled."""

AGENTS_DUE = 15.0
"""How long, in seconds, the server waits for each agent's first report after startup. A node that has not reported
within this time is considered to have no agent.
"""
SLOW_LATELY = 600.0
"""How long, in seconds, a node counts as slow after a slow pull has ended."""

_log = logging.getLogger(__name__)


def steady_clock() -> Callable[[], float]:
    """Return a clock that counts Unix seconds and never jumps. The clock returns the time at which it was created plus
    the time that has elapsed since then.

    A change to the machine's clock therefore does not make nodes appear lost or history expire early. The returned
    clock keeps counting while the machine is suspended.
    """
    ticking = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Linux's monotonic clock stops during suspend
    offset = time.time() - time.clock_gettime(ticking)
    return lambda: time.clock_gettime(ticking) + offset


class ClusterState(Protocol):
    """The members of ``kubernetes.cluster.Cluster`` that the hub uses."""

    @property
    def dropped(self) -> int:
        """How many image requests were dropped because the limit had been reached."""

    def demands(self, node: str) -> Sequence[ImageDemand]:
        """Return the images that one node's kubelet needs."""

    def waiting(self) -> Iterable[WaitingPod]:
        """Return every pod with at least one container that was never created."""

    def apply(self, change: Change, now: float) -> set[str]:
        """Process one change. Return the nodes whose demands may have changed."""

    def expire(self, now: float) -> set[str]:
        """Forget requests that are no longer needed. Return the nodes whose demands may have changed."""


class TooSoonError(Exception):
    """A node sent its next report too early."""


class Hub:
    """The server's entire state. A new ``boot_id`` means that the server has restarted and lost its state."""

    def __init__(
        self,
        settings: ServerSettings,
        metrics: Metrics,
        *,
        limits: Limits | None = None,
        cluster: ClusterState | None = None,
        source: ClusterSource | None = None,
        export: Exporter | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.metrics = metrics
        self.boot_id = secrets.token_hex(6)
        self.feed = Feed(self.limits.tombstones)
        self.closing = False
        """True while the server is stopping. Each stream ends after one last message."""
        self.node_revision = 0
        """A number that increases with each report, and whenever a node stops reporting."""
        self._frame = asyncio.Event()
        clock = self._clock = clock or steady_clock()
        self.source = source or ClusterSource()
        """The connection to the cluster, or the reason why there is no connection."""
        self._cluster: ClusterState | None = self.source.cluster if self.source.on else cluster
        self._born = clock()
        self._pulls = Inventory(ttl=settings.history_ttl, born=self._born, limits=self.limits)
        self._analysis = Analysis()
        announced = self._cluster is not None
        self._correlation = Correlation(
            settings.stall_timeout, settings.history_ttl, self._analysis, announced=announced
        )
        self.startup = Startup(clock())
        self.throughput = Throughput(clock())
        self._outcomes = Outcomes(
            metrics, self._analysis, self.throughput, waits=self._cluster is not None, export=export
        )
        self._agents_due = clock() + AGENTS_DUE
        self._dirty: set[str] = set()
        self._woken_at = 0.0
        self._dropped = 0

    def now(self) -> float:
        """Return the server's time in Unix seconds."""
        return self._clock()

    def report(self, report: AgentReport) -> None:
        """Process one report. Raises ``TooSoonError`` or ``TooManyNodesError``."""
        now = self._clock()
        node = self._pulls.nodes.get(report.node_name)
        if node and 0 <= now - node.last_report < self.limits.report_interval:
            raise TooSoonError
        before = node.state if node else None
        merged = self._pulls.merge(report, now)
        merged.node.last_report = now
        self.node_revision += 1
        if merged.node.state is not before:
            self._dirty.add(merged.node.name)
            if NodeState.CONFLICT in (merged.node.state, before):
                _log.warning("node.%s", merged.node.state.value, extra=fields(node=report.node_name, why=CONFLICT))
        self.metrics.report()
        self._take(merged, now)
        if merged.ended:
            self._publish([merged.node.name], now)

    def touch(self, nodes: Iterable[str]) -> None:
        """Mark these nodes as changed, because their demands have changed."""
        self._dirty.update(nodes)

    def take_change(self, change: Change) -> None:
        """Process one change from the cluster's watches."""
        now = self._clock()
        if self._cluster:
            self.touch(self._cluster.apply(change, now))
        self.startup.apply(change, now)

    async def run(self) -> None:
        """Publish changes at regular intervals until cancelled."""
        while True:
            await asyncio.sleep(self.limits.tick)
            for _ in self._slices(self._clock()):
                await asyncio.sleep(0)

    def tick(self, now: float) -> None:
        """Publish the changes since the last tick."""
        for _ in self._slices(now):
            pass

    def _slices(self, now: float) -> Iterator[None]:
        """Run a tick in slices, so that requests do not have to wait for the whole tick."""
        for merged in self._pulls.watch(now):
            self._log_node(merged.node)
            self.node_revision += 1
            self._dirty.add(merged.node.name)
            if merged.node.name not in self._pulls.nodes:
                self._analysis.forget(merged.node.name)
            self._take(merged, now)
        if self._cluster:
            self._dirty |= self._cluster.expire(now)
        gone = [id_ for pull in self._pulls.expire(now) if (id_ := self._correlation.forget(pull))]
        self._correlation.expire(now)
        dirty, self._dirty = self._dirty | self._correlation.due, set()
        self.feed.publish((), gone, now)
        for number, name in enumerate(dirty, 1):
            self._publish([name], now)
            if number % SLICE == 0:
                yield
                now = self._clock()
        if self.feed.cut() or now - self._woken_at >= self.limits.keep_alive / 3:
            self._woken_at = now
            self._wake()
        self._outcomes.settle(now)
        self.startup.expire(now)
        for phases in self.startup.take_finished():
            self.metrics.pod_started(phases)
        dropped = self._pulls.dropped + (self._cluster.dropped if self._cluster else 0)
        self.metrics.dropped(dropped - self._dropped)
        self._dropped = dropped

    async def next_frame(self) -> None:
        """Wait until the next frame is ready, the server stops, or a third of the keep-alive interval has passed."""
        await self._frame.wait()

    def close(self) -> None:
        """Mark the server as stopping, and wake all clients one last time."""
        self.closing = True
        self._wake()

    def _wake(self) -> None:
        frame, self._frame = self._frame, asyncio.Event()
        frame.set()

    def nodes(self) -> Iterator[NodeStatus]:
        """Yield the status of every node, sorted by name. Each status is computed only when it is yielded."""
        for name in sorted(self._pulls.nodes):
            if node := self._pulls.nodes.get(name):
                yield _node_status(node, self._clock())

    def registries(self) -> list[RegistryStatus]:
        """Return every registry that is in use or was used in the last hour."""
        now, quota = self._clock(), self._analysis.quota
        found: dict[str, tuple[int, float]] = dict.fromkeys(quota.registries(), (0, 0.0))
        for node in self._pulls.nodes.values():
            for pull in node.active.values():
                host = pull.state.registry or ""
                count, rate = found.get(host, (0, 0.0))
                found[host] = (count + 1, rate + pull.bytes_per_second(now))
        return [
            status
            for host, (count, rate) in sorted(found.items())
            if host and (status := _registry_status(host, count, rate, quota.owners(host, now)))
        ]

    def unobserved(self) -> list[UnobservedNodes]:
        """Return the nodes where pods are waiting for images but no agent observes the pulls. The nodes are grouped by
        reason.
        """
        if self._cluster is None or self._clock() < self._agents_due:
            return []
        waiting = {pod.node for pod in self._cluster.waiting()}
        silent = {name for name in waiting if name not in self._pulls.nodes}
        lost = {name for name in waiting - silent if self._pulls.nodes[name].state is NodeState.LOST}
        found = (
            (silent, "no agent has reported from it"),
            (lost, "its agent has stopped reporting"),
        )
        return [
            UnobservedNodes(count=len(names), names=sorted(names)[:MOST_NAMES], reason=reason)
            for names, reason in found
            if names
        ]

    def gauges(self) -> Gauges:
        """Return the current values of the gauges."""
        pulls = [pull for pull in self.feed.pulls() if not pull.status.ended]
        return Gauges(
            active=dict(Counter(pull.status for pull in pulls)),
            stalled=sum(pull.stalled_since is not None for pull in pulls),
            nodes=[(node.name, node.state, node.last_seen) for node in self._pulls.nodes.values()],
            watches=self.source.up(),
            pods_waiting=count_waiting(self._cluster.waiting() if self._cluster else (), self.feed.pulls()),
            slow_nodes=count_slow_nodes(self.feed.pulls(), to_time(self._clock() - SLOW_LATELY)),
        )

    def _take(self, merged: Merged, now: float) -> None:
        node = merged.node
        if merged.stale:
            return
        for pull, came, untimed in merged.fetched:
            self.metrics.fetched(pull.state.registry, came + untimed)
            if came:
                self.throughput.add(pull.state.registry or "unknown", came, now)
        for pull in merged.ended:
            self._outcomes.phases(pull)
        for pull in merged.withdrawn:
            if id_ := self._correlation.forget(pull):
                self._outcomes.forget(id_)
                self.feed.publish((), [id_], now)
        if merged.ended or merged.withdrawn or node.active or node.name in self._dirty:
            self._dirty.add(node.name)

    def _publish(self, nodes: Iterable[str], now: float) -> None:
        for name in nodes:
            node = self._pulls.nodes.get(name)
            pulls = node.lately(SETTLES_AFTER, now) if node else ()
            demands = self._cluster.demands(name) if self._cluster else ()
            agent = node.state if node else NodeState.LATE if now < self._agents_due else None
            changed = self._correlation.join(name, pulls, demands, now, agent=agent)
            self._dirty.discard(name)
            for arrival, status in changed:
                if status is None:
                    self._outcomes.forget(arrival.id)
                    self.feed.publish((), [arrival.id], now)
                    continue
                self.startup.observe(status, arrival.pull)
                before = self.feed.get(arrival.id)
                # Failures that the kubelet reported before this server started were counted by the previous server
                # process.
                ended_earlier = status.completed_at is not None and status.completed_at.timestamp() < self._born
                if not arrival.history and (before or not ended_earlier):
                    complete = (
                        agent is not NodeState.REPORTING
                        or arrival.pull is not None
                        or status.status is PullPhase.FAILED
                    )
                    self._outcomes.note(before.pull if before else None, status, arrival, now, complete=complete)
                self.feed.publish([status], (), now)

    def _log_node(self, node: Node) -> None:
        level = logging.INFO if node.name in self._pulls.nodes else logging.DEBUG
        _log.log(level, "node.%s", node.state.value, extra=fields(node=node.name))


def _registry_status(host: str, active: int, rate: float, owners: list[tuple[str, int]]) -> RegistryStatus | None:
    """Return the status of a registry. Return None if the registry had no pulls in the last hour and has no current
    pulls.
    """
    if not active and not owners:
        return None
    return RegistryStatus(
        registry=host,
        active_pulls=active,
        bytes_per_sec=round(rate, 1),
        pulls_last_hour=sum(count for _, count in owners),
        owners=[OwnerPulls(owner=owner, pulls=count) for owner, count in owners[:TOP_OWNERS]] or None,
    )


def _node_status(node: Node, now: float) -> NodeStatus:
    return NodeStatus(
        name=node.name,
        state=node.state,
        last_seen=to_time(node.last_seen),
        active_pulls=len(node.active),
        bytes_per_sec=round(sum(pull.bytes_per_second(now) for pull in node.active.values()), 1),
        agent_version=node.agent_version,
        containerd_version=node.containerd_version,
        snapshotter=node.snapshotter,
        load=node.load_at(now),
        problem=CONFLICT if node.state is NodeState.CONFLICT else None,
    )
