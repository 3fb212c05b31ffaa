"""The arrival of one image on one node, with its successive attempts. Sans-I/O.

A ``Pull`` is one attempt, as reported by an agent. An ``ImageDemand`` describes an image that the kubelet needs. Pulls
and demands may arrive late, and in any order. ``Arrival.next_attempt`` decides which attempt is the newest, and
``Arrival.next_status`` turns that attempt into the status to publish. ``row`` contains everything else about the
arrival that clients see. These rules ensure that clients never see the same attempt end twice:

- If an agent or the kubelet reported the end of an attempt, that end does not change after it has been published. If
  another report shows the pull as live, that report is either outdated or refers to the next attempt. ``matching``
  distinguishes these cases.
- If neither the agent nor the kubelet has reported the end of an attempt, the end is inferred, and a later report may
  correct it.
- An unexplained failure becomes a success if the kubelet reports that the image is present. ``correction`` contains
  the rules.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import structs

from pulltrace.server.kubernetes.attempts import Failure
from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.kubernetes.errors import FIRST_BACK_OFF
from pulltrace.server.models import PullStatus
from pulltrace.server.pulls.analysis import Analysis
from pulltrace.server.pulls.clocks import WHOLE_SECONDS
from pulltrace.server.pulls.correction import correction, explained_end
from pulltrace.server.pulls.earlier import is_unexplained
from pulltrace.server.pulls.image_names import Name
from pulltrace.server.pulls.matching import Attempt, Match, Source, is_later, match
from pulltrace.server.pulls.node import Interval, Pull
from pulltrace.server.pulls.row import Row
from pulltrace.server.pulls.status import status_of, status_without_pull
from pulltrace.wire import ErrorReason, PullPhase

REPORT_DUE = 1.2
"""How long, in seconds, to wait for the agent's report after the kubelet has reported that a pull ended.

The kubelet's event usually arrives first, but contains no byte counts.
"""

EXPLAINED_WITHIN = 5.0
"""How long, in seconds, to wait for the kubelet to report why a pull failed."""


@dataclass(slots=True, eq=False)
class Arrival:
    """The arrival of one image. The arrival's id survives a server restart if an agent reports the pull."""

    id: str
    name: Name
    pull: Pull | None = None
    """The newest pull that an agent reported."""
    demand: ImageDemand | None = None
    row: Row = field(default_factory=Row)
    """Everything about the arrival that clients see, except its byte counts."""
    latest: Attempt | None = None
    """The newest attempt, as published."""
    _failed_at: float | None = None
    """When the server first learned of a failure that the kubelet had not explained."""
    held: bool = False
    """True if the next tick must examine the arrival again, because byte counts or the reason for a failure may still
    arrive.
    """
    expires: bool = False
    """True if the arrival is kept only as history. No pod is waiting for the arrival's image, and no agent observed the
    pull.
    """
    _pull_number: int = 0
    """The number of the attempt that ``pull`` belongs to. The first attempt is number 1."""
    _failure: Failure | None = None
    """The kubelet's report of why ``pull`` failed."""
    _arrived_at: float | None = None
    """When the server received the kubelet event that reports the image as present. None if no such event arrived, or
    if an agent has reported the pull.
    """
    _basis: Any = None
    """The values on which the last decision was based, or None if that decision also depended on the time."""

    @property
    def history(self) -> bool:
        """Return whether the pull had ended before this server started."""
        return self.pull is not None and self.pull.history

    @property
    def is_running(self) -> bool:
        """Return whether an agent observes a running pull of the image."""
        return self.pull is not None and self.pull.ended_at is None

    @property
    def is_abandoned(self) -> bool:
        """Return whether containers were waiting for the image but none are waiting now."""
        return self.demand is None and bool(self.row.waited)

    @property
    def intervals(self) -> list[Interval]:
        """Return the phases of the newest attempt if it has ended and its agent observed it."""
        observed = self.latest is not None and self.latest.observed and self.latest.number == self._pull_number
        return self.pull.intervals() if observed and self.pull and self.pull.ended_at is not None else []

    @property
    def recency(self) -> tuple[bool, float]:
        """Return the key that sorts the arrivals of one image by the start of the newest attempt, with running pulls
        last.
        """
        published = self.row.status.started_at.timestamp() if self.row.status else None
        seen = self.pull.started_at if self.pull else None
        began = max((time for time in (published, seen) if time is not None), default=math.inf)
        return self.pull is not None and self.pull.ended_at is None, began

    @property
    def has_completed(self) -> bool:
        """Return whether the image has arrived. If a pod needs the image again later, a new arrival begins."""
        if self.pull and self._is_pull_newest:
            return self.pull.phase is PullPhase.COMPLETED
        return self.latest is not None and self.latest.outcome is PullPhase.COMPLETED

    @property
    def ended_at(self) -> float:
        """Return the end time of the newest attempt, or infinity if it is still running."""
        if self.pull and self.pull.ended_at is not None and self._is_pull_newest:
            return self.pull.ended_at
        ended_at = self.latest.ended_at if self.latest else None
        return math.inf if ended_at is None else ended_at

    @property
    def _started_at(self) -> float:
        """Return the start time of the newest attempt."""
        if self.pull and self._is_pull_newest:
            return self.pull.started_at
        return self.latest.started_at if self.latest else -math.inf

    @property
    def _is_pull_newest(self) -> bool:
        """Return whether ``pull`` is at least as new as the newest published attempt."""
        return self._pull_number >= self._number

    @property
    def _number(self) -> int:
        return self.latest.number if self.latest else 0

    @property
    def _has_ended(self) -> bool:
        return self.latest is not None and self.latest.outcome is not None

    def attach(self, pull: Pull, name: Name) -> None:
        """Make this pull the newest pull of the arrival. If the pull does not belong to the newest attempt, a new
        attempt begins.
        """
        if self.pull and self._is_pull_newest and not self._has_ended and not self.pull.is_only_lease:
            pull.started_at = min(pull.started_at, self.pull.started_at)
            pull.best_percent = max(pull.best_percent, self.pull.best_percent)
        if self.latest and self._has_ended and match(pull, self) is Match.SAME_ATTEMPT:
            self._pull_number = self.latest.number  # keeps the kubelet's reason for the failure
        else:
            self._pull_number, self._failure = self._next_number(pull), None
        if self.pull and self.pull.is_only_lease and self.pull.ended_at is None:
            self.pull.arrival_id = ""  # the lease belonged to another image, or to a container
        elif self.pull:
            self.pull.superseded = True
            self.pull.settle()
        if name.is_full or not self.name.is_full or not name.is_same_image(self.name):
            self.name = name
        self.pull, pull.arrival_id = pull, self.id
        self._failed_at = None

    def continues_without(self, name: Name) -> bool:
        """Return whether the newest pull turned out to belong to a different image, ``name``, while the kubelet is
        still pulling this arrival's image.
        """
        needed = self.demand is not None and self.demand.pulling and not self._has_ended
        return needed and not name.is_unknown and not name.is_same_image(self.name)

    def rename(self, name: Name) -> None:
        """Rename the arrival, because its newest pull turned out to belong to a different image. Drop everything that
        was recorded for the previous image.
        """
        if not name.is_same_image(self.name):
            self.row.clear()
        self.name = name

    def _next_number(self, pull: Pull) -> int:
        """Return the attempt number of a pull that is about to become the newest pull of this arrival."""
        if self._has_ended:
            return self._number + 1
        counted = self.demand.attempt if self.demand and not is_later(self.demand, pull) else 1
        return max(self._number, counted)

    def is_over_for(self, demand: ImageDemand) -> bool:
        """Return whether the demand shows that the image is needed again even though it had already arrived."""
        if not self.has_completed or not demand.requested:
            return False
        if demand.pulled_at is not None and demand.pull_seconds is None:
            return False  # no event has reported that the image was pulled
        needed_at = demand.failure.at if demand.failure and not demand.pulling else demand.since
        return needed_at > self.ended_at + WHOLE_SECONDS

    def is_end_of(self, demand: ImageDemand) -> bool:
        """Return whether the success that the kubelet reported belongs to this arrival."""
        if demand.pulled_at is None or not self.has_completed:
            return False
        return self._started_at - WHOLE_SECONDS <= demand.pulled_at <= self.ended_at + WHOLE_SECONDS

    def explain(self, failure: Failure) -> None:
        """If the agent does not know why an attempt failed, record the reason that the kubelet reported."""
        ended_at = explained_end(self.pull, failure) if self.pull else None
        if self.pull and ended_at is not None:
            self.pull.ended_at, self._failure = ended_at, failure

    def assign(self, demand: ImageDemand) -> None:
        """Assign the demand. While no pull is running, the demand starts at its first request since the last pull."""
        ended_at = self.pull.ended_at if self.pull else -math.inf
        self.demand = demand if ended_at is None else demand.from_first_request(ended_at)

    def note_queue(self, ahead: tuple[str, ...], deleted_requests: Sequence[float]) -> None:
        """If this image is queued, record what is ahead of it in the kubelet's queue (see ``Row.note_queue``)."""
        if self.demand is not None and self.demand.pulling and not self.is_running:
            self.row.note_queue(self.demand.since, ahead, deleted_requests)

    def next_status(
        self, stall_timeout: float, analysis: Analysis, now: float, *, observed: bool, reporting: bool
    ) -> PullStatus | None:
        """Return the status to publish, or None if nothing has changed.

        ``observed`` is false if the node has no agent or the agent is lost. ``reporting`` is true if the agent reports
        on time.
        """
        pull, demand, row = self.pull, self.demand, self.row
        live = pull is not None and pull.ended_at is None
        if live:
            self._basis = None
        else:
            basis = (
                (pull, pull and pull.ended_at, pull and pull.reason),
                (demand, self.name, row.status, self._failure, row.ahead, row.pods, row.waited, observed),
                row.deleted_ahead,
                analysis.progress_of(demand.node) if demand and demand.pulling else 0,
            )
            if basis == self._basis:
                return None
            self._basis = basis
        if pull and demand and not self._failure and self._is_pull_newest and (found := correction(pull, demand)):
            if found.succeeded:
                pull.succeed()
            pull.started_at, pull.ended_at = found.started_at, found.ended_at
        attempt = self.next_attempt(now, reporting=reporting)
        attempt = attempt and self._explained(attempt, now)
        if attempt:
            row.note_attempt(attempt, self.latest, lacks_cause=self._lacks_cause(attempt))
        status = attempt and self._render(attempt, stall_timeout, analysis, now, observed=observed)
        if not attempt or not status:
            return None
        self.latest = attempt
        if attempt.source is Source.KUBELET:
            self._failure = attempt.failure
        if status == row.status:
            return None
        row.status = status
        return status

    def next_attempt(self, now: float, *, reporting: bool) -> Attempt | None:
        """Return the newest attempt.

        Return None if this attempt has been published and has not changed since, or if it must not be published yet
        (``held``).
        """
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
            # the pull did not fail after all, and the kubelet's retry is waiting for this pull
            self._pull_number = latest.number
        if latest and latest.number == self._pull_number and latest.outcome not in (None, pull.phase):
            if latest.outcome is PullPhase.COMPLETED:
                return None
            if latest.source is Source.KUBELET or latest.failure:
                self._pull_number += 1  # the published end is final, so the pull must be the next attempt
        if latest and latest.number == self._pull_number and self.demand and self._is_next(self.demand):
            return None
        if self.demand and pull.ended_at is None and self.demand.pulling and not is_later(self.demand, pull):
            self._pull_number = max(self._pull_number, self.demand.attempt)  # the kubelet's count is now known
        if self._failure and not self.demand:
            self._failure = replace(self._failure, retry=None)  # there will not be another attempt
        failure = self._failure if pull.phase is PullPhase.FAILED else None
        source = Source.INFERRED if pull.presumed and not failure else Source.AGENT
        outcome = pull.phase if pull.ended_at is not None else None
        return Attempt(self._pull_number, source, pull.started_at, pull.ended_at, outcome, failure, observed=True)

    def _requested_attempt(self, demand: ImageDemand) -> Attempt | None:
        """Return an attempt that only the kubelet has reported: a queued, failed or completed attempt that no agent
        observed.
        """
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
        """Return whether to delay publishing this attempt, because the agent is about to report its byte counts.

        The delay begins with the first call after the attempt has completed.
        """
        if attempt.outcome is not PullPhase.COMPLETED:
            self._arrived_at = None
            return False
        if self._arrived_at is None:
            self._arrived_at = now
        return now < self._arrived_at + REPORT_DUE

    def _explained(self, attempt: Attempt, now: float) -> Attempt | None:
        """Turn a failure into a cancellation if the kubelet requested the pull but reported no error in time.

        As long as the kubelet still has time to report an error, return None if the lease may have belonged to a
        different image.
        """
        pull = self.pull
        if not pull or not self._lacks_cause(attempt):
            return attempt
        if self._failed_at is None:
            self._failed_at = now
        if now < self._failed_at + EXPLAINED_WITHIN:
            self.held, self._basis = True, None
            is_unclear = pull.is_only_lease and self.demand is not None and self.demand.pulling
            return None if is_unclear else attempt
        who = self.row.waiting_text
        message = f"cancelled at {pull.best_percent:g} %, without an error from the registry or the node; {who}"
        return structs.replace(
            attempt, failure=Failure(ErrorReason.CANCELED, message, attempt.number, pull.ended_at or now, None)
        )

    def _lacks_cause(self, attempt: Attempt) -> bool:
        """Return whether the kubelet requested this failed attempt but has not yet reported why it failed."""
        pull = self.pull
        if attempt.outcome is not PullPhase.FAILED or not pull or not attempt.observed or attempt.failure:
            return False
        return is_unexplained(pull.reason, pull.error) and not pull.presumed and self.row.is_requested

    def _abandoned_attempt(self, now: float) -> Attempt | None:
        """Return the final state of a requested attempt whose pods were deleted before the pull began."""
        latest = self.latest
        if not latest or latest.outcome or not self.pull or self._pull_number == latest.number:
            return None
        return structs.replace(latest, source=Source.INFERRED, ended_at=now, outcome=PullPhase.FAILED)

    def _is_next(self, demand: ImageDemand) -> bool:
        """Return whether the newest attempt has failed and the kubelet has since reported a new attempt."""
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
        row = self.row
        if attempt.observed and self.pull and attempt.number == self._pull_number:
            context = row.context(self.id, self.name, attempt, row.waited_behind)
            return row.in_published_second(status_of(self.pull, context, stall_timeout, analysis, now))
        if self.demand:
            context = row.context(self.id, self.name, attempt, row.ahead)
            return status_without_pull(self.demand, context, analysis, now, observed=observed)
        return row.given_up(now)
