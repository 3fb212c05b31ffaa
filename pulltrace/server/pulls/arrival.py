"""The arrival of one image on one node, attempt after attempt. Sans-I/O.

A ``Pull`` is one attempt as an agent reports it. An ``ImageDemand`` describes what the kubelet needs. Pulls and demands
may arrive late, and in any order. ``Arrival.next_attempt`` decides which attempt is the newest, and
``Arrival.next_status`` turns it into the status to publish. Clients never see the same attempt end twice:

- A published end is final if an agent or the kubelet reported it. Later reports that show the pull as live are either
  late or belong to the next attempt; ``matching`` decides which.
- An end that neither the agent nor the kubelet has reported is inferred, and a later report may correct it.
- An unexplained failure becomes a success if the kubelet has the image.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from pulltrace.server.kubernetes.attempts import Failure
from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.kubernetes.errors import FIRST_BACK_OFF
from pulltrace.server.models import PodCorrelation, PullStatus
from pulltrace.server.pulls.analysis import Analysis
from pulltrace.server.pulls.image_names import Name
from pulltrace.server.pulls.matching import Attempt, Match, Source, match
from pulltrace.server.pulls.node import REPORT_LATE, WHOLE_SECONDS, Interval, Pull
from pulltrace.server.pulls.status import ArrivalContext, status_of, status_without_pull
from pulltrace.wire import NO_CAUSE, ErrorReason, PullPhase, to_time

REPORT_DUE = 1.2
"""Seconds within which an agent should have reported the end of a pull.

The kubelet's event about this end arrives earlier, but without byte counts.
"""

EXPLAINED_WITHIN = 5.0
"""Seconds within which a kubelet should have reported why a pull failed."""

MOST_WAITED = 50
"""The maximum number of listed containers that no longer wait."""

GIVEN_UP = "no pod waits for it any longer"


@dataclass(slots=True, eq=False)
class Arrival:
    """The arrival of one image. The id survives a restart of the server if an agent reports the pull."""

    id: str
    name: Name
    pull: Pull | None = None
    """The newest pull that an agent reported."""
    demand: ImageDemand | None = None
    pods: tuple[PodCorrelation, ...] = ()
    """The containers that are waiting for the image now."""
    waited: tuple[PodCorrelation, ...] = ()
    """Containers that waited for the image earlier."""
    ahead: tuple[str, ...] = ()
    """The images that the node is pulling while this image is queued, in the order in which their pulls started."""
    waited_behind: tuple[str, ...] = ()
    """The images that this image waited for when it was last queued."""
    latest: Attempt | None = None
    """The newest attempt, as published."""
    status: PullStatus | None = None
    """The status as last published."""
    _failed_at: float | None = None
    """The time at which an agent reported a failure that the kubelet has not reported yet."""
    held: bool = False
    """Whether the end is known but not yet published. The server publishes the end when the agent's report about this
    end is due.
    """
    expires: bool = False
    """Whether the arrival is kept only as history. This is so if no pod waits for the image any longer, and if no agent
    observed the pull.
    """
    _pull_number: int = 0
    """Which attempt ``pull`` is, counted from 1."""
    _failure: Failure | None = None
    """Why ``pull`` failed, according to the kubelet."""
    _arrived_at: float | None = None
    """When the server received the kubelet's event that the image is present. None if there was no such event. Also
    None if an agent has reported the pull.
    """
    _basis: Any = None
    """The facts on which the last decision was based. None if the decision also depended on the time."""

    @property
    def history(self) -> bool:
        """Whether the pull had ended before this server started."""
        return self.pull is not None and self.pull.history

    @property
    def is_abandoned(self) -> bool:
        """Whether containers waited for the image earlier, and no container waits for the image now."""
        return self.demand is None and bool(self.waited)

    @property
    def intervals(self) -> list[Interval]:
        """The phases of the newest attempt, if it has ended and its agent observed it."""
        observed = self.latest is not None and self.latest.observed and self.latest.number == self._pull_number
        return self.pull.intervals() if observed and self.pull and self.pull.ended_at is not None else []

    @property
    def recency(self) -> tuple[bool, float]:
        """The key that sorts one image's arrivals by the start of their newest attempt; running pulls are last."""
        published = self.status.started_at.timestamp() if self.status else None
        seen = self.pull.started_at if self.pull else None
        began = max((time for time in (published, seen) if time is not None), default=math.inf)
        return self.pull is not None and self.pull.ended_at is None, began

    @property
    def has_completed(self) -> bool:
        """Whether the image is present. If a pod needs the image again later, that is another arrival."""
        if self.pull and self._is_pull_newest:
            return self.pull.phase is PullPhase.COMPLETED
        return self.latest is not None and self.latest.outcome is PullPhase.COMPLETED

    @property
    def ended_at(self) -> float:
        """When the newest attempt ended; infinity if it is still running."""
        if self.pull and self.pull.ended_at is not None and self._is_pull_newest:
            return self.pull.ended_at
        ended_at = self.latest.ended_at if self.latest else None
        return math.inf if ended_at is None else ended_at

    @property
    def _started_at(self) -> float:
        """When the newest attempt started."""
        if self.pull and self._is_pull_newest:
            return self.pull.started_at
        return self.latest.started_at if self.latest else -math.inf

    @property
    def _is_pull_newest(self) -> bool:
        """Whether ``pull`` is at least as new as the newest published attempt."""
        return self._pull_number >= self._number

    @property
    def _number(self) -> int:
        return self.latest.number if self.latest else 0

    @property
    def _has_ended(self) -> bool:
        return self.latest is not None and self.latest.outcome is not None

    def attach(self, pull: Pull, name: Name) -> None:
        """Make a pull the newest attempt of this arrival."""
        if self.latest and self._has_ended and match(pull, self) is Match.SAME_ATTEMPT:
            self._pull_number = self.latest.number  # so that the kubelet's reason for the failure is kept
        else:
            self._pull_number, self._failure = self._next_number(pull), None
        if self.pull and self.pull.is_only_lease and self.pull.ended_at is None:
            self.pull.arrival_id = ""  # that lease belonged to another image, or to a container
        elif self.pull:
            self.pull.superseded = True
            self.pull.settle()
        if name.is_full or not self.name.is_full or not name.is_same_image(self.name):
            self.name = name
        self.pull, pull.arrival_id = pull, self.id
        self._failed_at = None

    def continues_without(self, name: Name) -> bool:
        """Return whether the kubelet still needs the arrival's image. The arrival's pull turned out to be for image
        ``name``.
        """
        needed = self.demand is not None and self.demand.pulling
        return needed and not name.is_unknown and not name.is_same_image(self.name)

    def rename(self, name: Name) -> None:
        """Change the arrival's name, because the pull turned out to be for another image. The containers that wait for
        that image may be different ones.
        """
        if not name.is_same_image(self.name):
            self.pods = self.waited = ()
        self.name = name

    def _next_number(self, pull: Pull) -> int:
        if self._has_ended:
            return self._number + 1
        counted = self.demand.attempt if self.demand and not is_later(self.demand, pull) else 1
        return max(self._number, counted)

    def is_over_for(self, demand: ImageDemand) -> bool:
        """Return whether the image has arrived, but the demand shows that it is needed again."""
        if not self.has_completed or not demand.requested:
            return False
        if demand.pulled_at is not None and demand.pull_seconds is None:
            return False  # no event has reported a pull
        needed_at = demand.failure.at if demand.failure and not demand.pulling else demand.since
        return needed_at > self.ended_at + WHOLE_SECONDS

    def is_end_of(self, demand: ImageDemand) -> bool:
        """Return whether an end that the kubelet reported is the end of this arrival."""
        if demand.pulled_at is None or not self.has_completed:
            return False
        return self._started_at - WHOLE_SECONDS <= demand.pulled_at <= self.ended_at + WHOLE_SECONDS

    def explain(self, failure: Failure) -> None:
        """Record the kubelet's reason for a failed attempt. Agents do not know this reason."""
        pull = self.pull
        if not pull or pull.phase is not PullPhase.FAILED or pull.reason not in (None, ErrorReason.UNKNOWN):
            return
        if pull.presumed and pull.ended_at is not None and pull.started_at <= failure.at:
            pull.ended_at = min(pull.ended_at, failure.at)  # the inferred end may be too late
        if pull.started_at - WHOLE_SECONDS <= failure.at <= (pull.ended_at or 0.0) + REPORT_LATE:
            self._failure = failure

    def note_pods(self, demand: ImageDemand | None) -> None:
        """Record which containers are waiting now and which waited earlier."""
        pods = demand.pods if demand else ()
        if not (demand or self.pods):
            return
        waiting = {_container_of(pod) for pod in pods}
        earlier = (*self.waited, *self.pods, *(demand.waited if demand else ()))
        known = {_container_of(pod): structs.replace(pod, waiting_reason=None) for pod in earlier}
        self.pods = pods
        self.waited = tuple(pod for container, pod in known.items() if container not in waiting)[-MOST_WAITED:]

    def note_queue(self, ahead: tuple[str, ...]) -> None:
        """If this image is queued, record which images the node is pulling."""
        queued = self.demand is not None and self.demand.pulling
        if queued and (self.pull is None or self.pull.ended_at is not None):
            self.ahead, self.waited_behind = ahead, ahead or self.waited_behind

    def next_status(
        self, stall_timeout: float, analysis: Analysis, now: float, *, observed: bool, reporting: bool
    ) -> PullStatus | None:
        """Return the status to publish, or None if nothing has changed.

        ``observed`` is false if the node has no agent or the agent is lost. ``reporting`` is true if the agent reports
        in time.
        """
        pull, demand = self.pull, self.demand
        live = pull is not None and pull.ended_at is None
        if live:
            self._basis = None
        else:
            basis = (
                (pull, pull and pull.ended_at, pull and pull.reason),
                (demand, self.name, self.status, self._failure, self.ahead, self.pods, self.waited, observed),
            )
            if basis == self._basis:
                return None
            self._basis = basis
        if pull and demand and not self._failure and self._is_pull_newest:
            correct(pull, demand)
        attempt = self.next_attempt(now, reporting=reporting)
        attempt = attempt and self._explained(attempt, now)
        status = attempt and self._render(attempt, stall_timeout, analysis, now, observed=observed)
        if not attempt or not status:
            return None
        self.latest = attempt
        if attempt.source is Source.KUBELET:
            self._failure = attempt.failure
        if status == self.status:
            return None
        self.status = status
        return status

    def next_attempt(self, now: float, *, reporting: bool) -> Attempt | None:
        """Return the newest attempt. Return None if it is not newer than ``latest``."""
        self.held = False
        attempt = self._observed_attempt()
        if attempt is None and self.demand:
            attempt = self._requested_attempt(self.demand)
            if attempt and reporting and self._is_early(attempt, now):
                self.held, self._basis = True, None
                return None
        if attempt is None and self.demand is None:
            attempt = self._abandoned_attempt(now)
        return attempt

    def _observed_attempt(self) -> Attempt | None:
        """Return the attempt that the agent reports.

        Return None if a newer state of this attempt, or a later attempt, has already been published.
        """
        pull, latest = self.pull, self.latest
        if pull is None:
            return None
        if latest and not self._is_pull_newest:
            if pull.ended_at is not None and pull.phase is not PullPhase.COMPLETED:
                return None
            # the pull did not fail after all, and the kubelet's retry is waiting for it
            self._pull_number = latest.number
        if latest and latest.number == self._pull_number and latest.outcome not in (None, pull.phase):
            if latest.outcome is PullPhase.COMPLETED:
                return None
            self._pull_number += latest.source is Source.KUBELET or latest.failure is not None
        if latest and latest.number == self._pull_number and self.demand and self._is_next(self.demand):
            return None
        if self.demand and pull.ended_at is None and self.demand.pulling and not is_later(self.demand, pull):
            self._pull_number = max(self._pull_number, self.demand.attempt)  # now the kubelet's count is known
        if self._failure and not self.demand:
            self._failure = replace(self._failure, next_retry_at=None)  # there will be no further attempt
        failure = self._failure if pull.phase is PullPhase.FAILED else None
        source = Source.INFERRED if pull.presumed and not failure else Source.AGENT
        outcome = pull.phase if pull.ended_at is not None else None
        return Attempt(self._pull_number, source, pull.started_at, pull.ended_at, outcome, failure, observed=True)

    def _requested_attempt(self, demand: ImageDemand) -> Attempt | None:
        """Return the attempt that only the kubelet reports: queued, failed, or completed without being observed."""
        latest = self.latest
        failure = None if demand.pulling else demand.failure
        if latest is None or not latest.outcome:
            number = max(self._number, demand.attempt)
        elif self._is_next(demand):
            number = max(latest.number + 1, demand.attempt)
        elif latest.outcome is PullPhase.FAILED and failure and not latest.observed:
            number = latest.number  # the same failure, perhaps with a better message
        else:
            return None
        started_at = demand.since if demand.since_exact else -math.inf
        if demand.pulled_at is not None:
            return Attempt(number, Source.KUBELET, started_at, demand.pulled_at, PullPhase.COMPLETED)
        if failure:
            ended_at = max(failure.at, demand.since)
            return Attempt(number, Source.KUBELET, started_at, ended_at, PullPhase.FAILED, failure)
        return Attempt(number, Source.KUBELET, started_at)

    def _is_early(self, attempt: Attempt, now: float) -> bool:
        """Return whether it is too early to publish this attempt, because the agent is about to report its bytes."""
        if attempt.outcome is not PullPhase.COMPLETED:
            self._arrived_at = None
            return False
        if self._arrived_at is None:
            self._arrived_at = now
        return now < self._arrived_at + REPORT_DUE

    def _explained(self, attempt: Attempt, now: float) -> Attempt | None:
        """Turn a failure into a cancellation if the kubelet, which requested the pull, does not report an error in
        time.

        Before that time, return None if the lease that ended may have been another image's.
        """
        pull = self.pull
        if attempt.outcome is not PullPhase.FAILED or not pull or not attempt.observed or attempt.failure:
            return attempt
        is_unexplained = pull.error in (None, NO_CAUSE) and pull.reason is ErrorReason.UNKNOWN
        if pull.presumed or not is_unexplained or not (self.pods or self.waited):
            return attempt
        if self._failed_at is None:
            self._failed_at = now
        if now < self._failed_at + EXPLAINED_WITHIN:
            self.held, self._basis = True, None
            is_unclear = pull.is_only_lease and self.demand is not None and self.demand.pulling
            return None if is_unclear else attempt
        count = len(self.pods)
        waiting = "1 container is still waiting" if count == 1 else f"{count} containers are still waiting"
        who = waiting if self.pods else GIVEN_UP
        message = f"cancelled at {pull.best_percent:g} %, without an error from the registry or the node; {who}"
        return structs.replace(
            attempt, failure=Failure(ErrorReason.CANCELED, message, attempt.number, pull.ended_at or now, None)
        )

    def _abandoned_attempt(self, now: float) -> Attempt | None:
        """Return the end of an attempt that was requested, but whose pods were deleted before its pull began."""
        latest = self.latest
        if not latest or latest.outcome or not self.pull or self._pull_number == latest.number:
            return None
        return structs.replace(latest, source=Source.INFERRED, ended_at=now, outcome=PullPhase.FAILED)

    def _is_next(self, demand: ImageDemand) -> bool:
        """Return whether the newest attempt failed, and the kubelet has reported a later attempt."""
        latest, ended_at = self.latest, self.ended_at
        if not latest or latest.outcome is not PullPhase.FAILED or not demand.requested:
            return False
        if demand.pulled_at is not None:  # the kubelet's own events are in order
            return demand.pulled_at > ended_at + (WHOLE_SECONDS if latest.observed else -WHOLE_SECONDS)
        if demand.since_exact or not demand.failure:
            return demand.since > ended_at + WHOLE_SECONDS
        return demand.failure.at > ended_at + WHOLE_SECONDS + FIRST_BACK_OFF

    def _render(
        self, attempt: Attempt, stall_timeout: float, analysis: Analysis, now: float, *, observed: bool
    ) -> PullStatus | None:
        if attempt.observed and self.pull and attempt.number == self._pull_number:
            context = self._context(attempt, self.waited_behind)
            return status_of(self.pull, context, stall_timeout, analysis, now)
        if self.demand:
            context = self._context(attempt, self.ahead)
            return status_without_pull(self.demand, context, analysis, now, observed=observed)
        return self.status and structs.replace(
            self.status,
            status=PullPhase.FAILED,
            completed_at=to_time(now),
            bytes_per_sec=0.0,
            eta_seconds=None,
            error=GIVEN_UP,
            error_reason=ErrorReason.CANCELED,
            pods=None,
            waited=list(self.waited) or None,
        )

    def _context(self, attempt: Attempt, ahead: tuple[str, ...]) -> ArrivalContext:
        name, failure = self.name, attempt.failure
        return ArrivalContext(
            id=self.id,
            image=name.image,
            guessed=name.guessed,
            attempt=attempt.number,
            pods=self.pods,
            waited=self.waited,
            registry=name.registry,
            repository=name.repository,
            error=failure.message if failure else None,
            reason=failure.reason if failure else None,
            next_retry_at=failure.next_retry_at if failure else None,
            ahead=ahead,
        )


def _container_of(pod: PodCorrelation) -> tuple[str, str, str, str]:
    return pod.namespace, pod.pod_name, pod.container, pod.image


def is_later(demand: ImageDemand, pull: Pull) -> bool:
    """Return whether the kubelet reports an attempt that is later than this pull. The end of this pull may not have
    been reported yet.
    """
    return demand.since > pull.started_at + WHOLE_SECONDS


def correct(pull: Pull, demand: ImageDemand) -> None:
    """Correct a pull from the kubelet's reports. The agent may have missed the end of the pull, guessed the start, or
    reported a failure when the image had arrived.
    """
    if pull.ended_at is None:
        return
    if is_later(demand, pull):
        if pull.presumed:
            pull.ended_at = max(min(pull.ended_at, demand.since - FIRST_BACK_OFF), pull.started_at)
        return
    if demand.pulled_at is None:
        return
    if _proves_success(demand, pull):
        pull.succeed(demand.pulled_at if pull.presumed else pull.ended_at)
    took = demand.pull_seconds
    if took is not None and abs(demand.pulled_at - pull.ended_at) <= WHOLE_SECONDS:
        guessed_early = pull.ended_at - pull.started_at > took + 0.3
        pull.started_at = pull.ended_at - took if guessed_early else pull.started_at


def _proves_success(demand: ImageDemand, pull: Pull) -> bool:
    """Return whether the kubelet's reports prove that a pull succeeded which the agent reported as failed.

    The image may have been removed again since then.
    """
    if pull.phase is not PullPhase.FAILED or pull.reason not in (None, ErrorReason.UNKNOWN):
        return False
    if demand.pulled_at is None or demand.pulled_at < pull.started_at - WHOLE_SECONDS:
        return False
    return demand.since_exact or pull.presumed or demand.pulled_at <= (pull.ended_at or 0.0) + REPORT_LATE
