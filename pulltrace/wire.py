"""All that crosses a boundary: reports from agents, and what the server tells the world.

Each class is one JSON object of ``docs/api.md``: camelCase, RFC 3339 UTC times, bytes as integers, rates in bytes
per second, durations in seconds. Fields with a default are left out of the JSON while they hold it. ``msgspec``
decodes straight into these classes, names the path of a field that does not fit (``$.pulls[0].layers[2].digest``)
and ignores fields it does not know, so that old servers read new agents.

Agent → server: ``AgentReport`` holds ``PullState`` holds ``LayerState``; the answer is a ``ReportResponse``.
Server → world: ``PullEvent`` holds ``PullStatus`` holds ``LayerStatus`` and ``PodCorrelation``; a pull ends its days in
a ``PullRemovedEvent``.
"""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

SCHEMA_VERSION = "v1"

MAX_REPORT = 1 << 20
"""Bytes of a report, inflated; of a larger one nothing is read."""

MAX_PULLS = 256
"""Live pulls of one node that are told; a kubelet has some ten at once."""

MAX_LAYERS = 512
"""Layers of one pull that are told; overlayfs ends at 500, Docker at 127."""

UNKNOWN_IMAGE = "__pulling__"
"""Stands for an image reference while nothing at all is known of it; the original's word."""

NODE_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""A Kubernetes node's name: a DNS-1123 subdomain. Use with ``fullmatch``."""

Bytes = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Text = Annotated[str, Meta(max_length=4096)]
Time = Annotated[datetime, Meta(tz=True)]


def to_time(seconds: float) -> datetime:
    """Unix seconds, as the thinking parts count time, to the aware UTC datetime of the wire (to the millisecond)."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)


class LayerPhase(StrEnum):
    """What a node does with one layer; the evidence for each stands in ``agent/attribution``."""

    CACHED = "cached"
    WAITING = "waiting"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    EXTRACTING = "extracting"
    EXTRACTED = "extracted"
    FAILED = "failed"


class PullPhase(StrEnum):
    """What a node does with one image, in the order in which it happens."""

    QUEUED = "queued"
    RESOLVING = "resolving"
    DOWNLOADING = "downloading"
    EXTRACTING = "extracting"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Nothing more happens in this attempt."""
        return self in (PullPhase.COMPLETED, PullPhase.FAILED)


class ErrorReason(StrEnum):
    """Why a pull failed, as a closed list, so that it can be a metric label."""

    NOT_FOUND = "not_found"
    UNAUTHORIZED = "unauthorized"
    RATE_LIMITED = "rate_limited"
    TIMEOUT = "timeout"
    NETWORK = "network"
    TLS = "tls"
    DISK_FULL = "disk_full"
    INVALID_REFERENCE = "invalid_reference"
    CANCELED = "canceled"
    SERVER_ERROR = "server_error"
    UNKNOWN = "unknown"


class EventType(StrEnum):
    """What happened to a pull."""

    STARTED = "pull.started"
    PROGRESS = "pull.progress"
    COMPLETED = "pull.completed"
    FAILED = "pull.failed"
    REMOVED = "pull.removed"


class NodeState(StrEnum):
    """Whether a node's agent is heard: in time, later than it promised, or not any more."""

    REPORTING = "reporting"
    LATE = "late"
    LOST = "lost"


class _Wire(Struct, rename="camel", frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One JSON object."""


# Agent → server. Everything the original's agent does not send has a default.


class LayerState(_Wire, frozen=True):
    """One layer of a pull, as the node has it.

    ``cached_bytes`` is what the node had before this pull: all of a cached layer, the offset of a resumed one.
    ``downloaded_bytes`` came since and never includes it. ``fetched_by`` names the other pull that is fetching (or
    fetched) this layer, so that nobody counts its bytes twice. Times are exact where containerd tells them
    (``completed_at``) and otherwise those of the poll that first saw the change.
    """

    digest: Text
    media_type: Text = ""
    total_bytes: Bytes = 0
    downloaded_bytes: Bytes = 0
    cached_bytes: Bytes = 0
    total_known: bool = False
    state: LayerPhase | None = None
    fetched_by: Text | None = None
    started_at: Time | None = None
    completed_at: Time | None = None
    extract_started_at: Time | None = None
    extracted_at: Time | None = None


class PullState(_Wire, frozen=True):
    """One pull of a node. ``id`` is containerd's lease id; the original's agent has none and sends ingest refs
    as ``image_ref``. ``total_known`` says that the manifest was read, so layers and sizes are exact."""

    image_ref: Text = UNKNOWN_IMAGE
    ref_guessed: bool = False
    layers: list[LayerState] | None = None
    started_at: Time | None = None
    total_known: bool = False
    id: Text = ""
    status: PullPhase | None = None
    registry: Text | None = None
    repository: Text | None = None
    manifest_digest: Text | None = None
    media_type: Text | None = None
    snapshotter: Text | None = None
    completed_at: Time | None = None
    error: Text | None = None
    error_reason: ErrorReason | None = None


class AgentReport(_Wire, frozen=True):
    """What one node pulls now, and what it finished since the last acknowledged report.

    A live pull of which a report says nothing is over. ``others`` are the ids of those for which there was no room, or
    whose end a later report will tell: they are as they were. ``pulls: null`` says there is none (a heartbeat).
    ``boot_id`` changes with each start of the agent and ``sequence`` grows by one with each report of a boot, so that
    late ones are known.
    ``heartbeat_seconds`` is how long the server may wait for the next report before it calls the node late.
    """

    node_name: str
    timestamp: Time | None = None
    pulls: list[PullState] | None = None
    others: list[Text] | None = None
    agent_version: Text = ""
    containerd_version: Text = ""
    snapshotter: Text = ""
    boot_id: Text = ""
    sequence: Count = 0
    heartbeat_seconds: float = 0.0


class ReportResponse(_Wire, frozen=True):
    """The server's answer to a report. A new ``boot_id`` tells the agent that the server has forgotten everything."""

    boot_id: str


# Server → world. Fields of the original are always present; what may be missing has a default.


class LayerStatus(_Wire, frozen=True):
    """One layer of a pull, in manifest order. ``percent`` is of the bytes this pull has to fetch."""

    pull_id: str
    digest: str
    media_type: str
    total_bytes: int
    downloaded_bytes: int
    bytes_per_sec: float
    percent: float
    total_known: bool
    state: LayerPhase | None = None
    cached_bytes: int = 0
    fetched_by: str | None = None
    started_at: Time | None = None
    completed_at: Time | None = None
    extract_started_at: Time | None = None
    extracted_at: Time | None = None


class PodCorrelation(_Wire, frozen=True):
    """A container that waits for an image; ``image`` as written in the pod, ``owner`` like ``Deployment/web``."""

    namespace: str
    pod_name: str
    container: str
    image: str
    uid: str = ""
    owner: str | None = None
    waiting_reason: str | None = None


class PullStatus(_Wire, frozen=True):
    """One image arriving on one node, with everything known about it.

    ``total_bytes`` is what the pull has to fetch: the image's compressed layers (``image_bytes``) less what the node
    had (``cached_bytes``). ``percent`` is ``downloaded_bytes`` of it, 0 to 100, 100 for a cached image, and never goes
    back within one ``attempt``. ``eta_seconds`` is to *ready*, unpacking included, and absent without ground.
    ``ref_guessed`` says that the tag in ``image_ref`` is inferred, ``next_retry_at`` is always an estimate.
    """

    id: str
    node_name: str
    image_ref: str
    total_bytes: int
    downloaded_bytes: int
    bytes_per_sec: float
    percent: float
    layer_count: int
    layers_done: int
    started_at: Time
    total_known: bool
    status: PullPhase
    image_bytes: int
    cached_bytes: int
    extracted_bytes: int
    layers_cached: int
    layers_extracted: int
    attempt: int
    eta_seconds: float | None = None
    completed_at: Time | None = None
    error: str | None = None
    error_reason: ErrorReason | None = None
    next_retry_at: Time | None = None
    pods: list[PodCorrelation] | None = None
    layers: list[LayerStatus] | None = None
    stalled_since: Time | None = None
    ref_guessed: bool = False
    registry: str | None = None
    repository: str | None = None
    manifest_digest: str | None = None
    media_type: str | None = None
    snapshotter: str | None = None


class RemovedPull(_Wire, frozen=True):
    """All that is left of a pull whose time is over."""

    id: str


class PullEvent(_Wire, frozen=True):
    """One change, as the stream tells it."""

    timestamp: Time
    type: EventType
    node_name: str
    pull: PullStatus
    schema_version: str


class PullRemovedEvent(_Wire, frozen=True):
    """The last event of a pull: its time is over, or it was never what it seemed."""

    timestamp: Time
    type: EventType
    node_name: str
    pull: RemovedPull
    schema_version: str


class Hello(_Wire, frozen=True):
    """First event of a stream: which server this is, and what time it has."""

    version: str
    boot_id: str
    time: Time
    revision: int


class PullList(_Wire, frozen=True):
    """Answer of ``GET /api/v1/pulls``."""

    pulls: list[PullStatus]


class NodeStatus(_Wire, frozen=True):
    """One node as its agent's reports show it."""

    name: str
    state: NodeState
    last_seen: Time
    active_pulls: int
    bytes_per_sec: float
    agent_version: str = ""
    containerd_version: str = ""
    snapshotter: str = ""


class RegistryStatus(_Wire, frozen=True):
    """One registry as all nodes together see it."""

    registry: str
    active_pulls: int
    bytes_per_sec: float


class NodeList(_Wire, frozen=True):
    """Answer of ``GET /api/v1/nodes``."""

    nodes: list[NodeStatus]
    registries: list[RegistryStatus]


class WaitState(StrEnum):
    """How far a waiting container's image has come: its pull's phase, or waiting, when nobody has asked for it yet."""

    WAITING = "waiting"
    QUEUED = "queued"
    RESOLVING = "resolving"
    DOWNLOADING = "downloading"
    EXTRACTING = "extracting"
    COMPLETED = "completed"
    FAILED = "failed"


class ContainerWait(_Wire, frozen=True):
    """A container that does not run yet, or a volume made from an image that is not there.

    ``kind`` is init, app, ephemeral or volume, whose name is in ``container`` then. The rest is of its image's pull.
    """

    container: str
    image: str
    kind: str
    state: WaitState
    waiting_reason: str | None = None
    pull_id: str | None = None
    percent: float | None = None
    eta_seconds: float | None = None
    error: str | None = None
    error_reason: ErrorReason | None = None
    next_retry_at: Time | None = None


class PodWait(_Wire, frozen=True):
    """A pod that cannot start for want of an image, with all its containers that do not run yet, in their order.

    ``eta_seconds`` (and ``ready_estimate``, the same as a time) is the longest of its pulls, and absent while one of
    them has no estimate.
    """

    namespace: str
    pod_name: str
    node_name: str
    waiting_since: Time
    containers: list[ContainerWait]
    uid: str = ""
    owner: str | None = None
    eta_seconds: float | None = None
    ready_estimate: Time | None = None


class PodList(_Wire, frozen=True):
    """Answer of ``GET /api/v1/pods``. ``reason`` tells what keeps the server from seeing pods, or only events."""

    pods: list[PodWait]
    watching: bool
    reason: str | None = None


class RolloutNodes(_Wire, frozen=True):
    """How many nodes are how far with an image."""

    done: int
    pulling: int
    queued: int
    failed: int


class ImageRollout(_Wire, frozen=True):
    """One image over all nodes. Durations are of nodes that had to fetch something and are done.

    ``total_bytes`` is what all nodes together have to fetch, ``image_bytes`` the image's compressed size.
    """

    image_ref: str
    nodes: RolloutNodes
    total_bytes: int
    image_bytes: int
    registry: str | None = None
    repository: str | None = None
    slowest_node: str | None = None
    median_seconds: float | None = None
    worst_seconds: float | None = None


class ImageList(_Wire, frozen=True):
    """Answer of ``GET /api/v1/images``."""

    images: list[ImageRollout]
