"""The JSON objects of the stream: pulls, and the events that report their changes. Sans-I/O.

Each class corresponds to one JSON object in ``docs/api.md``, and follows the rules in ``pulltrace/wire.py``. A
``PullEvent`` contains a ``PullStatus``, which contains ``LayerStatus`` and ``PodCorrelation`` objects. The last event
of a pull is a ``PullRemovedEvent``. Fields that Pulltrace v0.1.0 sent are always present. A field that may be absent
has a default. ``responses`` contains the objects that clients request one at a time. Agents do not import these
modules. This saves half a mebibyte of memory on every node.
"""

from enum import StrEnum

from msgspec import field

from pulltrace.wire import ErrorReason, JsonObject, LayerPhase, PullPhase, Time

SCHEMA_VERSION = "v1"


class PercentBasis(StrEnum):
    """What a percentage is based on: every byte as it arrives, or only completed layers."""

    BYTES = "bytes"
    LAYERS = "layers"


class Factor(StrEnum):
    """The factor that limits a pull. ``docs/verdicts.md`` describes the rule for each factor."""

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


class UsualBasis(StrEnum):
    """The kind of earlier pulls that a pull's usual duration is based on."""

    IMAGE = "image"
    REPOSITORY = "repository"
    SIZE = "size"
    """Pulls of a similar size from this registry."""
    REGISTRY = "registry"
    """Pulls of other sizes from this registry."""
    NODE = "node"
    """Pulls from other registries on this node."""
    OTHER_NODES = "other_nodes"
    """Pulls on other nodes, because the speed of this node is not known."""


class EventType(StrEnum):
    """The kind of change that an event reports."""

    STARTED = "pull.started"
    PROGRESS = "pull.progress"
    COMPLETED = "pull.completed"
    FAILED = "pull.failed"
    REMOVED = "pull.removed"


class LayerStatus(JsonObject, frozen=True):
    """One layer of a pull. Layers are listed in manifest order. ``percent`` covers only the bytes that this pull has to
    fetch.
    """

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


class PodCorrelation(JsonObject, frozen=True):
    """A container that is waiting for an image.

    ``image`` is the image reference as written in the pod spec. ``owner`` has the form ``Deployment/web``.
    """

    namespace: str
    pod_name: str
    container: str
    image: str
    uid: str = ""
    owner: str | None = None
    waiting_reason: str | None = None


class Bound(JsonObject, frozen=True):
    """The factor that limits a pull: its name, and a sentence that explains it.

    ``figures`` contains the numbers that are mentioned in ``why``, keyed by name.
    """

    by: Factor
    why: str
    figures: dict[str, float] = field(default_factory=dict)


class EarlierAttempt(JsonObject, frozen=True):
    """An attempt that ended before the current one began. If ``error_reason`` is ``canceled``, the attempt was
    cancelled. Otherwise, the attempt failed.

    ``started_at`` is absent if neither an agent nor an event reported the start. ``queued_at`` has the same meaning as
    in ``PullStatus``. ``percent`` is the percentage of the
    attempt's bytes that had been downloaded when the attempt ended. ``error`` is shortened.
    """

    attempt: int
    completed_at: Time
    error_reason: ErrorReason
    started_at: Time | None = None
    error: str | None = None
    percent: float = 0.0
    queued_at: Time | None = None


class PullStatus(JsonObject, frozen=True):
    """One pull of an image on a node.

    ``total_bytes`` is the number of bytes to fetch: ``image_bytes``, the compressed size of all layers, minus
    ``cached_bytes`` and ``remote_bytes``. ``cached_bytes`` is the number of bytes that were already on the node, and
    ``remote_bytes`` is the number of bytes that are not fetched before the container starts. ``percent`` is the
    percentage of ``total_bytes`` that has been downloaded: 100 for a cached image. The percentage never decreases
    within one ``attempt``. ``percent_basis`` is ``layers`` if bytes are known only for completed layers.
    ``eta_seconds`` is the time until the image is ready, including unpacking. ``eta_seconds`` is absent if there is no
    basis for an estimate. ``ref_guessed`` means that the tag in ``image_ref`` is a guess. ``next_retry_at`` is always
    an estimate. ``pods`` lists the containers that are waiting for the image now. ``waited`` lists the containers that
    were waiting for the image but no longer are. ``eta_missing`` explains why a running pull has no estimate. The
    ``unobserved`` status means that the kubelet requested the image on a node whose agent does not report.
    ``usual_seconds`` is the median duration of ``usual_count`` similar earlier pulls. ``usual_basis`` is the kind of
    earlier pulls that ``usual_seconds`` is based on. If the earlier pulls were of other images, the usual duration is
    only an estimate. ``usual_comparable`` is true if the earlier pulls are numerous and similar enough for a pull to be
    called slow. ``slower_than_usual`` is the pull's duration divided by ``usual_seconds``. It is set only if
    ``usual_comparable`` is true and the pull takes at least twice as long as usual and at least ten seconds longer.
    ``via`` lists the mirrors that the node tries before ``registry``, in the order in which the node tries them.
    ``failing_since`` is the time of the first failure since the last success. ``failing_since`` is absent if the time
    is unknown. ``earlier_attempts`` lists the most recent attempts before the current one, oldest first. ``queued_at``
    is when the kubelet requested the image, if the server published the attempt as queued before it started. For a
    queued pull, ``started_at`` is this time. If a queued pull was cancelled before it began, both fields contain this
    time. ``downloaded_at`` is when the last byte of a completed pull arrived.
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
    failing_since: Time | None = None
    earlier_attempts: tuple[EarlierAttempt, ...] | None = None
    usual_basis: UsualBasis | None = None
    usual_count: int | None = None
    usual_comparable: bool = False
    queued_at: Time | None = None
    downloaded_at: Time | None = None


class RemovedPull(JsonObject, frozen=True):
    """The id of a removed pull."""

    id: str


class PullEvent(JsonObject, frozen=True):
    """One change to one pull, as published on the stream."""

    timestamp: Time
    type: EventType
    node_name: str
    pull: PullStatus
    schema_version: str


class PullRemovedEvent(JsonObject, frozen=True):
    """The last event of a pull. The pull has expired, or its row was merged into another row."""

    timestamp: Time
    type: EventType
    node_name: str
    pull: RemovedPull
    schema_version: str


class Hello(JsonObject, frozen=True):
    """The first event of a stream: the server's version, boot id and time.

    ``pulls`` is the number of pulls whose states follow this event. ``pulls`` is omitted if the client resumes or
    filters the stream.
    """

    version: str
    boot_id: str
    time: Time
    revision: int
    pulls: int | None = None


class Reset(JsonObject, frozen=True):
    """The event that precedes the states of all pulls. ``pulls`` is the number of these pulls, and is omitted if the
    stream is filtered.
    """

    pulls: int | None = None
