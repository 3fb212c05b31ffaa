"""The JSON objects that the agent and the server exchange, and the definitions that they share.

Each class is one JSON object in ``docs/api.md``. ``server/models`` and ``server/responses`` contain the objects that
the server sends to its clients. Names are in camelCase, times are in RFC 3339 format and UTC, byte counts are integers,
rates are in bytes per second, and durations are in seconds. Fields that have their default value are omitted from the
JSON. ``msgspec`` decodes JSON directly into these classes. The error messages contain the path of the invalid field
(``$.pulls[0].layers[2].digest``). ``msgspec`` ignores unknown fields, so an old server can read a new agent's reports.
Sans-I/O.

An ``AgentReport`` contains ``PullState`` objects, which contain ``LayerState`` objects. The server responds with a
``ReportResponse``.
"""

import re
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Annotated

from msgspec import Meta, Struct

MAX_REPORT = 1 << 20
"""Maximum size of a decompressed report in bytes. Larger reports are rejected."""

MAX_PULLS = 256
"""Maximum number of live pulls per node. A kubelet rarely runs more than ten pulls at once."""

MAX_LAYERS = 512
"""Maximum number of layers per pull. overlayfs allows 500 layers, and Docker allows 127."""

MAX_ERROR = 2048
"""Maximum length of an error message, in characters."""

NO_CAUSE = "the pull was cancelled or failed; the kubelet knows why"
"""The error reported for a pull that ended without creating an image. containerd does not report the cause."""

UNKNOWN_IMAGE = "__pulling__"
"""The image reference of a pull whose image is still unknown. Pulltrace v0.1.0 used the same value."""

SNAPSHOTTER = "snapshotter"
"""The value of ``fetched_by`` for a layer that the node's snapshotter fetches and whose bytes cannot be observed."""

GUEST = "guest"
"""The value of ``fetched_by`` for a layer that a virtual machine will download after the pull."""

NODE_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""Matches a Kubernetes node name, which is a DNS-1123 subdomain. Use it with ``fullmatch``."""

Bytes = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Text = Annotated[str, Meta(max_length=512)]
Digest = Annotated[str, Meta(max_length=200)]
MediaType = Annotated[str, Meta(max_length=256)]
ErrorText = Annotated[str, Meta(max_length=MAX_ERROR)]
Time = Annotated[datetime, Meta(tz=True)]


_LAST_SECOND = 253402300799.0  # the end of the year 9999


def to_time(seconds: float) -> datetime:
    """Convert a Unix time in seconds to a UTC datetime for the JSON, rounded to milliseconds. Internally, the agent and
    the server use Unix time in seconds.
    """
    return datetime.fromtimestamp(round(min(max(seconds, 0.0), _LAST_SECOND), 3), UTC)


class LayerPhase(StrEnum):
    """The state of one layer on a node. ``agent/layers`` derives the state from containerd's data."""

    CACHED = "cached"
    WAITING = "waiting"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    EXTRACTING = "extracting"
    EXTRACTED = "extracted"
    REMOTE = "remote"
    FAILED = "failed"


class PullPhase(StrEnum):
    """The state of one pull on a node. A pull usually passes through the states in this order."""

    QUEUED = "queued"
    UNOBSERVED = "unobserved"
    RESOLVING = "resolving"
    DOWNLOADING = "downloading"
    EXTRACTING = "extracting"
    COMPLETED = "completed"
    FAILED = "failed"

    @cached_property
    def ended(self) -> bool:
        """Return whether an attempt in this phase has ended."""
        return self in (PullPhase.COMPLETED, PullPhase.FAILED)


class ErrorReason(StrEnum):
    """The reason why a pull failed. The set of reasons is fixed, so the reason can be a metric label."""

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


class JsonObject(Struct, rename="camel", frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The base class of all JSON objects."""


# Every field that Pulltrace v0.1.0's agent does not send has a default.


class LayerState(JsonObject, frozen=True):
    """One layer of a pull, as the agent observed it.

    ``cached_bytes`` is the number of bytes that were on the node before this pull began. For a cached layer,
    ``cached_bytes`` is the layer's size. For a resumed download, ``cached_bytes`` is the offset at which the download
    resumed. ``downloaded_bytes`` is the number of bytes that this pull has downloaded. If another pull fetches this
    layer, ``fetched_by`` is that pull's id, so the bytes are counted only once. If the snapshotter fetches the layer,
    ``fetched_by`` is ``snapshotter``, and the bytes are counted when the layer is complete. If a virtual machine will
    fetch the layer, ``fetched_by`` is ``guest``. The snapshotter serves a layer in the ``remote`` state without
    fetching it first. Times that containerd records (``completed_at``) are exact. All other times are those of the
    first poll that observed the change.
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


class PullState(JsonObject, frozen=True):
    """One pull on one node.

    ``id`` is the id of containerd's lease. Pulltrace v0.1.0's agent sends no id and uses ingest refs as ``image_ref``.
    ``total_known`` is true once the manifest has been read. From then on, layers and sizes are exact. ``imported`` is
    true if the content comes from an archive (``ctr image import``) rather than a registry.
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


class NodeLoad(JsonObject, frozen=True):
    """The load of a node during the last ``seconds`` seconds, measured only while the node is pulling images. Unknown
    figures are omitted.

    Each pressure value is the percentage of time during which at least one task waited for I/O, the CPU or memory
    (``/proc/pressure``). The disk statistics are for the node's busiest disk (``/proc/diskstats``).
    """

    seconds: float
    io_pressure: float | None = None
    cpu_pressure: float | None = None
    memory_pressure: float | None = None
    disk: Text = ""
    disk_busy: float | None = None
    disk_read_per_sec: float | None = None
    disk_written_per_sec: float | None = None


class AgentReport(JsonObject, frozen=True):
    """The live pulls of one node, and the pulls that have finished since the last acknowledged report.

    If a report no longer lists a live pull, the server treats the pull as ended. ``others`` lists the ids of the pulls
    that did not fit into this report. ``pulls: null`` is a heartbeat, which means that the node is pulling nothing.
    ``boot_id`` changes each time the agent starts, and ``sequence`` increases by one with each report. The server uses
    both fields to recognise reports that arrive late. ``heartbeat_seconds`` is the maximum time until the next report.
    If the server receives no report for three times that long, it shows the node as late.
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


class ReportResponse(JsonObject, frozen=True):
    """The server's response to a report. A new ``boot_id`` means that the server has restarted and lost its state."""

    boot_id: str
