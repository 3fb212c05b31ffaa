"""Correct what is known about a pull that has ended, based on the kubelet's reports. Sans-I/O.

Theory of operation
===================

The agent reports when a pull started, and when and how it ended. Any of these values may be wrong:

- The agent may have missed the start of a short pull. In that case, the reported start is too early.
- The agent may have been restarted during the pull, or may have stopped reporting. In that case, the server infers a
  failure. The inferred end (``presumed``) is the time at which the server drew this conclusion, so it may be later than
  the actual end.
- If the image is missing, the agent concludes that the pull failed (``agent.conclusion``). However, the image may have
  been removed right after the pull. The agent never learns why a pull failed.

The kubelet reports the start of the next attempt, the reason for a failure, and the arrival of the image. Its times are
in whole seconds, so they replace only an inferred end:

====================================  ==========================  =====================================================
the kubelet reports                   the pull                    correction
====================================  ==========================  =====================================================
that a later attempt began            has an inferred end         ended at least one back-off before the later attempt
that the image is present             failed for unknown reasons  succeeded; an inferred end is the kubelet's time
the duration, and about the same end  took longer                 started this duration before its end
a failure during or after the pull    failed for unknown reasons  failed for the kubelet's reason; an inferred end is no
                                                                  later than the kubelet's failure
====================================  ==========================  =====================================================

Once a later attempt has begun, the reported duration and the arrival of the image belong to the later attempt. If the
agent reported a reason, the pull was cancelled and cannot have succeeded.

This module only calculates the corrections. ``arrival`` applies them.
"""

from typing import NamedTuple

from pulltrace.server.kubernetes.attempts import Failure
from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.kubernetes.errors import FIRST_BACK_OFF
from pulltrace.server.pulls.clocks import REPORT_LATE, WHOLE_SECONDS
from pulltrace.server.pulls.matching import is_later
from pulltrace.server.pulls.node import Pull
from pulltrace.wire import ErrorReason, PullPhase

SAME_DURATION = 0.3
"""If the duration reported by the agent exceeds the kubelet's by more than this many seconds, the pull's start is
corrected.
"""


class Correction(NamedTuple):
    """The corrected values of a pull. Times are in Unix seconds on the server's clock."""

    started_at: float
    ended_at: float
    succeeded: bool = False
    """True if the image arrived even though the pull was considered failed."""


def correction(pull: Pull, demand: ImageDemand) -> Correction | None:
    """Return the corrected values for a pull of the image in ``demand``. Values that need no correction are returned
    unchanged.

    Return None if the pull is still running, or if the kubelet has not reported anything about its end.
    """
    started_at, ended_at = pull.started_at, pull.ended_at
    if ended_at is None:
        return None
    if is_later(demand, pull):
        latest_end = demand.since - FIRST_BACK_OFF
        return Correction(started_at, max(min(ended_at, latest_end), started_at)) if pull.presumed else None
    if demand.pulled_at is None:
        return None
    succeeded = _proves_success(demand.pulled_at, demand, pull)
    if succeeded and pull.presumed:
        ended_at = max(demand.pulled_at, started_at)
    took = demand.pull_seconds
    if took is not None and abs(demand.pulled_at - ended_at) <= WHOLE_SECONDS:
        started_at = ended_at - took if ended_at - started_at > took + SAME_DURATION else started_at
    return Correction(started_at, ended_at, succeeded)


def explained_end(pull: Pull, failure: Failure) -> float | None:
    """If ``failure`` explains why a pull failed, return the pull's end time in Unix seconds. The end time is corrected
    if it was only inferred.

    Return None if the failure belongs to a different pull, or if this pull has not failed or already has a reason.
    """
    ended_at = pull.ended_at
    if ended_at is None or not _is_unexplained(pull):
        return None
    if not pull.started_at - WHOLE_SECONDS <= failure.at <= ended_at + REPORT_LATE:
        return None
    return min(ended_at, failure.at) if pull.presumed and pull.started_at <= failure.at else ended_at


def _proves_success(pulled_at: float, demand: ImageDemand, pull: Pull) -> bool:
    """Return whether a pull that is considered failed must have succeeded, because the kubelet had the image at
    ``pulled_at``.
    """
    if not _is_unexplained(pull) or pulled_at < pull.started_at - WHOLE_SECONDS:
        return False
    # If no event reported the start, an image that arrives much later may belong to a different pull.
    return demand.since_exact or pull.presumed or pulled_at <= (pull.ended_at or 0.0) + REPORT_LATE


def _is_unexplained(pull: Pull) -> bool:
    return pull.phase is PullPhase.FAILED and pull.reason in (None, ErrorReason.UNKNOWN)
