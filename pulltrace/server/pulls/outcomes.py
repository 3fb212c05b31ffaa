"""Record each attempt's result exactly once: in the log, in the metrics and, if tracing is enabled, as a trace.

The reason for a failure comes from Kubernetes, and the byte counts come from the agent. The reason and the byte counts
may arrive shortly after the pull has ended. The feed does not wait for these details before it publishes the end, but
this module does.
"""

import logging
from collections.abc import Callable

from msgspec import structs

from pulltrace.logs import fields
from pulltrace.server.metrics import Metrics, result_of
from pulltrace.server.models import Factor, PullStatus
from pulltrace.server.pulls.analysis import Analysis
from pulltrace.server.pulls.arrival import Arrival
from pulltrace.server.pulls.node import Interval, Pull
from pulltrace.server.pulls.throughput import Throughput
from pulltrace.wire import ErrorReason, PullPhase

PATIENCE = 5.0
"""How long, in seconds, to wait for the reason for a failure, or for the byte counts of a successful pull."""

Exporter = Callable[[PullStatus, list[Interval]], None]
"""A function that is called with each finished attempt and the phases observed for it."""

_log = logging.getLogger(__name__)


class Outcomes:
    """Records the results of all pulls. ``waits`` is true if the server watches a cluster, because its kubelets may
    report the reason for a failure later.
    """

    def __init__(
        self,
        metrics: Metrics,
        analysis: Analysis,
        throughput: Throughput,
        *,
        waits: bool,
        export: Exporter | None = None,
    ) -> None:
        self._metrics = metrics
        self._analysis = analysis
        self._throughput = throughput
        self._waits = waits
        self._export = export
        self._incomplete: dict[str, tuple[float, PullStatus, list[Interval]]] = {}  # ordered by the end of the attempt

    def note(
        self, before: PullStatus | None, pull: PullStatus, arrival: Arrival, now: float, *, complete: bool = True
    ) -> None:
        """Process a status change of ``arrival`` from ``before`` to ``pull``. ``before`` is None if the arrival is new.

        ``complete`` is false if only the kubelet has reported that the pull ended, and the agent's byte counts are
        still missing.
        """
        again = before is not None and before.attempt < pull.attempt
        if again and pull.id in self._incomplete:
            self._settle_earlier(pull.id, arrival, now)
        if before is None or (again and (before.status.ended or before.started_at != pull.started_at)):
            _log.info("pull.started", extra=fields(**_identify(pull)))
        if not pull.status.ended:
            if _log.isEnabledFor(logging.DEBUG):
                _log.debug("pull.progress", extra=fields(**_identify(pull), percent=pull.percent))
            return
        complete = complete and not (self._waits and pull.error_reason is ErrorReason.UNKNOWN)
        phases = arrival.intervals if self._export else []
        if pull.id in self._incomplete:
            if complete:
                del self._incomplete[pull.id]
                self._end(pull, phases, now)
            else:
                self._incomplete[pull.id] = (self._incomplete[pull.id][0], pull, phases)
        elif before is None or again or not before.status.ended or before.status is not pull.status:
            if complete:
                self._end(pull, phases, now)
            else:
                self._incomplete[pull.id] = (now + PATIENCE, pull, phases)

    def settle(self, now: float) -> None:
        """Record each result whose missing details did not arrive in time."""
        while self._incomplete:
            id_, (due, pull, phases) = next(iter(self._incomplete.items()))
            if due > now:
                return
            del self._incomplete[id_]
            self._end(pull, phases, now)

    def _settle_earlier(self, id_: str, arrival: Arrival, now: float) -> None:
        """Record the result of an attempt that is now followed by another one, with the reason that is published among
        the arrival's earlier attempts.
        """
        _, pull, phases = self._incomplete.pop(id_)
        for earlier in arrival.row.earlier:
            if earlier.attempt == pull.attempt:
                pull = structs.replace(pull, error_reason=earlier.error_reason, error=earlier.error)
        self._end(pull, phases, now)

    def forget(self, id_: str) -> None:
        """Forget an arrival that is now part of another arrival or is no longer needed by any pod."""
        self._incomplete.pop(id_, None)

    def phases(self, pull: Pull) -> None:
        """For a finished attempt, record how long each phase lasted and how long each factor limited the pull. Call
        this only for an attempt that an agent observed.
        """
        if not pull.history:
            for phase, seconds in pull.phases.items():
                self._metrics.phase(phase, seconds)
            for factor, seconds in pull.verdict.seconds.items():
                self._metrics.limited(factor, pull.state.registry, seconds)
            if queued := pull.phases.get(PullPhase.QUEUED):
                self._metrics.limited(Factor.QUEUE, pull.state.registry, queued)

    def _end(self, pull: PullStatus, phases: list[Interval], now: float) -> None:
        self._metrics.ended(pull)
        self._throughput.end(result_of(pull), now)
        self._analysis.ended(pull)
        if self._export:
            self._export(pull, phases)
        seconds = (pull.completed_at - pull.started_at).total_seconds() if pull.completed_at else 0.0
        if pull.status is PullPhase.COMPLETED:
            rate = round(pull.downloaded_bytes / seconds) if seconds else None
            sizes = {"bytes": pull.downloaded_bytes, "bytes_per_sec": rate, "image_bytes": pull.image_bytes}
            _log.info("pull.completed", extra=fields(**_identify(pull), seconds=seconds, **sizes, **_limit(pull)))
        else:
            reason = pull.error_reason.value if pull.error_reason else None
            why = {"reason": reason, "error": pull.error}
            canceled = pull.error_reason is ErrorReason.CANCELED
            _log.info(
                "pull.canceled" if canceled else "pull.failed",
                extra=fields(**_identify(pull), seconds=seconds, **why, **_limit(pull)),
            )


def _limit(pull: PullStatus) -> dict[str, str | float | None]:
    """Return the limiting factor as log fields."""
    bound = pull.bound
    return {
        "bound": bound.by.value if bound else None,
        "why": bound.why if bound else None,
        "usual_seconds": pull.usual_seconds,
        "slower_than_usual": pull.slower_than_usual,
    }


def _identify(pull: PullStatus) -> dict[str, str | int | None]:
    return {
        "pull": pull.id,
        "node": pull.node_name,
        "image": pull.image_ref,
        "attempt": pull.attempt if pull.attempt > 1 else None,
    }
