"""One pod's request for one image, across all attempts. Sans-I/O.

Theory of operation
===================

The input consists of kubelet events and container statuses. Events and statuses may be late, duplicated or out of
order, and some of them never arrive. Events contain the node's time in whole seconds. A node's events are ordered by
the node's time (``raw``), but users see the server's time (``at``). ``ImageRequest`` remembers the last start
(``Pulling``) and the last end (``Failed`` or ``Pulled``) that events reported. Each new event is compared with these
two:

=========  ==========================  =============================  ======================================
event      before the last start       before the last end            after both
=========  ==========================  =============================  ======================================
Pulling    ignored                     sets the start of the          starts the next attempt
                                       attempt that ended
Failed     sets the failure of the     ignored, unless only a status  ends the attempt; if none is running,
           previous attempt            has reported this failure      its Pulling event was lost
Pulled     ignored                     ignored                        the image is present
=========  ==========================  =============================  ======================================

If two events have the same time, ``Pulling`` comes before ``Failed`` and ``Pulled``.

A kubelet writes the ``ErrImagePull`` status at the pod's next sync, at least ten seconds after the event. If the
kubelet is pulling a different image for the same pod at that time, the status arrives even later. A status therefore
usually repeats a failure that events have already reported. A status counts as a separate failure only if statuses have
reported more failures than events have *and* the kubelet has had time for another attempt. An event about a failure may
be lost, because kubelets limit how many events they send.

``InvalidImageName``, ``ErrImageNeverPull`` and ``ImageInspectError`` do not count as attempts, however many times they
are reported, because the kubelet does not try to pull anything.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum

from pulltrace.server.kubernetes.errors import (
    FIRST_BACK_OFF,
    WITHOUT_PULL,
    WITHOUT_RETRY,
    Retry,
    about,
    back_off,
    cause_of,
    classify,
    next_retry,
    retry_at_next_sync,
    shorten,
)
from pulltrace.server.models import PodCorrelation
from pulltrace.wire import ErrorReason

STATUS_LATE = 30.0
"""How long after an event, in seconds, a container status may still describe an earlier attempt."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failed attempt to pull an image. Times are in Unix seconds."""

    reason: ErrorReason
    message: str
    attempt: int
    """The number of the attempt that failed, counted from 1."""
    at: float
    retry: Retry | None
    """The kubelet's next retry, estimated from its back-off. None if the kubelet will not retry on its own."""
    started_at: float | None = None
    """When the kubelet began the failed attempt, or None if no event reported the start."""
    first_at: float | None = None
    """The time of the first failure since the last success, or None if no event reported it."""


@dataclass(frozen=True, slots=True)
class PullFacts:
    """A pull's duration and image size, taken from the kubelet's message about the successful pull."""

    seconds: float | None = None
    """The duration of the pull, excluding the time spent in the kubelet's queue."""
    image_bytes: int | None = None


class Position(Enum):
    """How an event's time compares with the times of the last start and the last end."""

    BEFORE_START = "before the last start"
    BEFORE_END = "before the last end"
    AFTER_BOTH = "after both"


class ImageRequest:
    """One pod's request for one image. Each ``take_*`` method processes an event or a status. Events and statuses may
    arrive in any order.
    """

    __slots__ = (
        "_before_restart",
        "_earlier_pulls",
        "_end",
        "_failed_raw",
        "_failing_since",
        "_last_status",
        "_present_raw",
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
        """True if ``since`` is the start of the newest attempt and comes from an event.

        A status never provides the start time, because statuses arrive late.
        """
        self.attempt = 1
        self.pulling = False
        self.abandoned = False
        """True if the pod was deleted during the pull.

        The kubelet does not cancel the pull of a deleted pod, even if the pull is still queued.
        """
        self.failure: Failure | None = None
        self.pulled_at: float | None = None
        self.facts = PullFacts()
        self.start = -math.inf  # raw time of the newest Pulling event
        self._end = -math.inf  # raw time of the newest Failed or Pulled event
        self._failed_raw: float | None = None  # raw time of `failure`; None if it is known only from a status
        self._failing_since: float | None = None  # time of the first failed attempt since the last success
        self._present_raw = -math.inf  # raw time of the last event before the image was present
        self._earlier_pulls = earlier_pulls  # how many of the counted Pulling events belong to earlier pulls
        self._before_restart = 0  # how many attempts the kubelet made before its last restart
        self._statuses = 0  # how many failures statuses have reported
        self._last_status = ("", "")
        self._synced_at = -math.inf  # when the kubelet last synced the pod but had to wait before retrying
        self._without_pull = False  # whether `failure` does not count as an attempt

    @property
    def is_assumed(self) -> bool:
        """Return whether the creation of the container is the only evidence of the request."""
        return self.pulled_at is not None and max(self.start, self._end) == -math.inf and not self._last_status[0]

    def position(self, raw: float, *, starts: bool = False) -> Position:
        """Compare an event's time with the times of the last start and the last end. ``starts`` is true for Pulling
        events.
        """
        if raw < self.start:
            return Position.BEFORE_START
        if raw < self._end or (starts and raw == self._end):
            return Position.BEFORE_END
        return Position.AFTER_BOTH

    def take_pulling(self, raw: float, at: float, times: int) -> None:
        """Process a Pulling event. ``times`` is how many times the kubelet has emitted this event for the pod."""
        if self._earlier_pulls and self.start == -math.inf:
            self._present_raw = raw - 1.0  # no failure is known, so the earlier pulls succeeded
        position = self.position(raw, starts=True)
        if position is Position.BEFORE_START:
            return
        if self.pulled_at is not None and position is Position.AFTER_BOTH and raw > self.start:
            # The image was already present: a container whose pull policy is Always is restarting.
            self._earlier_pulls, self.attempt, self._statuses = times - 1, 1, 0
        times -= self._earlier_pulls
        if position is Position.BEFORE_END:
            self.start = raw
        elif raw > self.start:
            self._start_attempt(raw, at, times)
        self._count(times)

    def take_failed(
        self,
        raw: float,
        at: float,
        message: str,
        times: int = 1,
        *,
        listed: bool = False,
        first: float | None = None,
    ) -> None:
        """Process a Failed event. ``times`` is how many times the kubelet has emitted the event with this text,
        including for earlier pulls. ``first`` is the raw time at which this event was first emitted.

        ``listed`` is true if the event was read from a list rather than a watch. The container's current status then
        describes the same failure.
        """
        self._note_failing(raw, at, first)
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
            self._statuses = attempt  # the status already has this reason, so it will not change again
        self._end_attempt(attempt, at, exact=True)
        self._set_failure(raw, at, message, "ErrImagePull", attempt)

    def take_refusal(self, raw: float | None, at: float, message: str, reason: str, first: float | None = None) -> None:
        """Process a failure that occurred before the kubelet called containerd. If ``raw`` is None, the failure
        comes from a container status; otherwise, it comes from an event.
        """
        if raw is not None:
            self._note_failing(raw, at, first)
            if self.position(raw) is not Position.AFTER_BOTH:
                return
            self._end = raw
        self.since = min(self.since, at)  # after a restart, the server sees the status before the event
        known = self.failure
        retry = None if reason in WITHOUT_RETRY else retry_at_next_sync(at)
        if known and self._without_pull:
            retry = max(known.retry, retry) if known.retry and retry else retry
            self.failure = replace(known, at=min(known.at, at), retry=retry, first_at=self._failing_since)
            return
        self.pulling, self.pulled_at, self._without_pull = False, None, True
        self.failure = Failure(
            classify(message, reason), shorten(message), self.attempt, at, retry, first_at=self._failing_since
        )
        self._failed_raw = raw

    def take_back_off(self, raw: float, at: float, message: str) -> None:
        """Process a BackOff event: the kubelet synced the pod, but it was too early to retry."""
        self._synced_at = max(self._synced_at, at)
        failure = self.failure
        lost = failure is None or (self.pulling and raw > self.start)
        if self.pulled_at is None and lost:
            self._end = max(self._end, raw)
            self._fail_by_status(at, message, "ImagePullBackOff")
        elif failure and not self.pulling and failure.retry:
            self.failure = replace(failure, retry=self._next_retry(failure.attempt, failure.at))

    def take_status(self, at: float, reason: str, message: str) -> bool:
        """Process the waiting state in a container's status. Return whether the request has changed."""
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
        if not backs_off or about(message)[1]:  # old kubelets do not repeat the cause while backing off
            self._improve_message(cause_of(message), reason)
        return self.failure != before

    def take_pulled(self, raw: float, at: float, facts: PullFacts) -> bool:
        """Process a Pulled event. Return whether the request has changed."""
        if self.position(raw) is not Position.AFTER_BOTH:
            return False
        self._end = raw
        self.facts = facts
        return self._succeed(at)

    def take_created(self, at: float) -> bool:
        """Record that the container has been created, which means that the image is present. Return whether the request
        has changed.
        """
        return self.pulled_at is None and self._succeed(at)

    def _succeed(self, at: float) -> bool:
        if self.pulled_at is None:
            self.pulled_at = at
        self.pulling, self.failure, self._failed_raw, self._without_pull = False, None, None, False
        self._failing_since, self._present_raw = None, max(self.start, self._end)
        return True

    def _note_failing(self, raw: float, at: float, first: float | None) -> None:
        """Record a failure, and keep the time of the first failure since the last success."""
        if raw <= self._present_raw:
            return
        if first is not None and self._present_raw < first < raw:
            at -= raw - first
        if self._failing_since is None or at < self._failing_since:
            self._failing_since = at
            if self.failure:
                self.failure = replace(self.failure, first_at=at)

    def _start_attempt(self, raw: float, at: float, times: int) -> None:
        before = self.failure
        # A failure known only from a status may belong to this attempt. In that case, the count in the event determines
        # the attempt's number.
        after = before.attempt + (self._failed_raw is not None and not self._without_pull) if before else 1
        self.attempt = max(times, after)
        if times <= 1:  # a restarted kubelet counts its events from 1 again, and has forgotten its back-off
            self._before_restart = self.attempt - 1
        self.start, self.since, self.since_exact = raw, at, True
        self.pulling, self.pulled_at, self.facts = True, None, PullFacts()

    def _fail_by_status(self, at: float, message: str, reason: str) -> None:
        attempt = self._failed_attempt(at)
        self._end_attempt(attempt, at, exact=False)
        known = self.failure
        if known and known.attempt == attempt:
            at = known.at  # the event's time is more precise
        self._set_failure(None, at, message, reason, attempt)
        self._statuses = max(self._statuses, attempt)

    def _end_attempt(self, attempt: int, at: float, *, exact: bool) -> None:
        if attempt > self.attempt:  # this attempt's Pulling event was lost
            self.attempt, self.since, self.since_exact = attempt, at, False
        if exact and not self.since_exact:
            self.since_exact, self.since = True, min(self.since, at)
        self.pulling, self.pulled_at, self._without_pull = False, None, False

    def _is_failure_without_event(self, at: float) -> bool:
        """Return whether a failure status that arrives at time ``at`` reports a failure whose event was lost."""
        known = self.failure
        if known is None or self._statuses <= known.attempt:
            return False
        if self.pulling:
            return at >= self.since + FIRST_BACK_OFF
        sync = 0.0 if self._failed_raw is None else FIRST_BACK_OFF  # maximum delay of a status after its event
        return at >= known.at + back_off(self._tries(known.attempt)) + sync

    def _failed_attempt(self, at: float) -> int:
        """Return the number of the attempt that failed at time ``at``."""
        if self.pulling or not self.failure:
            return self.attempt
        # An event and a status that are closer together than the shortest back-off describe the same attempt.
        same = at - self.failure.at < FIRST_BACK_OFF
        return max(self.attempt, self.failure.attempt if same else self.failure.attempt + 1)

    def _take_earlier_failure(self, raw: float, at: float, message: str) -> None:
        """Record why the previous attempt failed, unless a newer failure is known."""
        if self.pulled_at is None and (self._failed_raw is None or raw > self._failed_raw):
            self._set_failure(raw, at, message, "ErrImagePull", max(self.attempt - 1, 1))

    def _set_failure(self, raw: float | None, at: float, message: str, waiting_reason: str, attempt: int) -> None:
        reason, message = classify(message, waiting_reason), shorten(message)
        is_start_known = self.since_exact and attempt == self.attempt and (self.since < at or self.start == raw)
        started_at = self.since if is_start_known else None
        known = self.failure
        if raw is None and known and known.attempt == attempt:
            raw = self._failed_raw
            if len(known.message) >= len(message):
                reason, message = known.reason, known.message
        retry = self._next_retry(attempt, at)
        self.failure = Failure(reason, message, attempt, at, retry, started_at, self._failing_since)
        self._failed_raw = raw

    def _next_retry(self, attempt: int, failed_at: float) -> Retry:
        return next_retry(max(failed_at, self._synced_at), self._tries(attempt), failed_at)

    def _tries(self, attempt: int) -> int:
        """Return how many attempts the kubelet has made since it started, up to the given attempt."""
        return max(attempt - self._before_restart, 1)

    def _improve_message(self, message: str, waiting_reason: str) -> None:
        """Use the longer of two messages, because event messages are truncated to 1,024 characters."""
        known = self.failure
        if known is None or len(message) <= len(known.message):
            return
        if known.reason is ErrorReason.UNKNOWN or message.startswith(known.message.removesuffix("...")):
            self.failure = replace(known, reason=classify(message, waiting_reason), message=message)

    def _count(self, times: int) -> None:
        """Derive the attempt's number from its most reliable source, the kubelet's count of Pulling events."""
        if times <= self.attempt:
            return
        self.attempt = times
        failure = self.failure
        if failure and not self.pulling:
            retry = failure.retry and self._next_retry(times, failure.at)
            self.failure = replace(failure, attempt=times, retry=retry)
            if self._statuses >= failure.attempt:
                self._statuses = times
