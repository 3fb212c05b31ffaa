"""The pulls of all nodes, as reported by their agents. Sans-I/O.

The time needed to process a report depends only on the report's size. A pull is considered ended once its agent no
longer reports it. A node that stops reporting is first marked as late, and later as lost. This module is independent of
Kubernetes; ``correlation`` adds the image demands.
"""

import heapq
import itertools

import msgspec
from msgspec import structs

from pulltrace.server.limits import Limits
from pulltrace.server.pulls import go_agent
from pulltrace.server.pulls.clocks import is_set
from pulltrace.server.pulls.memory import LIVE_LAYER, ended_weight, live_weight
from pulltrace.server.pulls.node import DEFAULT_HEARTBEAT, Node, Pull
from pulltrace.server.pulls.rates import Unpacking
from pulltrace.server.responses import NodeState
from pulltrace.wire import (
    SNAPSHOTTER,
    UNKNOWN_IMAGE,
    AgentReport,
    ErrorReason,
    LayerPhase,
    LayerState,
    PullPhase,
    PullState,
)

ENDED_UNSEEN = "ended while no agent observed it"
MOST_SNAPSHOTTERS = 20
"""Maximum number of snapshotters whose speed is stored. The number is limited because agents can report arbitrary
names.
"""

AGENT_GONE = "the node's agent is gone"


class TooManyNodesError(Exception):
    """A new node sent a report, but the server already tracks the maximum number of nodes."""


class Merged(msgspec.Struct):
    """The changes to a node's pulls that result from a report or from missing reports."""

    node: Node
    ended: list[Pull] = []
    withdrawn: list[Pull] = []
    """Pulls that were known only from their leases and are no longer reported by the agent."""
    fetched: list[tuple[Pull, int, int]] = []
    """For each pull, the number of bytes that it downloaded since the last report, and the number of bytes that a
    snapshotter downloaded at an unknown time.

    No byte is counted twice.
    """
    stale: bool = False
    """True if the report was ignored because it was late or a duplicate."""


class Inventory:
    """The pulls of all nodes. ``born`` is the time when this server started. Pulls that ended before that time are kept
    only as history.
    """

    def __init__(self, *, ttl: float, born: float, limits: Limits) -> None:
        self.nodes: dict[str, Node] = {}
        self.dropped = 0
        """How many pulls and layers were dropped because they exceeded the limits."""
        self._ttl = ttl
        self._born = born
        self._limits = limits
        self._silence: list[tuple[float, str]] = []  # the time of the next check of each node
        self._ends: list[tuple[float, int, Pull]] = []  # the time at which to forget each finished pull
        self._history = 0
        self.bytes = 0
        """The estimated memory that all pulls use, in bytes."""
        self._unpacking: dict[str, Unpacking] = {}  # by snapshotter
        self._serial = itertools.count()  # prevents the heap from comparing pulls
        self._evicted: list[Pull] = []

    def merge(self, report: AgentReport, now: float) -> Merged:
        """Merge one report that arrived at ``now``. Raises ``TooManyNodesError``."""
        node = self.nodes.get(report.node_name)
        if node is None:
            node = self._new_node(report, now)
        known_since = node.whole_at
        merged = Merged(node)
        if not node.agents.accept(report.boot_id, report.sequence, now, node.late_after):
            merged.stale = True
            return merged
        self._hear(node, report, now)
        states = report.pulls or []
        node.go_agent = go_agent.is_from_go_agent(states) or (node.go_agent and not report.boot_id)
        if node.go_agent:
            unknown = node.active.get(UNKNOWN_IMAGE)
            ingests = states[: self._limits.layers_per_pull]
            self.dropped += len(states) - len(ingests)
            states = go_agent.merge_ingests(ingests, unknown.state if unknown else None)
        told = set(report.others or ())
        for state in states[: self._limits.active_per_node]:
            told.add(state.id)
            if self._fits(node, state):
                self._take(merged, state, known_since, now)
            else:
                self.dropped += 1
        self.dropped += max(len(states) - self._limits.active_per_node, 0)
        for pull in [pull for key, pull in node.active.items() if key not in told]:
            if node.go_agent:
                self._end(merged, pull, PullPhase.COMPLETED, now, now)
            elif node.agents.may_report(pull.boot, now):
                continue
            elif pull.is_only_lease:
                self._withdraw(merged, pull)
            else:
                pull.presumed = True
                self._end(merged, pull, PullPhase.FAILED, now, now, error=ENDED_UNSEEN)
        return merged

    def watch(self, now: float) -> list[Merged]:
        """Return the nodes that have stopped reporting or have been forgotten since the last call."""
        changed = []
        while self._silence and self._silence[0][0] <= now:
            _, name = heapq.heappop(self._silence)
            node = self.nodes[name]
            silent = now - node.last_seen
            before = node.state
            merged = Merged(node)
            if node.state is NodeState.CONFLICT and not node.agents.has_conflict(now):
                node.state = NodeState.REPORTING
            if silent >= node.lost_after:
                node.state = NodeState.LOST
                for pull in list(node.active.values()):
                    pull.presumed = True
                    self._end(merged, pull, PullPhase.FAILED, now, now, error=AGENT_GONE)
            elif silent >= node.late_after:
                node.state = NodeState.LATE
            if silent > node.lost_after + self._ttl:
                del self.nodes[name]
            else:
                due = {
                    NodeState.REPORTING: node.late_after,
                    NodeState.CONFLICT: node.late_after,
                    NodeState.LATE: node.lost_after,
                }
                wait = due.get(node.state, node.lost_after + self._ttl + 1.0)
                heapq.heappush(self._silence, (node.last_seen + wait, name))
            if node.state is not before or name not in self.nodes:
                changed.append(merged)
        return changed

    def expire(self, now: float) -> list[Pull]:
        """Forget and return the finished pulls that have expired or must make room for other pulls."""
        gone, self._evicted = self._evicted, []
        while self._ends and (self._ends[0][0] <= now or self._is_too_much):
            due, _, pull = heapq.heappop(self._ends)
            if pull.node.ended.get(pull.key) is not pull:
                continue  # the pull was dropped or revived
            if self._due(pull) > due:
                self._schedule(pull)
                continue
            self.dropped += due > now
            del pull.node.ended[pull.key]
            self._forget(pull)
            gone.append(pull)
        if len(self._ends) > 2 * self._history + 1000:  # most pulls in the heap have been dropped
            kept = {id(pull): pull for *_, pull in self._ends if pull.node.ended.get(pull.key) is pull}
            self._ends.clear()
            for pull in kept.values():
                self._schedule(pull)
        return gone

    @property
    def _is_too_much(self) -> bool:
        """Return whether there are too many finished pulls, or whether all pulls together use too much memory."""
        return self._history > self._limits.history or (self._history > 0 and self.bytes > self._limits.all_bytes)

    def _due(self, pull: Pull) -> float:
        """Return the time at which to forget a finished pull. The time can change, because the kubelet may report a
        later end time for the pull.
        """
        return (pull.ended_at or 0.0) + self._ttl

    def _schedule(self, pull: Pull) -> None:
        heapq.heappush(self._ends, (self._due(pull), next(self._serial), pull))

    def _new_node(self, report: AgentReport, now: float) -> Node:
        if len(self.nodes) >= self._limits.nodes:
            raise TooManyNodesError
        name = report.node_name
        node = self.nodes[name] = Node(name, last_seen=now, whole_at=self._born, heartbeat=_heartbeat(report))
        heapq.heappush(self._silence, (now + node.late_after, name))
        return node

    def _hear(self, node: Node, report: AgentReport, now: float) -> None:
        node.last_seen = now
        if not report.others:
            node.whole_at = now
        node.heartbeat = _heartbeat(report)
        node.state = NodeState.CONFLICT if node.agents.has_conflict(now) else NodeState.REPORTING
        node.agent_version = report.agent_version
        node.containerd_version = report.containerd_version
        node.snapshotter = report.snapshotter
        node.fleet_unpacking = self._unpacking_of(report.snapshotter)
        node.load = report.load
        if is_set(report.timestamp):
            node.clock.set(report.timestamp.timestamp() - now)

    def _unpacking_of(self, snapshotter: str) -> Unpacking:
        """Return the unpacking speed of the nodes that use this snapshotter."""
        if snapshotter not in self._unpacking and len(self._unpacking) >= MOST_SNAPSHOTTERS:
            snapshotter = ""
        if snapshotter not in self._unpacking:
            self._unpacking[snapshotter] = Unpacking()
        return self._unpacking[snapshotter]

    def _fits(self, node: Node, state: PullState) -> bool:
        """Return whether there is room for another pull. Without this check, several reports together could add more
        pulls than a single report may contain.

        Each node may always store one pull, even if the memory limit shared by all nodes has been reached.
        """
        if (state.status is not None and state.status.ended) or state.id in node.active or not node.active:
            return True
        size, limits = live_weight(state) - LIVE_LAYER * len(state.layers or ()), self._limits
        has_room = node.live_bytes + size <= limits.live_bytes and self.bytes + size <= limits.all_bytes
        return has_room and len(node.active) < limits.active_per_node

    def _take(self, merged: Merged, state: PullState, known_since: float, now: float) -> None:
        node = merged.node
        if state.layers and len(state.layers) > self._limits.layers_per_pull:
            self.dropped += len(state.layers) - self._limits.layers_per_pull
            state = structs.replace(state, layers=state.layers[: self._limits.layers_per_pull])
        pull = node.active.get(state.id) or node.ended.get(state.id)
        phase = state.status or (PullPhase.DOWNLOADING if state.layers else PullPhase.RESOLVING)
        if phase in (PullPhase.QUEUED, PullPhase.UNOBSERVED):  # an observed pull cannot be in these phases
            phase = PullPhase.RESOLVING
        ended_at = node.clock.to_server(state.completed_at, now) if phase.ended else None
        if pull is None:
            if ended_at is not None and now - ended_at > self._ttl:
                return
            pull = self._new_pull(node, state, ended_at, known_since, now)
        elif pull.ended_at is not None:
            if not pull.presumed:
                return  # a repeated report: the server has already recorded the end
            if pull.phase is PullPhase.COMPLETED and ended_at is None:
                return  # the report is late: the kubelet already has the image
            del node.ended[pull.key]
            self._forget(pull)
            pull.weight = 0
            pull.revive(now)
            node.active[state.id] = pull
        pull.boot = node.agents.current
        state = self._fitted(pull, state)
        before = pull.state.layers
        came, untimed = pull.update(state, now)
        if (came or untimed) and not (pull.history or state.imported):
            merged.fetched.append((pull, came, untimed))
        _learn_unpacking(node, before, state.layers)
        if ended_at is not None:
            self._end(merged, pull, phase, ended_at, now, error=state.error, reason=state.error_reason)
            pull.presumed = False
        else:
            pull.enter(phase, now)

    def _fitted(self, pull: Pull, state: PullState) -> PullState:
        """Update the memory estimate for a pull's latest state. If there is not enough room, drop the layers."""
        node = pull.node
        new = live_weight(state)
        live = node.live_bytes + new - pull.weight
        if live > self._limits.live_bytes or self.bytes + new - pull.weight > self._limits.all_bytes:
            self.dropped += len(state.layers or ())
            state = structs.replace(state, layers=None)
            new = live_weight(state)
        node.live_bytes += new - pull.weight
        self.bytes += new - pull.weight
        pull.weight = new
        return state

    def _new_pull(self, node: Node, state: PullState, ended_at: float | None, known_since: float, now: float) -> Pull:
        started_at = node.clock.to_server(state.started_at, now)
        # The Go agent's next pull will have the same id.
        pull = Pull(f"{state.id} {now:.3f}" if node.go_agent else state.id, node, state, started_at)
        pull.history = ended_at is not None and ended_at < self._born
        pull.fresh = not node.go_agent and pull.started_at >= known_since
        node.active[state.id] = pull
        return pull

    def _end(
        self,
        merged: Merged,
        pull: Pull,
        phase: PullPhase,
        at: float,
        now: float,
        *,
        error: str | None = None,
        reason: ErrorReason | None = None,
    ) -> None:
        node = pull.node
        pull.end(phase, at, now, error, reason)
        del node.active[pull.state.id]
        node.ended[pull.key] = pull
        node.live_bytes -= pull.weight
        self.bytes -= pull.weight
        pull.weight = ended_weight(pull.state)
        self.bytes += pull.weight
        node.history_bytes += pull.weight
        self._history += 1
        self._schedule(pull)
        while self._is_history_full(node):
            _, oldest = node.ended.popitem(last=False)
            self._forget(oldest)
            self.dropped += 1
            self._evicted.append(oldest)
        merged.ended.append(pull)

    def _withdraw(self, merged: Merged, pull: Pull) -> None:
        """Forget a pull that was known only from its lease. The lease may have belonged to a container.

        If the lease did belong to a pull, the kubelet will still report the result of that pull.
        """
        node = pull.node
        del node.active[pull.state.id]
        node.live_bytes -= pull.weight
        self.bytes -= pull.weight
        merged.withdrawn.append(pull)

    def _is_history_full(self, node: Node) -> bool:
        too_large = node.history_bytes > self._limits.history_bytes and len(node.ended) > 1
        return too_large or len(node.ended) > self._limits.history_per_node

    def _forget(self, pull: Pull) -> None:
        """Subtract a finished pull and its memory from the totals."""
        self._history -= 1
        pull.node.history_bytes -= pull.weight
        self.bytes -= pull.weight


def _heartbeat(report: AgentReport) -> float:
    """Return the interval, in seconds, at which an idle agent reports, according to the agent itself."""
    return min(max(report.heartbeat_seconds, 1.0), 300.0) if report.heartbeat_seconds else DEFAULT_HEARTBEAT


def _learn_unpacking(node: Node, before: list[LayerState] | None, after: list[LayerState] | None) -> None:
    """Derive the unpacking speed from newly unpacked layers. A layer is unpacked only after it has been downloaded and
    the layer below it has been unpacked.

    All times come from containerd itself, so even layers that are unpacked within a single polling interval are
    measured. A layer is left out if one of these times is unknown.
    """
    if not before or not after or before is after or len(before) != len(after):
        return
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        if new is not old and new.state is LayerPhase.EXTRACTED is not old.state and new.extracted_at:
            complete = new.completed_at or new.extract_started_at
            turn = after[index - 1].extracted_at if index else complete
            if complete and turn and new.fetched_by != SNAPSHOTTER:  # a snapshotter's time includes the download
                seconds = max((new.extracted_at - max(complete, turn)).total_seconds(), 0.0)
                node.unpacking.saw(new.total_bytes, seconds)
                node.fleet_unpacking.saw(new.total_bytes, seconds)
