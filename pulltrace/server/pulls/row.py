"""Everything about an arrival that clients see, except its byte counts: the waiting containers and the earlier
attempts. Sans-I/O.

A row contains what is published about an arrival, and is shared by all of the arrival's attempts. The row only records
facts: ``arrival`` decides which attempt is the newest and how it ended, and ``status`` calculates the figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec import structs

from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.models import EarlierAttempt, PodCorrelation, PullStatus
from pulltrace.server.pulls.clocks import WHOLE_SECONDS
from pulltrace.server.pulls.earlier import failing_since, with_attempt
from pulltrace.server.pulls.image_names import Name
from pulltrace.server.pulls.matching import Attempt
from pulltrace.server.pulls.status import ArrivalContext
from pulltrace.wire import ErrorReason, PullPhase, to_time

MOST_WAITED = 50
"""Maximum number of listed containers that are no longer waiting for the image."""

GIVEN_UP = "no pod waits for it any longer"


@dataclass(slots=True, eq=False)
class Row:
    """The row of one arrival."""

    status: PullStatus | None = None
    """The status as last published."""
    pods: tuple[PodCorrelation, ...] = ()
    """The containers that are waiting for the image now."""
    waited: tuple[PodCorrelation, ...] = ()
    """Containers that were waiting for the image but no longer are."""
    ahead: tuple[str, ...] = ()
    """The images that the node is pulling while this image is queued, in the order in which their pulls started."""
    deleted_ahead: int = 0
    """How many of the pulls ahead in the kubelet's queue belong only to deleted pods."""
    waited_behind: tuple[str, ...] = ()
    """The images that the node was pulling when this image was last queued."""
    earlier: tuple[EarlierAttempt, ...] = ()
    """The most recent attempts before the newest one, oldest first."""
    failing_since: float | None = None
    """The time of the first failure since the last success, or None if this time is unknown."""

    @property
    def is_requested(self) -> bool:
        """Return whether any container is waiting or has waited for the image."""
        return bool(self.pods or self.waited)

    @property
    def waiting_text(self) -> str:
        """Return a suffix for an error message that states how many containers are still waiting."""
        if not self.pods:
            return GIVEN_UP
        count = len(self.pods)
        return "1 container is still waiting" if count == 1 else f"{count} containers are still waiting"

    def note_pods(self, demand: ImageDemand | None) -> None:
        """Record which containers are waiting and which no longer are."""
        pods = demand.pods if demand else ()
        if not (demand or self.pods):
            return
        waiting = {_container_of(pod) for pod in pods}
        earlier = (*self.waited, *self.pods, *(demand.waited if demand else ()))
        known = {_container_of(pod): structs.replace(pod, waiting_reason=None) for pod in earlier}
        self.pods = pods
        self.waited = tuple(pod for container, pod in known.items() if container not in waiting)[-MOST_WAITED:]

    def note_queue(self, since: float, ahead: tuple[str, ...], deleted_requests: Sequence[float]) -> None:
        """Record which images the node is pulling, and how many pulls of deleted pods are ahead of this image.

        The kubelet requested this image at ``since``. ``deleted_requests`` contains the times at which it requested the
        queued pulls of deleted pods.
        """
        self.ahead, self.waited_behind = ahead, ahead or self.waited_behind
        self.deleted_ahead = sum(requested <= since for requested in deleted_requests)

    def note_attempt(self, attempt: Attempt, latest: Attempt | None, *, lacks_cause: bool) -> None:
        """Record the time at which the arrival began to fail. If ``attempt`` follows ``latest``, also store ``latest``.

        ``lacks_cause`` is true if the kubelet may still report why the attempt failed.
        """
        if latest and self.status and attempt.number > latest.number and latest.outcome is PullPhase.FAILED:
            self.earlier = with_attempt(self.earlier, latest, self.status, requested=self.is_requested)
        if attempt.outcome and not lacks_cause:
            self.failing_since = failing_since(self.failing_since, attempt, self.earlier)

    def clear(self) -> None:
        """Drop the recorded containers and failures, because they belong to a different image."""
        self.pods = self.waited = self.earlier = ()
        self.failing_since = None

    def context(self, id_: str, name: Name, attempt: Attempt, ahead: tuple[str, ...]) -> ArrivalContext:
        """Return the facts that ``status`` publishes together with this attempt's figures."""
        failure = attempt.failure
        return ArrivalContext(
            id=id_,
            image=name.image,
            guessed=name.guessed,
            attempt=attempt.number,
            pods=self.pods,
            waited=self.waited,
            registry=name.registry,
            repository=name.repository,
            error=failure.message if failure else None,
            reason=failure.reason if failure else None,
            next_retry_at=failure.retry.expected_at if failure and failure.retry else None,
            ahead=ahead,
            deleted_ahead=self.deleted_ahead,
            failing_since=self.failing_since,
            earlier=self.earlier,
            queued_at=self._queued_at(attempt.number),
        )

    def _queued_at(self, attempt: int) -> datetime | None:
        """Return when the kubelet requested the image, if this attempt was published as queued."""
        before = self.status
        if not before or before.attempt != attempt:
            return None
        return before.started_at if before.status is PullPhase.QUEUED else before.queued_at

    def in_published_second(self, status: PullStatus) -> PullStatus:
        """Once an attempt's end time has been published, later corrections must stay within the same second. Clients
        sort pulls by the second in which they ended.

        The kubelet reports end times only in whole seconds. The agent's precise end time may lie just outside that
        second.
        """
        before, end = self.status, status.completed_at
        if not before or not before.completed_at or not end or before.attempt != status.attempt:
            return status
        if abs(end - before.completed_at) > timedelta(seconds=WHOLE_SECONDS):
            return status
        first = before.completed_at.replace(microsecond=0)
        last = first + timedelta(milliseconds=999)
        return structs.replace(status, completed_at=max(first, min(end, last), status.started_at))

    def given_up(self, now: float) -> PullStatus | None:
        """Return the final status of an attempt whose pull never began. No pod is waiting for the image any longer.

        If the attempt was queued, its ``queued_at`` is its start.
        """
        before = self.status
        return before and structs.replace(
            before,
            status=PullPhase.FAILED,
            completed_at=to_time(now),
            bytes_per_sec=0.0,
            eta_seconds=None,
            error=GIVEN_UP,
            error_reason=ErrorReason.CANCELED,
            pods=None,
            waited=list(self.waited) or None,
            queued_at=self._queued_at(before.attempt),
        )


def _container_of(pod: PodCorrelation) -> tuple[str, str, str, str]:
    return pod.namespace, pod.pod_name, pod.container, pod.image
