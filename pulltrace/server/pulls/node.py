"""One node and its pulls, as reported by that node's agent. Sans-I/O."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec import structs

from pulltrace.server.models import LayerStatus
from pulltrace.server.pulls.agents import Agents
from pulltrace.server.pulls.clocks import Clock
from pulltrace.server.pulls.rates import Speed, Unpacking
from pulltrace.server.pulls.sums import Sums
from pulltrace.server.pulls.usual import Estimate
from pulltrace.server.pulls.verdict import Verdict
from pulltrace.server.responses import NodeState
from pulltrace.wire import (
    SNAPSHOTTER,
    UNKNOWN_IMAGE,
    ErrorReason,
    LayerPhase,
    LayerState,
    NodeLoad,
    PullPhase,
    PullState,
)

QUEUED_LEAST = 1.0
"""How long, in seconds, a pull must wait before it counts as queued. Waits of less than a second can be rounding
errors, because the kubelet reports times in whole seconds.
"""

DEFAULT_HEARTBEAT = 10.0
LOST_AFTER = 60.0
LOAD_AGE = 6.0
"""How long, in seconds, a node's load remains valid. While a node is pulling images, its agent reports every second."""


Interval = tuple[PullPhase, float, float]
"""A phase, and its start and end times in Unix seconds."""

_STILL = Speed(0, 0.0)
"""The speed of a finished pull. If the pull turns out to be still running, its speed is measured from the beginning."""
_SETTLED = Verdict()
"""An empty verdict. It replaces a finished pull's verdict once the pull has been published for the last time."""


@dataclass(slots=True, eq=False)
class Pull:
    """One attempt by a node to pull an image, represented by a lease in the node's containerd.

    Times are in Unix seconds on the server's clock.
    """

    key: str
    """A key that is unique on the node, usually the agent's id for the pull."""
    node: "Node"
    state: PullState
    started_at: float
    phase: PullPhase = PullPhase.RESOLVING
    ended_at: float | None = None
    error: str | None = None
    reason: ErrorReason | None = None
    boot: str = ""
    """The boot id of the agent that reports the pull."""
    weight: int = 0
    """The estimated memory of the pull, in bytes."""
    presumed: bool = False
    """True if the server inferred that the pull had ended. The agent may still correct an inferred end."""
    history: bool = False
    """True if the pull ended before this server started. Such a pull has already been counted and logged by the
    previous server process.
    """
    fresh: bool = False
    """True if the pull started after the node's previous report. In that case, the agent observed the entire download.
    """
    learned_at: float | None = None
    """When the server received the report that the pull had ended."""
    arrival_id: str = ""
    """The id of the pull's arrival, set by ``correlation``."""
    supposed: str = ""
    """The image that the pull is presumably fetching, until the agent reports the full name."""
    supposed_guessed: bool = False
    """True if the name in ``supposed`` is a guess."""
    released: bool = False
    """True if this pull's lease seems to belong to an attempt that, according to the kubelet, has ended."""
    repeats: bool = False
    """True if the kubelet started this pull for another pod that is waiting for the same image. A repeated pull has no
    row of its own in the list.
    """
    superseded: bool = False
    """True if a later attempt has replaced this pull in its arrival, or if this is a repeated pull that has ended."""
    best_percent: float = 0.0
    sums: Sums = field(default_factory=Sums)
    """The pull's byte and layer counts, summed over its layers."""
    phases: dict[PullPhase, float] = field(default_factory=dict)
    """The number of seconds spent in each completed phase."""
    speed: Speed = field(init=False)
    """The combined download speed of the layers that this pull fetches itself."""
    arriving: Speed = field(init=False)
    """The combined download speed of all layers, including the layers that another pull is fetching. If no layer is
    being fetched by another pull, ``speed`` and ``arriving`` are the same object.
    """
    layer_speeds: dict[str, Speed] = field(default_factory=dict)
    published_layers: dict[str, tuple[LayerState, LayerStatus]] = field(default_factory=dict)
    """The layers as they were last published. A layer's status is reused until the layer's state changes. The
    ``status`` module updates this dictionary.
    """
    published_as: str = ""
    """The arrival id that is part of the statuses in ``published_layers``."""
    verdict: Verdict = field(default_factory=Verdict)
    """The factors that have limited the pull so far."""
    usual: tuple[tuple[str, int | None], Estimate | None] | None = None
    """The image name and size for which the usual duration was last estimated, and the resulting estimate."""
    usual_due: float = 0.0
    """The time at which to estimate the usual duration again if no similar pull was known."""
    recorded: bool = False
    """True if the pull's duration has been recorded for future estimates."""
    seen_at: float | None = None
    """When the agent last reported the pull."""
    _phase_since: float = 0.0

    def __post_init__(self) -> None:
        self._phase_since = self.started_at

    def update(self, state: PullState, now: float) -> tuple[int, int]:
        """Process the latest state that the agent reported.

        Return how many bytes the pull itself has fetched since the previous state, and how many a snapshotter has
        fetched at an unknown time.
        """
        first = self.seen_at is None
        changed = self._take_layers(None if first else self.state.layers, state.layers)
        self.state = state
        came = untimed = own = other = 0
        since = self.seen_at or now
        # `whole` is true if all downloaded bytes of a newly reported layer arrived after the previous report. This is
        # the case if the agent observed the whole download, or if earlier reports listed layers of the pull but not
        # this one. (Bytes that were on the node before the pull are reported as cached.)
        whole = self.fresh or (bool(self.layer_speeds) and not self.node.go_agent)
        if first:
            self.speed = self.arriving = Speed(0, now)
        for layer in changed:
            speed = self.layer_speeds.get(layer.digest)
            if speed is None:
                baseline = 0 if whole and not first else layer.downloaded_bytes
                speed = self.layer_speeds[layer.digest] = Speed(baseline, since)
                grown = speed.saw(layer.downloaded_bytes, now)
                counted = layer.downloaded_bytes if whole else 0
            else:
                grown = counted = speed.saw(layer.downloaded_bytes, now, since)
            if layer.fetched_by == SNAPSHOTTER:
                # If a snapshotter fetches a layer, all of its bytes are counted when the layer is complete. The layer's
                # speed is therefore unknown.
                untimed += counted
            elif layer.fetched_by:
                other += grown
            else:
                own += grown
                came += counted
        self.seen_at = now
        if len(self.layer_speeds) > len(state.layers or ()):
            reported = {layer.digest for layer in state.layers or ()}
            self.layer_speeds = {digest: speed for digest, speed in self.layer_speeds.items() if digest in reported}
        if other and self.arriving is self.speed:
            self.arriving = self.speed.copy()
        if self.arriving is not self.speed:
            self.arriving.saw(self.arriving.total + own + other, now)
        self.speed.saw(self.speed.total + own, now)
        return came, untimed

    def _take_layers(self, before: list[LayerState] | None, after: list[LayerState] | None) -> list[LayerState]:
        """Return the changed layers, and update the sums.

        Keep the existing objects for unchanged layers, so that later identity comparisons detect that nothing has
        changed.
        """
        if not before or not after or len(before) != len(after):
            self.sums = Sums.of(after or ())
            return after or []
        changed = []
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            if new == old:
                after[index] = old
            else:
                self.sums.replace(old, new)
                changed.append(new)
        return changed

    @property
    def unpacking_at(self) -> float | None:
        """Return the arrival time of the last byte, or None while any bytes are missing."""
        if self.phase is PullPhase.EXTRACTING:
            return self._phase_since
        if self.phase is PullPhase.COMPLETED and self.ended_at is not None:
            return self.ended_at - self.phases.get(PullPhase.EXTRACTING, 0.0)
        return None

    def bytes_per_second(self, now: float) -> float:
        """Return the download speed of the layers that the pull itself fetches, or zero if the pull is not
        downloading.
        """
        return self.speed.rate(now) if self.phase is PullPhase.DOWNLOADING else 0.0

    def enter(self, phase: PullPhase, at: float) -> None:
        """Record a change of phase."""
        if phase is not self.phase:
            self.phases[self.phase] = self.phases.get(self.phase, 0.0) + max(at - self._phase_since, 0.0)
            self._phase_since = at
            self.phase = phase

    def end(self, phase: PullPhase, at: float, now: float, error: str | None, reason: ErrorReason | None) -> None:
        """End the attempt at ``at``, but not before its start. The server learned of the end at ``now``."""
        self.learned_at = now
        self.enter(phase, max(at, self.started_at))
        self.ended_at = max(at, self.started_at)
        self.error = error
        self.reason = (reason or ErrorReason.UNKNOWN) if phase is PullPhase.FAILED else None
        self.layer_speeds, self.published_layers = {}, {}
        self.speed = self.arriving = _STILL

    def intervals(self) -> list[Interval]:
        """Return the phases of a finished attempt, last phase first. Each phase begins when the previous one ends."""
        found: list[Interval] = []
        end = self.ended_at or self.started_at
        for phase in (PullPhase.EXTRACTING, PullPhase.DOWNLOADING, PullPhase.RESOLVING):
            start = max(end - self.phases.get(phase, 0.0), self.started_at)
            if start < end:
                found.append((phase, start, end))
            end = start
        queued = self.phases.get(PullPhase.QUEUED, 0.0)
        if queued >= QUEUED_LEAST:
            found.append((PullPhase.QUEUED, self.started_at - queued, self.started_at))
        return found

    def settle(self) -> None:
        """Drop the layers, because the pull will not be published again."""
        self.state = structs.replace(self.state, layers=None)
        self.sums = Sums()
        self.verdict = _SETTLED

    @property
    def is_only_lease(self) -> bool:
        """Return whether the lease is all that is known about the pull. The lease may belong to a container rather than
        a pull.
        """
        state = self.state
        if self.phase is PullPhase.COMPLETED:
            return False
        return state.image_ref in ("", UNKNOWN_IMAGE) and not (state.layers or state.manifest_digest or state.imported)

    @property
    def has_fetched(self) -> bool:
        """Return whether the pull downloaded any bytes itself."""
        return any(layer.downloaded_bytes and not layer.fetched_by for layer in self.state.layers or ())

    def succeed(self) -> None:
        """Turn a failure into a success: the kubelet has the image, so every byte must have been downloaded."""
        self.phase, self.error, self.reason = PullPhase.COMPLETED, None, None
        if self.state.layers:
            self.state = structs.replace(self.state, layers=[_arrived(layer) for layer in self.state.layers])
            self.sums = Sums.of(self.state.layers or ())

    def revive(self, now: float) -> None:
        """Mark the ended pull as running again. The pull is no longer ``fresh``, because the agent may have missed some
        downloaded bytes.
        """
        self.ended_at = self.learned_at = self.error = self.reason = self.seen_at = None
        self.presumed = self.fresh = False
        if self.superseded:
            self.superseded, self.arrival_id = False, ""
        self._phase_since = now


@dataclass(slots=True, eq=False)
class Node:
    """One node as reported by its agent."""

    name: str
    last_seen: float
    whole_at: float
    """The time of the last report that listed all of the node's pulls. A pull that started after this time cannot have
    been in that report or in an earlier one.
    """
    last_report: float = 0.0
    """When the node's last report was accepted."""
    state: NodeState = NodeState.REPORTING
    heartbeat: float = DEFAULT_HEARTBEAT
    agents: Agents = field(default_factory=Agents)
    clock: Clock = field(default_factory=Clock)
    agent_version: str = ""
    containerd_version: str = ""
    snapshotter: str = ""
    active: dict[str, Pull] = field(default_factory=dict)
    ended: OrderedDict[str, Pull] = field(default_factory=OrderedDict)
    unpacking: Unpacking = field(default_factory=Unpacking)
    live_bytes: int = 0
    history_bytes: int = 0
    fleet_unpacking: Unpacking = field(default_factory=Unpacking)
    """The unpacking speed across all nodes that use the same snapshotter."""
    load: NodeLoad | None = None
    """The node's load at its last report."""
    go_agent: bool = False

    def arrival_of(self, key: str) -> str:
        """Return the id under which the server published a pull on this node.

        If the server has not published the pull yet, return ``key``, the agent's id for the pull.
        """
        pull = self.active.get(key) or self.ended.get(key)
        return pull.arrival_id if pull and pull.arrival_id else key

    def load_at(self, now: float) -> NodeLoad | None:
        """Return the node's load, or None if it is currently unknown."""
        return self.load if now - self.last_seen <= LOAD_AGE else None

    def lately(self, seconds: float, now: float) -> Iterator[Pull]:
        """Yield the running pulls, and the pulls whose end was reported in the last ``seconds`` seconds."""
        yield from self.active.values()
        for pull in reversed(self.ended.values()):
            if pull.learned_at is None or now - pull.learned_at > seconds:
                break
            yield pull

    @property
    def late_after(self) -> float:
        """Return how many seconds a node can go without a report before it counts as late."""
        return 3 * self.heartbeat

    @property
    def lost_after(self) -> float:
        """Return how many seconds a node can go without a report before its pulls count as ended."""
        return max(LOST_AFTER, 2 * self.late_after)


def _arrived(layer: LayerState) -> LayerState:
    if layer.state in (LayerPhase.CACHED, LayerPhase.REMOTE):
        return layer
    came = max(layer.total_bytes - layer.cached_bytes, layer.downloaded_bytes)
    return structs.replace(layer, downloaded_bytes=came, state=LayerPhase.EXTRACTED)
