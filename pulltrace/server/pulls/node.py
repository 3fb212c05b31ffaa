"""One node and its pulls, as its agent tells them. PURE."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeGuard

from msgspec import structs

from pulltrace.server.pulls.agents import Agents
from pulltrace.server.pulls.rates import Speed, Unpacking
from pulltrace.server.pulls.usual import Estimate
from pulltrace.server.pulls.verdict import Verdict
from pulltrace.wire import (
    SNAPSHOTTER,
    ErrorReason,
    LayerPhase,
    LayerState,
    LayerStatus,
    NodeLoad,
    NodeState,
    PullPhase,
    PullState,
    to_time,
)

WHOLE_SECONDS = 2.0
"""Kubelets report times in whole seconds: two times that are no further apart may be one moment."""

REPORT_LATE = 8.0
"""Seconds by which a report may be late. A pull that is reported live later than that does live."""

DEFAULT_HEARTBEAT = 10.0
LOST_AFTER = 60.0
SKEW_TOLERATED = 2.0
"""Seconds a node's clock may be off before its times are shifted: less is the way of the report."""
LATE_REPORTS = 8
"""So many reports in a row that seem this late are not late: the node's clock was set back."""
LOAD_AGE = 6.0
"""Seconds for which a node's load is valid: reports of a pulling node arrive every second."""
OLDEST = 7 * 24 * 3600.0
"""No pull began longer ago: containerd's leases end after a day. What says otherwise is a broken clock."""


_STILL = Speed(0, 0.0)
"""Of a pull that has ended; one that comes back to life begins to count anew."""
_SETTLED = Verdict()
"""Of a pull whose final verdict is published."""


@dataclass(slots=True, eq=False)
class Pull:
    """One attempt of one node to get one image: a lease of its containerd. Times in unix seconds, server's clock."""

    key: str
    """Unique on its node; the agent's id where it has one."""
    node: "Node"
    state: PullState
    started_at: float
    phase: PullPhase = PullPhase.RESOLVING
    ended_at: float | None = None
    error: str | None = None
    reason: ErrorReason | None = None
    boot: str = ""
    """The boot id of the agent that reports it."""
    weight: int = 0
    """As the function ``weight`` counted its newest state."""
    presumed: bool = False
    """The end is our conclusion; the agent may still correct it."""
    history: bool = False
    """It had ended before this server first heard of it: counted and logged by the one before."""
    fresh: bool = False
    """It began after its node's last report, so every byte of it came while we watched."""
    learned_at: float | None = None
    """When we learned of the end."""
    arrival_id: str = ""
    """The story it belongs to: ``correlation``'s."""
    supposed: str = ""
    """The image that it was found to be, as long as the agent does not report the full name."""
    supposed_guessed: bool = False
    """``supposed`` is a guess."""
    superseded: bool = False
    """A later attempt has continued its story."""
    best_percent: float = 0.0
    phases: dict[PullPhase, float] = field(default_factory=dict)
    """Seconds spent in each phase that is over."""
    speed: Speed = field(init=False)
    """Of what this pull fetches itself."""
    arriving: Speed = field(init=False)
    """Of all that comes, layers that another pull fetches included."""
    layer_speeds: dict[str, Speed] = field(default_factory=dict)
    published_layers: dict[str, tuple[LayerState, LayerStatus]] = field(default_factory=dict)
    """Layers that stood still when they were last told, and how; ``status`` keeps them."""
    verdict: Verdict = field(default_factory=Verdict)
    """What has limited it so far."""
    usual: tuple[tuple[str, int | None], Estimate | None] | None = None
    """How long such a pull usually takes, and the name and size that this was looked up with."""
    recorded: bool = False
    """Its duration has been added to what is usual."""
    seen_at: float | None = None
    """When its agent last told of it."""
    _phase_since: float = 0.0

    def __post_init__(self) -> None:
        self._phase_since = self.started_at

    def update(self, state: PullState, now: float) -> int:
        """Take the newest state; answer the bytes this pull itself fetched since the last one."""
        self.state = state
        came = own = other = 0
        first = self.seen_at is None
        since = self.seen_at or now
        # A layer that we first see later than its pull came since, whole; what it had before are its cached bytes.
        whole = self.fresh or (bool(self.layer_speeds) and not self.node.legacy)
        if first:
            self.speed, self.arriving = Speed(0, now), Speed(0, now)
        for layer in state.layers or ():
            speed = self.layer_speeds.get(layer.digest)
            if speed is None:
                baseline = 0 if whole and not first else layer.downloaded_bytes
                speed = self.layer_speeds[layer.digest] = Speed(baseline, since)
                grown = speed.saw(layer.downloaded_bytes, now)
                counted = layer.downloaded_bytes if whole else 0
            else:
                grown = counted = speed.saw(layer.downloaded_bytes, now)
            if layer.fetched_by == SNAPSHOTTER:
                # It is counted when it is complete, which is no measure of the speed.
                came += counted
            elif layer.fetched_by:
                other += grown
            else:
                own += grown
                came += counted
        self.seen_at = now
        if len(self.layer_speeds) > len(state.layers or ()):
            told = {layer.digest for layer in state.layers or ()}
            self.layer_speeds = {digest: speed for digest, speed in self.layer_speeds.items() if digest in told}
        self.speed.saw(self.speed.total + own, now)
        self.arriving.saw(self.arriving.total + own + other, now)
        return came

    @property
    def unpacking_at(self) -> float | None:
        """When every byte had arrived; None before that."""
        if self.phase is PullPhase.EXTRACTING:
            return self._phase_since
        if self.phase is PullPhase.COMPLETED and self.ended_at is not None:
            return self.ended_at - self.phases.get(PullPhase.EXTRACTING, 0.0)
        return None

    def bytes_per_second(self, now: float) -> float:
        """What it fetches itself; nothing when every byte is here or it has ended."""
        return self.speed.rate(now) if self.phase is PullPhase.DOWNLOADING else 0.0

    def enter(self, phase: PullPhase, at: float) -> None:
        """Note the change of phase."""
        if phase is not self.phase:
            self.phases[self.phase] = self.phases.get(self.phase, 0.0) + max(at - self._phase_since, 0.0)
            self._phase_since = at
            self.phase = phase

    def end(self, phase: PullPhase, at: float, now: float, error: str | None, reason: ErrorReason | None) -> float:
        """The attempt was over at ``at``; ``now`` we know. Answers when it ended, never before it began."""
        self.learned_at = now
        self.enter(phase, max(at, self.started_at))
        self.ended_at = max(at, self.started_at)
        self.error = error
        self.reason = (reason or ErrorReason.UNKNOWN) if phase is PullPhase.FAILED else None
        self.layer_speeds, self.published_layers = {}, {}
        self.speed = self.arriving = _STILL
        return self.ended_at

    def settle(self) -> None:
        """Nothing more will be told of it: let go of what that would be made from."""
        self.state = structs.replace(self.state, layers=None)
        self.verdict = _SETTLED

    @property
    def has_fetched(self) -> bool:
        """It downloaded bytes itself."""
        return any(layer.downloaded_bytes and not layer.fetched_by for layer in self.state.layers or ())

    def succeed(self, at: float) -> None:
        """Correct a failure: the kubelet had the image at ``at``, so every byte was downloaded."""
        self.phase, self.ended_at = PullPhase.COMPLETED, max(at, self.started_at)
        self.error = self.reason = None
        if self.state.layers:
            self.state = structs.replace(self.state, layers=[_arrived(layer) for layer in self.state.layers])

    def revive(self, now: float) -> None:
        """It had not ended after all. Nobody saw what came in between."""
        self.ended_at = self.learned_at = self.error = self.reason = self.seen_at = None
        self.presumed = self.fresh = False
        if self.superseded:
            self.superseded, self.arrival_id = False, ""
        self._phase_since = now


WEIGHT_OF_PULL, WEIGHT_OF_LAYER = 1024, 1024
"""Bytes of memory that a pull and each of its layers are counted as, besides their texts."""


def weight(state: PullState) -> int:
    """Return how many bytes of memory a pull is counted as: a fixed part, one for each layer, and the texts."""
    texts = (state.image_ref, state.id, state.manifest_digest, state.media_type, state.error, *(state.via or ()))
    layers = state.layers or ()
    layer_texts = sum(len(layer.digest) + len(layer.media_type) + len(layer.fetched_by or "") for layer in layers)
    return WEIGHT_OF_PULL + sum(len(text) for text in texts if text) + WEIGHT_OF_LAYER * len(layers) + layer_texts


@dataclass(slots=True, eq=False)
class Node:
    """One node as its agent shows it."""

    name: str
    last_seen: float
    whole_at: float
    """When it last told all its pulls, and none had to wait. What began since was never told."""
    last_report: float = 0.0
    """When a report of it was last let in."""
    state: NodeState = NodeState.REPORTING
    heartbeat: float = DEFAULT_HEARTBEAT
    agents: Agents = field(default_factory=Agents)
    skew: float | None = None
    """How far the node's clock is ahead, seconds; None until it told its time."""
    late_reports: int = 0
    """How many reports in a row seemed late by that."""
    agent_version: str = ""
    containerd_version: str = ""
    snapshotter: str = ""
    active: dict[str, Pull] = field(default_factory=dict)
    ended: OrderedDict[str, Pull] = field(default_factory=OrderedDict)
    unpacking: Unpacking = field(default_factory=Unpacking)
    live_bytes: int = 0
    history_bytes: int = 0
    fleet_unpacking: Unpacking = field(default_factory=Unpacking)
    """That of all nodes with the same snapshotter."""
    load: NodeLoad | None = None
    """How busy the node was, as of its last report."""
    legacy: bool = False

    def arrival_of(self, key: str) -> str:
        """The id under which people know another pull of this node; the agent's own where nobody does."""
        pull = self.active.get(key) or self.ended.get(key)
        return pull.arrival_id if pull and pull.arrival_id else key

    def load_at(self, now: float) -> NodeLoad | None:
        """Return how busy the node is, None if that is not known for this moment."""
        return self.load if now - self.last_seen <= LOAD_AGE else None

    def lately(self, seconds: float, now: float) -> Iterator[Pull]:
        """What runs, and what we learned to have ended in the last so many seconds."""
        yield from self.active.values()
        for pull in reversed(self.ended.values()):
            if pull.learned_at is None or now - pull.learned_at > seconds:
                break
            yield pull

    def set_clock(self, skew: float) -> None:
        """A report of this node was made at a time by its clock that is so far ahead of now.

        One that was long under way looks like a clock that is behind, and is not believed unless many do.
        """
        behind = self.skew is not None and skew < self.skew - SKEW_TOLERATED
        self.late_reports = self.late_reports + 1 if behind else 0
        if behind and self.late_reports < LATE_REPORTS:
            return
        if self.skew is None or abs(skew - self.skew) > SKEW_TOLERATED:  # steady otherwise: times must not creep
            self.skew = skew if abs(skew) > SKEW_TOLERATED else 0.0

    def clock(self, time: datetime | None, now: float) -> float:
        """A time of this node in the server's time; ``now`` when it tells none that can be."""
        if not is_told(time):
            return now
        seconds = time.timestamp() - (self.skew or 0.0)
        return min(seconds, now) if seconds > now - OLDEST else now

    def wire_time(self, time: datetime | None, now: float) -> datetime | None:
        """The same, from wire to wire; nothing is computed for a node whose clock is right."""
        if not is_told(time):
            return None
        if not self.skew and time.tzinfo is UTC:
            return time
        return to_time(self.clock(time, now))

    @property
    def late_after(self) -> float:
        """Seconds of silence after which the node is late."""
        return 3 * self.heartbeat

    @property
    def lost_after(self) -> float:
        """Seconds of silence after which nobody believes in its pulls any more."""
        return max(LOST_AFTER, 2 * self.late_after)


def _arrived(layer: LayerState) -> LayerState:
    if layer.state in (LayerPhase.CACHED, LayerPhase.REMOTE):
        return layer
    came = max(layer.total_bytes - layer.cached_bytes, layer.downloaded_bytes)
    return structs.replace(layer, downloaded_bytes=came, state=LayerPhase.EXTRACTED)


def is_told(time: datetime | None) -> TypeGuard[datetime]:
    """Go writes the year 1 for a time that is not set."""
    return time is not None and time.year >= 1970
