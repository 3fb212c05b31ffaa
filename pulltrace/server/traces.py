"""OpenTelemetry traces: each finished pull is a span, and its phases are child spans.

Only a server that exports traces imports this module, because the SDK takes up memory. The SDK reads the ``OTEL_*``
variables. It sends spans from a bounded queue in a separate thread, so a slow or missing collector does not delay the
server.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from pulltrace import __version__
from pulltrace.logs import fields
from pulltrace.server.models import PullStatus
from pulltrace.server.pulls.node import Interval
from pulltrace.wire import ErrorReason, PullPhase

FLUSH_WITHIN = 1.0
"""How long, in seconds, the server waits during shutdown for the last spans to be sent."""
WARN_EVERY = 300.0
"""Minimum interval, in seconds, between warnings about a collector that does not accept spans."""
MAX_INTEGER = 2**63 - 1
"""The largest integer that a span attribute can hold. If forged sizes added up to a larger number, the exporter would
lose the whole batch.
"""
SPAN_NAMES = {PullPhase.EXTRACTING: "unpacking"}
"""The span names of phases that have a different name in the API."""

_log = logging.getLogger(__name__)


class Traces:
    """Exports each finished pull. ``close`` sends the remaining spans."""

    def __init__(self) -> None:
        self._ids = _Ids()
        library = logging.getLogger("opentelemetry")
        library.handlers, library.propagate = [_Warnings()], False
        resource = Resource.create({"service.name": "pulltrace", "service.version": __version__})
        self._provider = TracerProvider(
            resource=resource.merge(OTELResourceDetector().detect()), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("pulltrace", __version__)

    def add(self, pull: PullStatus, phases: list[Interval]) -> None:
        """Add a finished attempt, and the phases that its agent observed."""
        if pull.completed_at is None:
            return
        began = min([_nanoseconds(start) for _, start, _ in phases] + [_nanoseconds(pull.started_at.timestamp())])
        ended = _nanoseconds(pull.completed_at.timestamp())
        self._ids.use(pull.id, f"{pull.attempt}")
        span = self._tracer.start_span(
            "image pull", kind=SpanKind.CLIENT, attributes=_attributes(pull), start_time=began
        )
        if _result(pull) == "failed":
            span.set_status(Status(StatusCode.ERROR, pull.error))
        inside = set_span_in_context(span)
        for phase, start, end in phases:
            name = SPAN_NAMES.get(phase, phase.value)
            self._ids.use(pull.id, f"{pull.attempt} {name}")
            self._tracer.start_span(name, inside, start_time=_nanoseconds(start)).end(_nanoseconds(end))
        span.end(ended)

    def close(self) -> None:
        """Send the remaining spans, but wait at most ``FLUSH_WITHIN`` seconds."""
        thread = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        thread.start()
        thread.join(FLUSH_WITHIN)


class _Ids(IdGenerator):
    """Derives trace and span ids from the pull's id, so that every server exports a pull with the same ids."""

    def use(self, pull_id: str, part: str) -> None:
        """Set which pull, and which part of that pull, the next span describes."""
        self._pull_id, self._part = pull_id, part

    def generate_trace_id(self) -> int:
        return int.from_bytes(hashlib.sha256(self._pull_id.encode()).digest()[:16])

    def generate_span_id(self) -> int:
        return int.from_bytes(hashlib.sha256(f"{self._pull_id} {self._part}".encode()).digest()[:8])


class _Warnings(logging.Handler):
    """Passes on at most one of the SDK's warnings every five minutes. The SDK logs several warnings for each batch that
    it cannot send.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._due = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + WARN_EVERY
            _log.warning("traces.not_sent", extra=fields(error=record.getMessage()))


def _attributes(pull: PullStatus) -> Mapping[str, str | int | list[str]]:
    """Return the span attributes that describe a pull. If the semantic conventions define a name for an attribute, that
    name is used.
    """
    waiting = [*(pull.pods or ()), *(pull.waited or ())]
    first = waiting[0] if waiting else None
    image = pull.image_ref.partition("@")[0]
    name, _, tag = image.rpartition(":")
    tagged = bool(name) and "/" not in tag
    values: dict[str, str | int | list[str] | None] = {
        "k8s.node.name": pull.node_name,
        "k8s.namespace.name": first.namespace if first else None,
        "k8s.pod.name": first.pod_name if first else None,
        "k8s.pod.uid": first.uid if first else None,
        "k8s.container.name": first.container if first else None,
        "container.image.name": name if tagged else image,
        "container.image.tags": [tag] if tagged else None,
        "oci.manifest.digest": pull.manifest_digest,
        "error.type": pull.error_reason.value if pull.error_reason else None,
        "pulltrace.pull.id": pull.id,
        "pulltrace.attempt": pull.attempt,
        "pulltrace.result": _result(pull),
        "pulltrace.limited_by": pull.bound.by.value if pull.bound else None,
        "pulltrace.registry": pull.registry,
        "pulltrace.downloaded_bytes": min(pull.downloaded_bytes, MAX_INTEGER),
        "pulltrace.cached_bytes": min(pull.cached_bytes, MAX_INTEGER),
        "pulltrace.image_bytes": min(pull.image_bytes, MAX_INTEGER),
        "pulltrace.layers": pull.layer_count,
        "pulltrace.pods": sorted({f"{pod.namespace}/{pod.pod_name}" for pod in waiting}),
    }
    return {name: value for name, value in values.items() if value not in (None, "", [])}


def _result(pull: PullStatus) -> str:
    return "canceled" if pull.error_reason is ErrorReason.CANCELED else pull.status.value


def _nanoseconds(seconds: float) -> int:
    """Convert Unix seconds to nanoseconds, rounded to milliseconds as in the wire format."""
    return round(seconds * 1000) * 1_000_000
