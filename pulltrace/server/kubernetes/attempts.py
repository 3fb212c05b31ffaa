"""One pod asking its kubelet for one image, attempt after attempt.

PURE. Facts come from events and from container statuses, late, twice, in any order, some never. Events carry the node's
clock, in whole seconds; they are ordered among themselves by it (``raw``) and shown by the server's clock (``at``).
"""

import math
from dataclasses import dataclass

from pulltrace.server.kubernetes.errors import FIRST_BACK_OFF, WITHOUT_RETRY, back_off, classify
from pulltrace.wire import ErrorReason, PodCorrelation


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failed attempt to get an image, while it still stands. Times in unix seconds."""

    reason: ErrorReason
    message: str
    attempt: int
    """Which attempt failed, from 1."""
    at: float
    next_retry_at: float | None
    """An estimate from the kubelet's back-off; None when the kubelet will not pull again by itself."""


class ImageRequest:
    """What is known of one pod's asking for one image. Every method takes in one fact, in any order."""

    __slots__ = (
        "_before", "_ended", "_failed_raw", "attempt", "failure", "heard", "pod", "pulled_at", "pulling", "since",
        "started",
    )  # fmt: skip

    def __init__(self, pod: PodCorrelation, since: float, before: int = 0) -> None:
        self.pod = pod
        self._before = before
        """How many of the kubelet's Pulling events, which it counts as long as the pod lives, were of earlier pulls."""
        self.since = since
        self.started = -math.inf  # raw time of the newest Pulling
        self._ended = -math.inf  # raw time of the newest Failed or Pulled
        self._failed_raw: float | None = None  # raw time of what `failure` tells; None when only a status told it
        self.attempt = 1
        self.heard = False
        """The newest attempt is known by events: a status comes late, and tells no beginning."""
        self.pulling = False
        self.failure: Failure | None = None
        self.pulled_at: float | None = None

    def begin(self, raw: float, at: float, times: int) -> None:
        """The kubelet said Pulling, for the ``times``-th time."""
        if raw < self.started:
            return
        if self.pulled_at is not None and raw > max(self.started, self._ended):
            # It was there: the container starts again, and its policy is Always.
            self._before, self.attempt = times - 1, 1
        times -= self._before
        # Kubelet times are whole seconds: a pull that fails at once has both events in one, and Pulling is the first.
        if raw <= self._ended:
            self.started = raw
            self._count(times)
            return
        if raw > self.started:
            before = self.failure
            # A failure that only a status told may be this attempt's own: then only the count says which it is.
            after = before.attempt + (self._failed_raw is not None) if before else 1
            self.attempt = max(times, after)
            self.started, self.since = raw, at
            self.pulling, self.pulled_at, self.heard = True, None, True
        self._count(times)

    def fail(self, raw: float | None, at: float, message: str, waiting_reason: str, times: int = 1) -> None:
        """An attempt failed: the kubelet's event says so, or (``raw`` None) a container's status.

        ``times`` counts failures that read the same, those of earlier pulls as well.
        """
        if raw is not None:
            if raw < self.started:
                self._failed_before(raw, at, message, waiting_reason)
                return
            better = self.failure is not None and self._failed_raw is None
            if raw < self._ended and not better:
                return
            self._ended = max(self._ended, raw)
        attempt = max(1 if self._before else times, self._attempt_that_failed(at))
        if attempt > self.attempt:  # and its beginning was missed
            self.attempt, self.since, self.heard = attempt, at, False
        if raw is not None and not self.heard:
            self.heard, self.since = True, min(self.since, at)
        self.pulling, self.pulled_at = False, None
        known = self.failure
        if raw is None and known and known.attempt == attempt:
            at = known.at  # the event's time is the better one
        self._set_failure(raw, at, message, waiting_reason, attempt)

    def back_off(self, raw: float, at: float, message: str) -> None:
        """The kubelet said that it backs off: of use only when what it backs off from was missed."""
        if self.pulled_at is None and (not self.failure or (self.pulling and raw > self.started)):
            self._ended = max(self._ended, raw)
            self.fail(None, at, message, "ImagePullBackOff")

    def succeed(self, raw: float | None, at: float) -> None:
        """The image is there: the kubelet's event says so, or (``raw`` None) the container has been created."""
        if raw is not None:
            if raw < max(self.started, self._ended):
                return
            self._ended = raw
        if self.pulled_at is None:
            self.pulled_at = at
        self.pulling, self.failure, self._failed_raw = False, None, None

    def _attempt_that_failed(self, at: float) -> int:
        if self.pulling or not self.failure:
            return self.attempt
        # Two reports less than the shortest back-off apart are of one attempt: its event, and the container's status.
        same = at - self.failure.at < FIRST_BACK_OFF
        return max(self.attempt, self.failure.attempt if same else self.failure.attempt + 1)

    def _failed_before(self, raw: float, at: float, message: str, waiting_reason: str) -> None:
        """The failure before the attempt that runs: wanted while nothing better is known of it."""
        if self.pulled_at is None and (self._failed_raw is None or raw > self._failed_raw):
            self._set_failure(raw, at, message, waiting_reason, max(self.attempt - 1, 1))

    def _set_failure(self, raw: float | None, at: float, message: str, waiting_reason: str, attempt: int) -> None:
        retry = None if waiting_reason in WITHOUT_RETRY else at + back_off(attempt)
        reason = classify(message, waiting_reason)
        known = self.failure
        if raw is None and known and known.attempt == attempt:  # a status repeats what is known, at most as well
            raw = self._failed_raw
            if len(known.message) >= len(message):
                reason, message = known.reason, known.message
        self.failure = Failure(reason, message, attempt, at, retry)
        self._failed_raw = raw

    def _count(self, times: int) -> None:
        """The kubelet counts its Pulling events: the best word on which attempt this is."""
        if times <= self.attempt:
            return
        self.attempt = times
        if self.failure and not self.pulling:
            failure = self.failure
            retry = failure.next_retry_at and failure.at + back_off(times)
            self.failure = Failure(failure.reason, failure.message, times, failure.at, retry)
