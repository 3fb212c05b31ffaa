"""Every JSON object that crosses a process boundary: the agents' reports, and the server's responses and events.

Each class is one JSON object in ``docs/api.md``. Names are in camelCase, times are RFC 3339 in UTC, bytes are integers,
rates are bytes per second, and durations are seconds. A field that has its default value is left out of the JSON.
``msgspec`` decodes directly into these classes. It names the path of an invalid field (``$.pulls[0].layers[2].digest``)
and ignores unknown fields, so an old server can read the reports of a new agent. Sans-I/O.

Agent → server: an ``AgentReport`` contains ``PullState`` objects, which contain ``LayerState`` objects. The response is
a ``ReportResponse``. Server → clients: a ``PullEvent`` contains a ``PullStatus``, which contains ``LayerStatus`` and
``PodCorrelation`` objects. The last event of a pull is a ``PullRemovedEvent``.
"""

import re
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Annotated

from msgspec import Meta, Struct

SCHEMA_VERSION = "v1"

MAX_REPORT = 1 << 20
"""Maximum size of a decompressed report in bytes. A larger report is rejected."""

MAX_PULLS = 256
"""Maximum number of live pulls per node. A kubelet usually runs about ten at once."""

MAX_LAYERS = 512
"""Maximum number of layers per pull. overlayfs allows 500, Docker 127."""

MAX_ERROR = 2048
"""Maximum number of characters of an error message."""

UNKNOWN_IMAGE = "__pulling__"
"""The image reference of a pull until something is known about its image, as in Pulltrace v0.1.0."""

SNAPSHOTTER = "snapshotter"
"""The value of ``fetched_by`` for a layer that the node's snapshotter fetches, whose bytes therefore cannot be
observed.
"""

GUEST = "guest"
"""The value of ``fetched_by`` for a layer that a virtual machine downloads itself, after the pull has ended."""

NODE_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""Matches the name of a Kubernetes node, a DNS-1123 subdomain. Use it with ``fullmatch``."""

Bytes = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Text = Annotated[str, Meta(max_length=512)]
Digest = Annotated[str, Meta(max_length=200)]
MediaType = Annotated[str, Meta(max_length=256)]
ErrorText = Annotated[str, Meta(max_length=MAX_ERROR)]
Time = Annotated[datetime, Meta(tz=True)]


_LAST_SECOND = 253402300799.0  # the end of the year 9999


def to_time(seconds: float) -> datetime:
    """Convert Unix seconds, which both halves use internally, to the UTC datetime of the wire format, rounded to
    milliseconds.
    """
    return datetime.fromtimestamp(round(min(max(seconds, 0.0), _LAST_SECOND), 3), UTC)


class LayerPhase(StrEnum):
    """The state of one layer on a node. ``agent/layers`` derives it from containerd's data."""

    CACHED = "cached"
    WAITING = "waiting"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    EXTRACTING = "extracting"
    EXTRACTED = "extracted"
    REMOTE = "remote"
    FAILED = "failed"


class PullPhase(StrEnum):
    """The state of one pull on a node, in the usual order."""

    QUEUED = "queued"
    UNOBSERVED = "unobserved"
    RESOLVING = "resolving"
    DOWNLOADING = "downloading"
    EXTRACTING = "extracting"
    COMPLETED = "completed"
    FAILED = "failed"

    @cached_property
    def ended(self) -> bool:
        """Whether this attempt has ended."""
        return self in (PullPhase.COMPLETED, PullPhase.FAILED)


class PercentBasis(StrEnum):
    """What a percentage is based on: every byte as it arrives, or only complete layers."""

    BYTES = "bytes"
    LAYERS = "layers"


class ErrorReason(StrEnum):
    """The reason for a failed pull. The set of reasons is fixed, so that it can be a metric label."""

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


class Factor(StrEnum):
    """The factor that limits a pull. ``docs/verdicts.md`` describes the rule for each."""

    REGISTRY = "registry"
    MIRROR = "mirror"
    NETWORK = "network"
    DISK = "disk"
    CPU = "cpu"
    QUEUE = "queue"
    SLOTS = "slots"
    LAYER = "layer"
    RATE_LIMIT = "rate_limit"
    SNAPSHOTTER = "snapshotter"
    UNKNOWN = "unknown"


class EventType(StrEnum):
    """The kind of change that an event reports."""

    STARTED = "pull.started"
    PROGRESS = "pull.progress"
    COMPLETED = "pull.completed"
    FAILED = "pull.failed"
    REMOVED = "pull.removed"


class NodeState(StrEnum):
    """Whether a node's agent reports in time, is late, or has stopped reporting."""

    REPORTING = "reporting"
    LATE = "late"
    LOST = "lost"
    CONFLICT = "conflict"


class _Wire(Struct, rename="camel", frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base class: one JSON object."""


# Agent → server. Every field that the agent of Pulltrace v0.1.0 does not send has a default.


class LayerState(_Wire, frozen=True):
    """One layer of a pull, as the agent observed it.

    ``cached_bytes`` were on the node before this pull began: all bytes of a cached layer, or the offset of a resumed
    download. ``downloaded_bytes`` have been downloaded since then. ``fetched_by`` names the pull that fetches this
    layer, if it is another one, so that its bytes are counted only once. It is ``snapshotter`` if the snapshotter
    fetches the layer, whose bytes are then counted when it is complete, and ``guest`` if a virtual machine will fetch
    it. The snapshotter serves a layer in state ``remote`` without fetching it first. A time is exact if containerd
    records it (``completed_at``). Otherwise it is the time of the first poll that observed the change.
    """

    digest: Digest
    media_type: MediaType = ""
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
    """One pull on one node.

    ``id`` is the id of containerd's lease. The agent of Pulltrace v0.1.0 sends no id, and ingest refs as ``image_ref``.
    ``total_known`` is true once the manifest has been read; from then on, layers and sizes are exact. ``imported`` is
    true if the content comes from an archive (``ctr image import``), not from a registry.
    """

    image_ref: Text = UNKNOWN_IMAGE
    ref_guessed: bool = False
    layers: list[LayerState] | None = None
    started_at: Time | None = None
    total_known: bool = False
    id: Text = ""
    status: PullPhase | None = None
    registry: Text | None = None
    repository: Text | None = None
    manifest_digest: Digest | None = None
    media_type: MediaType | None = None
    snapshotter: Text | None = None
    completed_at: Time | None = None
    error: ErrorText | None = None
    error_reason: ErrorReason | None = None
    imported: bool = False
    via: Annotated[list[Text], Meta(max_length=16)] | None = None


class NodeLoad(_Wire, frozen=True):
    """How busy a node was over the last ``seconds``, measured only while it pulls. A missing figure is unknown.

    Pressures are the percentage of time in which at least one task waited for I/O, the CPU or memory
    (``/proc/pressure``). The disk is the node's busiest one (``/proc/diskstats``).
    """

    seconds: float
    io_pressure: float | None = None
    cpu_pressure: float | None = None
    memory_pressure: float | None = None
    disk: Text = ""
    disk_busy: float | None = None
    disk_read_per_sec: float | None = None
    disk_written_per_sec: float | None = None


class AgentReport(_Wire, frozen=True):
    """The live pulls of one node, and the pulls that ended since the last acknowledged report.

    The server closes a live pull that a report no longer lists. ``others`` lists the ids of live pulls that are
    unchanged but did not fit into this report. ``pulls: null`` is a heartbeat: the node is pulling nothing. ``boot_id``
    changes at each start of the agent, and ``sequence`` increases by one with each report, so that the server can
    recognise reports that arrive late. ``heartbeat_seconds`` is the longest time until the next report; if none has
    arrived by then, the node counts as late.
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
    load: NodeLoad | None = None


class ReportResponse(_Wire, frozen=True):
    """The server's response to a report. A new ``boot_id`` means that the server has restarted and lost its state."""

    boot_id: str


# Server → clients. Fields that Pulltrace v0.1.0 sent are always present. A field that may be absent has a default.


class LayerStatus(_Wire, frozen=True):
    """One layer of a pull, in manifest order. ``percent`` refers to the bytes that this pull has to fetch."""

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
    """A container that waits for an image. ``image`` is the image as written in the pod; ``owner`` has the form
    ``Deployment/web``.
    """

    namespace: str
    pod_name: str
    container: str
    image: str
    uid: str = ""
    owner: str | None = None
    waiting_reason: str | None = None


class Bound(_Wire, frozen=True):
    """The factor that limits a pull, as one word and as a sentence.

    ``figures`` are the numbers in the sentence, by name.
    """

    by: Factor
    why: str
    figures: dict[str, float] = {}


class PullStatus(_Wire, frozen=True):
    """One pull of one image on one node.

    ``total_bytes`` is the number of bytes to fetch: the compressed layers (``image_bytes``) minus the bytes that were
    already on the node (``cached_bytes``) and those that are not fetched before the container starts
    (``remote_bytes``). ``percent`` is the share of it that has been downloaded, from 0 to 100. It is 100 for a cached
    image, and never decreases within one ``attempt``. ``percent_basis`` is ``layers`` if bytes are known only for
    complete layers. ``eta_seconds`` is the time until the image is ready, including unpacking; it is absent if there is
    no basis for an estimate. ``ref_guessed`` means that the tag in ``image_ref`` is a guess. ``next_retry_at`` is
    always an estimate. ``pods`` are the containers that are waiting now, ``waited`` those that waited earlier.
    ``eta_missing`` explains why a running pull has no estimate. The status ``unobserved`` means that the kubelet
    requested the image on a node whose agent does not report. ``usual_seconds`` is the median duration of earlier pulls
    like this one; ``slower_than_usual`` is the factor by which this one exceeds it, if it does. ``via`` are the mirrors
    that the node tries before ``registry``, in this order.
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
    imported: bool = False
    bound: Bound | None = None
    usual_seconds: float | None = None
    slower_than_usual: float | None = None
    via: list[str] | None = None
    waited: list[PodCorrelation] | None = None
    eta_missing: str | None = None
    remote_bytes: int = 0
    percent_basis: PercentBasis = PercentBasis.BYTES


class RemovedPull(_Wire, frozen=True):
    """The id of a pull that has been removed."""

    id: str


class PullEvent(_Wire, frozen=True):
    """One change of one pull, as published on the stream."""

    timestamp: Time
    type: EventType
    node_name: str
    pull: PullStatus
    schema_version: str


class PullRemovedEvent(_Wire, frozen=True):
    """The last event of a pull: it has expired, or its row was merged into another one."""

    timestamp: Time
    type: EventType
    node_name: str
    pull: RemovedPull
    schema_version: str


class Hello(_Wire, frozen=True):
    """The first event of a stream: the server's version, boot id and time."""

    version: str
    boot_id: str
    time: Time
    revision: int


class PullList(_Wire, frozen=True):
    """Response of ``GET /api/v1/pulls``."""

    pulls: list[PullStatus]


class NodeStatus(_Wire, frozen=True):
    """One node, as known from its agent's reports."""

    name: str
    state: NodeState
    last_seen: Time
    active_pulls: int
    bytes_per_sec: float
    agent_version: str = ""
    containerd_version: str = ""
    snapshotter: str = ""
    load: NodeLoad | None = None
    problem: str | None = None


class OwnerPulls(_Wire, frozen=True):
    """The pulls that one owner made from one registry in the last hour."""

    owner: str
    pulls: int


class RegistryStatus(_Wire, frozen=True):
    """One registry, with the pulls of all nodes combined.

    ``pulls_last_hour`` counts ended attempts, including those for which every layer was cached, because registries
    count these too. ``owners`` are the owners with the most pulls.
    """

    registry: str
    active_pulls: int
    bytes_per_sec: float
    pulls_last_hour: int = 0
    owners: list[OwnerPulls] | None = None


class UnobservedNodes(_Wire, frozen=True):
    """Nodes where pods wait for images but no agent reports. ``names`` contains at most one hundred of them."""

    count: int
    names: list[str]
    reason: str


class NodeList(_Wire, frozen=True):
    """Response of ``GET /api/v1/nodes``."""

    nodes: list[NodeStatus]
    registries: list[RegistryStatus]
    unobserved: list[UnobservedNodes] | None = None


class RegistryThroughput(_Wire, frozen=True):
    """Bytes per second from one registry, starting with the oldest step.

    ``other`` is the sum for registries beyond the limit.
    """

    registry: str
    bytes_per_sec: list[float]


class ThroughputList(_Wire, frozen=True):
    """Response of ``GET /api/v1/throughput``: the last ten minutes, in steps of ``step`` seconds, starting at
    ``since``.
    """

    since: Time
    step: float
    registries: list[RegistryThroughput]


class WaitState(StrEnum):
    """The phase of the pull that a container waits for, or ``waiting`` if the kubelet has not requested the image
    yet."""

    WAITING = "waiting"
    QUEUED = "queued"
    UNOBSERVED = "unobserved"
    RESOLVING = "resolving"
    DOWNLOADING = "downloading"
    EXTRACTING = "extracting"
    COMPLETED = "completed"
    FAILED = "failed"


class ContainerWait(_Wire, frozen=True):
    """A container that has not started, or an image volume whose image is missing.

    ``kind`` is init, app, ephemeral or volume. For a volume, ``container`` is the volume's name. The other fields
    describe the pull of its image.
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


class StartPhaseName(StrEnum):
    """The phases of a pod's start-up, in order. ``docs/kubernetes.md`` describes them."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    PULLING = "pulling"
    UNPACKING = "unpacking"
    CREATED = "created"
    STARTED = "started"


class StartPhase(_Wire, frozen=True):
    """The time that a pod spent in one phase of its start-up. ``seconds`` is missing while the phase is in progress."""

    phase: StartPhaseName
    started_at: Time
    seconds: float | None = None


class PodStart(_Wire, frozen=True):
    """A pod that started in the last half hour.

    Its phases add up to ``seconds``, the time from its scheduling until it was running.
    """

    namespace: str
    pod_name: str
    node_name: str
    scheduled_at: Time
    started_at: Time
    seconds: float
    phases: list[StartPhase]
    uid: str = ""
    owner: str | None = None


class PodWait(_Wire, frozen=True):
    """A pod that waits for at least one image, with all its containers that have not started, in pod order.

    ``eta_seconds`` is the longest remaining time of its pulls; ``ready_estimate`` is the same as a point in time. Both
    are missing if one of its pulls has no estimate.
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
    phases: list[StartPhase] | None = None


class PodList(_Wire, frozen=True):
    """Response of ``GET /api/v1/pods``. ``reason`` explains why the server cannot see pods or events.

    ``pods`` are waiting for an image; ``started`` are those that have started in the last half hour.
    """

    pods: list[PodWait]
    watching: bool
    reason: str | None = None
    started: list[PodStart] | None = None


class RolloutNodes(_Wire, frozen=True):
    """The number of nodes in each state of a rollout."""

    done: int
    pulling: int
    queued: int
    failed: int
    unobserved: int = 0


class ImageRollout(_Wire, frozen=True):
    """One image on all nodes. Durations include only completed pulls that fetched at least one byte.

    ``total_bytes`` is the number of bytes that all nodes together have to fetch, ``image_bytes`` the compressed size of
    the image.
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
    """Response of ``GET /api/v1/images``."""

    images: list[ImageRollout]
