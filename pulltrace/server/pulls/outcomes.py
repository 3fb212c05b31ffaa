"""What becomes of each pull, once: a log line and its metrics.

Why a pull failed is known to Kubernetes only, and told a little later; the feed does not wait for it, this does.
"""

import logging

from pulltrace.logs import fields
from pulltrace.server.metrics import Metrics
from pulltrace.server.pulls.analysis import Analysis
from pulltrace.server.pulls.node import Pull
from pulltrace.wire import ErrorReason, Factor, PullPhase, PullStatus

PATIENCE = 5.0
"""Seconds to wait for the cause of a failure."""

_log = logging.getLogger(__name__)


class Outcomes:
    """``waits`` when there is somebody who may tell causes later."""

    def __init__(self, metrics: Metrics, analysis: Analysis, *, waits: bool) -> None:
        self._metrics = metrics
        self._analysis = analysis
        self._waits = waits
        self._unexplained: dict[str, tuple[float, PullStatus]] = {}  # in the order of their ends

    def note(self, before: PullStatus | None, pull: PullStatus, now: float) -> None:
        """A story changed from ``before``, None when it is new."""
        again = before is not None and before.attempt < pull.attempt
        if before is None or again:
            _log.info("pull.started", extra=fields(**_who(pull)))
        if not pull.status.ended:
            _log.debug("pull.progress", extra=fields(**_who(pull), percent=pull.percent))
            return
        if pull.id in self._unexplained:
            self._unexplained[pull.id] = (self._unexplained[pull.id][0], pull)
            if pull.error_reason is not ErrorReason.UNKNOWN:
                self._ended(self._unexplained.pop(pull.id)[1])
        elif before is None or again or not before.status.ended or before.status is not pull.status:
            if self._waits and pull.error_reason is ErrorReason.UNKNOWN:
                self._unexplained[pull.id] = (now + PATIENCE, pull)
            else:
                self._ended(pull)

    def settle(self, now: float) -> None:
        """Those whose cause nobody told in time."""
        while self._unexplained:
            id_, (due, pull) = next(iter(self._unexplained.items()))
            if due > now:
                return
            del self._unexplained[id_]
            self._ended(pull)

    def forget(self, id_: str) -> None:
        """What was told under this id turned out to be another's, or nobody's."""
        self._unexplained.pop(id_, None)

    def phases(self, pull: Pull) -> None:
        """An attempt that an agent saw is over: how long each part took."""
        if not pull.history:
            for phase, seconds in pull.phases.items():
                self._metrics.phase(phase, seconds)
            for factor, seconds in pull.verdict.seconds.items():
                self._metrics.limited(factor, seconds)
            if queued := pull.phases.get(PullPhase.QUEUED):
                self._metrics.limited(Factor.QUEUE, queued)

    def _ended(self, pull: PullStatus) -> None:
        self._metrics.ended(pull)
        self._analysis.ended(pull)
        seconds = (pull.completed_at - pull.started_at).total_seconds() if pull.completed_at else 0.0
        if pull.status is PullPhase.COMPLETED:
            rate = round(pull.downloaded_bytes / seconds) if seconds else None
            told = fields(**_who(pull), seconds=seconds, bytes=pull.downloaded_bytes, bytes_per_sec=rate, **_why(pull))
            _log.info("pull.completed", extra=told)
        else:
            reason = pull.error_reason.value if pull.error_reason else None
            told = fields(**_who(pull), seconds=seconds, reason=reason, error=pull.error, **_why(pull))
            _log.info("pull.failed", extra=told)


def _why(pull: PullStatus) -> dict[str, str | float | None]:
    """The limiting factor and the usual duration, as log fields."""
    bound = pull.bound
    return {
        "bound": bound.by.value if bound else None,
        "why": bound.why if bound else None,
        "usual_seconds": pull.usual_seconds,
        "slower_than_usual": pull.slower_than_usual,
    }


def _who(pull: PullStatus) -> dict[str, str | int | None]:
    return {
        "pull": pull.id,
        "node": pull.node_name,
        "image": pull.image_ref,
        "attempt": pull.attempt if pull.attempt > 1 else None,
    }
