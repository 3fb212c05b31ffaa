"""One image that one pod requests from its kubelet, attempt after attempt. Sans-I/O.

Theory of operation
===================

Facts arrive from the kubelet's events and from container statuses. These facts may be late, duplicated or out of order,
and some never arrive. Events contain the time on the node's clock, in whole seconds. This time (``raw``) orders the
events of one node. Users are shown the server's time (``at``) instead. ``ImageRequest`` remembers the last start
(``Pulling``) and the last end (``Failed`` or ``Pulled``) that events reported. Each new event is compared with both:

=========  =======================  ===============================  ==================================
event      before the last start    before the last end              after both
=========  =======================  ===============================  ==================================
Pulling    ignored                  start of the attempt that ended  the next attempt starts
Failed     failure of the attempt   ignored, unless only a status    the attempt ends; if none runs,
           before                   reported that failure            its start was lost
Pulled     ignored                  ignored                          the image is present
=========  =======================  ===============================  ==================================

If times are equal, ``Pulling`` comes before ``Failed`` and ``Pulled``.

A kubelet writes the status ``ErrImagePull`` when it next syncs the pod. The next sync is at least ten seconds after the
event, and even later while the kubelet pulls another image for the same pod. So a status normally repeats a failure
that events have already reported. A status counts as a separate failure only under two conditions: statuses have
reported more failures than events, *and* the kubelet had time for another attempt. In that case, the failure's event
was lost. Kubelets limit how many events they send.

``InvalidImageName``, ``ErrImageNeverPull`` and ``ImageInspectError`` do not count as attempts, even if they are
repeated: the kubelet does not pull anything.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum

from pulltrace.server.kubernetes.errors import (
    FIRST_BACK_OFF,
    SYNC,
    WITHOUT_PULL,
    WITHOUT_RETRY,
    about,
    back_off,
    cause_of,
    classify,
    next_try,
    shorten,
)
from pulltrace.server.models import PodCorrelation
from pulltrace.wire import ErrorReason

STATUS_LATE = 30.0
"""Seconds by which a status may lag behind the event for the same failure."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failed attempt to pull an image. Times are in unix seconds."""

    reason: ErrorReason
    message: str
    attempt: int
    """The number of the attempt that failed, counted from 1."""
    at: float
    next_retry_at: float | None
    """An estimate based on the kubelet's back-off. None if the kubelet will not pull again on its own."""
    started_at: float | None = None
    """When the kubelet began the failed attempt. None if no event reported that."""


@dataclass(frozen=True, slots=True)
class PullFacts:
    """The duration and size from the kubelet's message about a successful pull."""

    seconds: float | None = None
    """The duration of the pull, without the time in the kubelet's queue."""
    image_bytes: int | None = None


class Position(Enum):
    """An event's position in time, compared with the last start and the last end."""

    BEFORE_START = "before the last start"
    BEFORE_END = "before the last end"
    AFTER_BOTH = "after both"


class ImageRequest:
    """The state of one pod's request for one image. Each method processes one fact. Facts may arrive in any order."""

    __slots__ = (
        "_earlier_pulls",
        "_end",
        "_failed_raw",
        "_last_status",
        "_statuses",
        "_synced_at",
        "_without_pull",
        "abandoned",
        "attempt",
        "facts",
        "failure",
        "pod",
        "pulled_at",
        "pulling",
        "since",
        "since_exact",
        "start",
    )  # fmt: skip

    def __init__(self, pod: PodCorrelation, since: float, earlier_pulls: int = 0) -> None:
        self.pod = pod
        self.since = since
        self.since_exact = False
        """Whether ``since`` is the start of the newest attempt, as reported by an event.

        The time of a status does not count as a start, because statuses are late.
        """
        self.attempt = 1
        self.pulling = False
        self.abandoned = False
        """Whether the pod was deleted during the pull.

        The kubelet continues with the pull, even if the pull is still queued.
        """
        self.failure: Failure | None = None
        self.pulled_at: float | None = None
        self.facts = PullFacts()
        self.start = -math.inf  # raw time of the newest Pulling event
        self._end = -math.inf  # raw time of the newest Failed or Pulled event
        self._failed_raw: float | None = None  # raw time of `failure`; None if it is known only from a status
        self._earlier_pulls = earlier_pulls  # Pulling events of earlier pulls, which the event's count includes
        self._statuses = 0  # number of failures that statuses have reported
        self._last_status = ("", "")
        self._synced_at = -math.inf  # when the kubelet last synced the pod while it was too early to retry
        self._without_pull = False  # whether `failure` is not counted as an attempt

    @property
    def is_assumed(self) -> bool:
        """Return whether nothing is known except that the container was created."""
        return self.pulled_at is not None and max(self.start, self._end) == -math.inf and not self._last_status[0]

    def position(self, raw: float, *, starts: bool = False) -> Position:
        """Compare an event's time with the last start and end; ``starts`` is true for Pulling events."""
        if raw < self.start:
            return Position.BEFORE_START
        if raw < self._end or (starts and raw == self._end):
            return Position.BEFORE_END
        return Position.AFTER_BOTH

    def take_pulling(self, raw: float, at: float, times: int) -> None:
        """Process a Pulling event. ``times`` is how often the kubelet has emitted this event for the pod."""
        position = self.position(raw, starts=True)
        if position is Position.BEFORE_START:
            return
        if self.pulled_at is not None and position is Position.AFTER_BOTH and raw > self.start:
            # The image was already present: the container restarts, and its pull policy is Always.
            self._earlier_pulls, self.attempt, self._statuses = times - 1, 1, 0
        times -= self._earlier_pulls
        if position is Position.BEFORE_END:
            self.start = raw
        elif raw > self.start:
            self._start_attempt(raw, at, times)
        self._count(times)

    def take_failed(self, raw: float, at: float, message: str, times: int = 1, *, listed: bool = False) -> None:
        """Process a Failed event. ``times`` is how often the kubelet has emitted the event with this text, including
        for earlier pulls.

        ``listed`` is true if the event comes from a list. The container's current status then describes the same
        failure.
        """
        match self.position(raw):
            case Position.BEFORE_START:
                self._take_earlier_failure(raw, at, message)
                return
            case Position.BEFORE_END if self.failure is None or self._failed_raw is not None:
                return
        self._end = max(self._end, raw)
        attempt = max(1 if self._earlier_pulls else times, self._failed_attempt(at))
        shown = self._last_status[0] == "ErrImagePull" and cause_of(self._last_status[1]) == shorten(message)
        if listed or (shown and self.failure and self._statuses == self.failure.attempt):
            self._statuses = attempt  # the status already contains this reason, so this failure will not change it
        self._end_attempt(attempt, at, exact=True)
        self._set_failure(raw, at, message, "ErrImagePull", attempt)

    def take_refusal(self, raw: float | None, at: float, message: str, reason: str) -> None:
        """Process a report that the kubelet did not pull at all. The report is an event, or a status if ``raw`` is
        None.
        """
        if raw is not None:
            if self.position(raw) is not Position.AFTER_BOTH:
                return
            self._end = raw
        self.since = min(self.since, at)  # after a restart, the server sees the status before the event
        known = self.failure
        if known and self._without_pull:
            retry = None if reason in WITHOUT_RETRY else max(known.next_retry_at or 0.0, at + SYNC)
            self.failure = replace(known, at=min(known.at, at), next_retry_at=retry)
            return
        self.pulling, self.pulled_at, self._without_pull = False, None, True
        retry = None if reason in WITHOUT_RETRY else at + SYNC
        self.failure = Failure(classify(message, reason), shorten(message), self.attempt, at, retry)
        self._failed_raw = raw

    def take_back_off(self, raw: float, at: float, message: str) -> None:
        """Process a BackOff event: the kubelet synced the pod, but it was too early to retry."""
        self._synced_at = max(self._synced_at, at)
        failure = self.failure
        lost = failure is None or (self.pulling and raw > self.start)
        if self.pulled_at is None and lost:
            self._end = max(self._end, raw)
            self._fail_by_status(at, message, "ImagePullBackOff")
        elif failure and not self.pulling and failure.next_retry_at:
            self.failure = replace(failure, next_retry_at=self._next_try(failure.attempt, failure.at))

    def take_status(self, at: float, reason: str, message: str) -> bool:
        """Process the waiting status of a container. Return whether the status changed anything."""
        if (reason, message) == self._last_status and self.failure:
            return False
        since = self.since if self.pulling and reason in WITHOUT_PULL else self.pulled_at
        if since is not None and at < since + STATUS_LATE:
            return False  # the status describes an earlier attempt
        self._last_status = reason, message
        if reason in WITHOUT_PULL:
            self.take_refusal(None, at, message, reason)
            return True
        backs_off = reason == "ImagePullBackOff"
        self._statuses += not backs_off
        if self.failure is None or (not backs_off and self._is_failure_without_event(at)):
            self._fail_by_status(at, cause_of(message), reason)
            return True
        if self.pulling or self._without_pull:
            return False
        before = self.failure
        if not backs_off or about(message)[1]:  # old kubelets do not repeat the cause while they back off
            self._improve_message(cause_of(message), reason)
        return self.failure != before

    def take_pulled(self, raw: float, at: float, facts: PullFacts) -> bool:
        """Process a Pulled event. Return whether the event changed anything."""
        if self.position(raw) is not Position.AFTER_BOTH:
            return False
        self._end = raw
        self.facts = facts
        return self._succeed(at)

    def take_created(self, at: float) -> bool:
        """Record that the container was created, so the image is present. Return whether this changed anything."""
        return self.pulled_at is None and self._succeed(at)

    def _succeed(self, at: float) -> bool:
        if self.pulled_at is None:
            self.pulled_at = at
        self.pulling, self.failure, self._failed_raw, self._without_pull = False, None, None, False
        return True

    def _start_attempt(self, raw: float, at: float, times: int) -> None:
        before = self.failure
        # A failure that is known only from a status may belong to this attempt. In that case, the event's count
        # decides.
        after = before.attempt + (self._failed_raw is not None and not self._without_pull) if before else 1
        self.attempt = max(times, after)
        self.start, self.since, self.since_exact = raw, at, True
        self.pulling, self.pulled_at, self.facts = True, None, PullFacts()

    def _fail_by_status(self, at: float, message: str, reason: str) -> None:
        attempt = self._failed_attempt(at)
        self._end_attempt(attempt, at, exact=False)
        known = self.failure
        if known and known.attempt == attempt:
            at = known.at  # the time of the event is more precise
        self._set_failure(None, at, message, reason, attempt)
        self._statuses = max(self._statuses, attempt)

    def _end_attempt(self, attempt: int, at: float, *, exact: bool) -> None:
        if attempt > self.attempt:  # the event for the start of this attempt was lost
            self.attempt, self.since, self.since_exact = attempt, at, False
        if exact and not self.since_exact:
            self.since_exact, self.since = True, min(self.since, at)
        self.pulling, self.pulled_at, self._without_pull = False, None, False

    def _is_failure_without_event(self, at: float) -> bool:
        """Return whether a status has reported a failure whose event was lost."""
        known = self.failure
        if known is None or self._statuses <= known.attempt:
            return False
        if self.pulling:
            return at >= self.since + FIRST_BACK_OFF
        sync = 0.0 if self._failed_raw is None else FIRST_BACK_OFF  # the status may report that failure so much later
        return at >= known.at + back_off(known.attempt) + sync

    def _failed_attempt(self, at: float) -> int:
        """Return the number of the attempt that failed at this time."""
        if self.pulling or not self.failure:
            return self.attempt
        # If two reports are closer together than the shortest back-off, they describe the same attempt: one is an
        # event, and the other is the container's status.
        same = at - self.failure.at < FIRST_BACK_OFF
        return max(self.attempt, self.failure.attempt if same else self.failure.attempt + 1)

    def _take_earlier_failure(self, raw: float, at: float, message: str) -> None:
        """Record why the previous attempt failed, unless a newer failure is known."""
        if self.pulled_at is None and (self._failed_raw is None or raw > self._failed_raw):
            self._set_failure(raw, at, message, "ErrImagePull", max(self.attempt - 1, 1))

    def _set_failure(self, raw: float | None, at: float, message: str, waiting_reason: str, attempt: int) -> None:
        reason, message = classify(message, waiting_reason), shorten(message)
        started_at = self.since if self.since_exact and attempt == self.attempt else None
        known = self.failure
        if raw is None and known and known.attempt == attempt:
            raw = self._failed_raw
            if len(known.message) >= len(message):
                reason, message = known.reason, known.message
        self.failure = Failure(reason, message, attempt, at, self._next_try(attempt, at), started_at)
        self._failed_raw = raw

    def _next_try(self, attempt: int, failed_at: float) -> float:
        return next_try(max(failed_at, self._synced_at), attempt, failed_at)

    def _improve_message(self, message: str, waiting_reason: str) -> None:
        """Prefer the longer text, because event messages are truncated after 1,024 characters."""
        known = self.failure
        if known is None or len(message) <= len(known.message):
            return
        if known.reason is ErrorReason.UNKNOWN or message.startswith(known.message.removesuffix("...")):
            self.failure = replace(known, reason=classify(message, waiting_reason), message=message)

    def _count(self, times: int) -> None:
        """Use the kubelet's count of Pulling events, because this count is the best evidence of the
        attempt's number.
        """
        if times <= self.attempt:
            return
        self.attempt = times
        failure = self.failure
        if failure and not self.pulling:
            retry = failure.next_retry_at and self._next_try(times, failure.at)
            self.failure = replace(failure, attempt=times, next_retry_at=retry)
            if self._statuses >= failure.attempt:
                self._statuses = times
