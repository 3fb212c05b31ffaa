"""The earlier attempts of an arrival, and the time of the first failure. Sans-I/O."""

import math

from pulltrace.server.models import EarlierAttempt, PullStatus
from pulltrace.server.pulls.matching import Attempt, Source
from pulltrace.wire import NO_CAUSE, ErrorReason, PullPhase

MOST_EARLIER = 10
"""Maximum number of earlier attempts to keep for one arrival. The oldest attempts are dropped."""
MAX_TEXT = 200
"""Maximum length of an earlier attempt's error message."""


def with_attempt(
    earlier: tuple[EarlierAttempt, ...], attempt: Attempt, status: PullStatus, *, requested: bool
) -> tuple[EarlierAttempt, ...]:
    """Add a failed attempt to the list, and return the new list. The attempt's values come from its last published
    status. ``requested`` is true if pods waited for the image.

    An attempt that ended without an error was cancelled, because a kubelet always reports a failure before it retries.
    """
    if status.completed_at is None or (earlier and earlier[-1].attempt >= attempt.number):
        return earlier
    reason = status.error_reason or ErrorReason.UNKNOWN
    unexplained = is_unexplained(reason, status.error)
    if unexplained and requested and attempt.source is Source.AGENT and attempt.failure is None:
        reason = ErrorReason.CANCELED
    error = None if unexplained else _short(status.error)
    if earlier and earlier[-1].error == error:
        error = earlier[-1].error  # reuse the previous object to save memory
    failure = attempt.failure
    is_start_known = attempt.observed or (failure is not None and failure.started_at is not None)
    added = EarlierAttempt(
        attempt=attempt.number,
        completed_at=status.completed_at,
        error_reason=reason,
        started_at=status.started_at if is_start_known else None,
        error=error,
        percent=status.percent,
        queued_at=status.queued_at,
    )
    return (*earlier[1 - MOST_EARLIER :], added)


def failing_since(known: float | None, attempt: Attempt, earlier: tuple[EarlierAttempt, ...]) -> float | None:
    """Return the time of the first failure since the last success. ``known`` is the previous result.

    If older attempts are unknown, only the kubelet's events provide the time of the first failure.
    """
    if attempt.outcome is PullPhase.COMPLETED:
        return None
    failure = attempt.failure
    is_cancelled = failure is not None and failure.reason is ErrorReason.CANCELED
    if attempt.outcome is None or attempt.source is Source.INFERRED or is_cancelled:
        return known
    first = failure.first_at if failure else None
    if first is None and attempt.number == 1 + len(earlier) and (attempt.observed or attempt.started_at > -math.inf):
        first = attempt.ended_at
    return min((time for time in (known, first) if time is not None), default=None)


def is_unexplained(reason: ErrorReason | None, error: str | None) -> bool:
    """Return whether the reason for a failure is still unknown."""
    return reason is ErrorReason.UNKNOWN and error in (None, NO_CAUSE)


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
