"""The JSON objects between agent and server: reports and their responses, and the terms that both halves share.

Each class is one JSON object in ``docs/api.md``; ``server/models`` contains those that the server sends to its clients.
Names are in camelCase, times are RFC 3339 in UTC, bytes are integers, rates are bytes per second, and durations are
seconds. A field that has its default value is left out of the JSON. ``msgspec`` decodes JSON directly into these
classes. ``msgspec`` names the path of an invalid field (``$.pulls[0].layers[2].digest``) and ignores unknown fields, so
an old server can read the reports of a new agent. Sans-I/O.

An ``AgentReport`` contains ``PullState`` objects, which contain ``LayerState`` objects. The response is a
``ReportResponse``.
"""

import re
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Annotated

from msgspec import Meta, Struct

MAX_REPORT = 1 << 20
"""Maximum size of a decompressed report in bytes. A larger report is rejected."""

MAX_PULLS = 256
"""Maximum number of live pulls per node. A kubelet usually runs about ten pulls at once."""

MAX_LAYERS = 512
"""Maximum number of layers per pull. overlayfs allows 500, Docker 127."""

MAX_ERROR = 2048
"""Maximum number of characters of an error message."""

NO_CAUSE = "the pull was cancelled or failed; the kubelet knows why"
"""The error that an agent reports for a pull that ended without an image: containerd does not publish the cause."""

UNKNOWN_IMAGE = "__pulling__"
"""The image reference of a pull until something is known about its image, as in Pulltrace v0.1.0."""

SNAPSHOTTER = "snapshotter"
"""The value of ``fetched_by`` for a layer whose bytes cannot be observed, because the node's snapshotter fetches it."""

GUEST = "guest"
"""The value of ``fetched_by`` for a layer that a virtual machine will download after the pull."""

NODE_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""The pattern of a Kubernetes node name, a DNS-1123 subdomain; for use with ``fullmatch``."""

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
    """The state of one pull on a node. The states are in their usual order from start to end."""

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


class ErrorReason(StrEnum):
    """The reason for a failed pull. The set of reasons is fixed, so that a reason can be a metric label."""

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
    """Base class: one JSON object."""


# Every field that the agent of Pulltrace v0.1.0 does not send has a default.


class LayerState(JsonObject, frozen=True):
    """One layer of a pull, as the agent observed it.

    ``cached_bytes`` is the number of bytes that were on the node before this pull began: all bytes of a cached layer,
    or the offset of a resumed download. ``downloaded_bytes`` is the number of bytes downloaded since then. If another
    pull fetches this layer, ``fetched_by`` is the id of that pull. So the bytes are counted only once. If the
    snapshotter fetches the layer, ``fetched_by`` is ``snapshotter``, and the bytes are counted when the layer is
    complete. ``fetched_by`` is ``guest`` if a virtual machine will fetch the layer. The snapshotter serves a layer in
    state ``remote`` without fetching it first. A time is exact if containerd records it (``completed_at``). Any other
    time is the time of the first poll that observed the change.
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

    ``id`` is the id of containerd's lease. The agent of Pulltrace v0.1.0 sends no id, and sends ingest refs as
    ``image_ref``. ``total_known`` is true once the manifest has been read; from then on, layers and sizes are exact.
    ``imported`` is true if the content comes from an archive (``ctr image import``), not from a registry.
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
    """How busy a node was over the last ``seconds`` seconds, measured only while it pulls. Unknown figures are left
    out.

    Pressures are the percentages of time during which at least one task waited for I/O, the CPU or memory
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


class AgentReport(JsonObject, frozen=True):
    """The live pulls of one node, and the pulls that ended since the last acknowledged report.

    The server closes a live pull that a report no longer lists. ``others`` lists the ids of unchanged live pulls that
    did not fit into this report. ``pulls: null`` is a heartbeat: the node is pulling nothing. ``boot_id`` changes each
    time the agent starts, and ``sequence`` increases by one with each report, so that the server can recognise reports
    that arrive late. ``heartbeat_seconds`` is the longest time until the next report; if no report has arrived by then,
    the node counts as late.
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
