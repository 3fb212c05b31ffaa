"""One image arriving on one node, attempt after attempt, as people are told of it. PURE.

A *story* is an image's arrival: queued, then pulled, perhaps in several attempts. A ``Pull`` is one attempt as an agent
tells it, a ``ImageDemand`` what the kubelet is after. Both come late and in any order, so what was told decides:

- An end that was told is final. What shows life after it is the next attempt, or its report was late; a pull that still
  lives when no report can be that late is the next one.
- An end that nobody saw is a conclusion of ours, and may be undone by who did see.
"""

import math
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from msgspec import structs

from pulltrace.server.kubernetes.attempts import Failure
from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.kubernetes.errors import FIRST_BACK_OFF
from pulltrace.server.pulls.analysis import Analysis
from pulltrace.server.pulls.image_names import WHOLE_SECONDS, Name
from pulltrace.server.pulls.node import Pull
from pulltrace.server.pulls.status import ArrivalContext, status_of, status_without_pull
from pulltrace.wire import ErrorReason, PodCorrelation, PullPhase, PullStatus, to_time

REPORT_LATE = 8.0
"""Seconds for which a report may have been under way. What is told to live later than that does."""

GIVEN_UP = "no pod waits for it any longer"


class Match(Enum):
    """What a pull that has no story yet is to one."""

    NEXT_ATTEMPT = "next attempt"
    SAME_ATTEMPT = "same attempt"
    EARLIER_ATTEMPT = "earlier attempt"
    UNDECIDED = "undecided"
    UNRELATED = "unrelated"


@dataclass(slots=True, eq=False)
class Arrival:
    """Ids outlive a restart of the server where an agent knows the pull."""

    id: str
    name: Name
    pull: Pull | None = None
    """The newest attempt that an agent saw."""
    demand: ImageDemand | None = None
    pods: tuple[PodCorrelation, ...] = ()
    """Who waits; of an ended story, who waited."""
    status: PullStatus | None = None
    """As last told."""
    ahead: tuple[str, ...] = ()
    """The images that the node is pulling while this one is queued, the oldest pull first."""
    waited_behind: tuple[str, ...] = ()
    """The last images that were ahead of it."""
    _number: int = 0
    """Which attempt ``pull`` is."""
    _seen: int = 0
    """The newest attempt that was told as an agent saw it."""
    _begun: float = -math.inf
    """When the attempt began that only the kubelet told of, where it was heard to begin it."""
    _presumed: bool = False
    """The end that was told is our conclusion: whoever saw may undo it."""
    _failure: Failure | None = None
    """What the kubelet said of why ``pull`` failed."""
    _basis: Any = None
    """What was looked at last, while nothing of it moves by itself."""

    @property
    def history(self) -> bool:
        """All of it had ended before this server began."""
        return self.pull is not None and self.pull.history

    @property
    def recency(self) -> tuple[bool, float]:
        """Orders stories of one image: those with a pull that runs come last, then by when the newest attempt began."""
        told = self.status.started_at.timestamp() if self.status else None
        seen = self.pull.started_at if self.pull else None
        began = max((time for time in (told, seen) if time is not None), default=math.inf)
        return self.pull is not None and self.pull.ended_at is None, began

    @property
    def has_completed(self) -> bool:
        """The image is there. If it is wanted again, that is another story."""
        if self.pull and self._number >= self._attempt:
            return self.pull.phase is PullPhase.COMPLETED
        return self.status is not None and self.status.status is PullPhase.COMPLETED

    def match(self, pull: Pull) -> Match:
        """What this pull, which has no story yet, is to this one."""
        told, before = self.status, self.pull
        if before and (before.phase is not PullPhase.FAILED or (before.ended_at or 0.0) > pull.started_at + 1.0):
            return Match.UNRELATED
        if not told or (self._seen == told.attempt and told.status is not PullPhase.COMPLETED):
            return Match.NEXT_ATTEMPT
        if self._seen == told.attempt:
            return Match.UNRELATED
        # All that is known of the newest attempt is the kubelet's word.
        if pull.ended_at is None:
            return self._match_live(pull, told)
        return self._match_ended(pull, pull.ended_at, told)

    def _match_live(self, pull: Pull, told: PullStatus) -> Match:
        """It lived when it was last told."""
        seen_at = pull.seen_at or pull.started_at
        if self._presumed:
            return Match.SAME_ATTEMPT
        if told.status.ended:
            late = pull.started_at <= self._ended_at + WHOLE_SECONDS and seen_at <= self._ended_at + REPORT_LATE
            return Match.UNDECIDED if late else _after(told)
        before = pull.started_at < self._begun - WHOLE_SECONDS and seen_at <= self._begun + REPORT_LATE
        return Match.UNDECIDED if before else Match.NEXT_ATTEMPT

    def _match_ended(self, pull: Pull, ended_at: float, told: PullStatus) -> Match:
        if (pull.started_at if pull.presumed else ended_at) < self._begun - WHOLE_SECONDS:
            return Match.EARLIER_ATTEMPT if pull.phase is PullPhase.FAILED else Match.UNRELATED
        if not told.status.ended:
            return Match.NEXT_ATTEMPT
        if self._presumed:
            return Match.SAME_ATTEMPT
        if pull.presumed:
            return Match.SAME_ATTEMPT if pull.started_at <= self._ended_at + WHOLE_SECONDS else _after(told)
        same = pull.phase is told.status and ended_at <= self._ended_at + WHOLE_SECONDS
        return Match.SAME_ATTEMPT if same else _after(told)

    def attach(self, pull: Pull, name: Name) -> None:
        """The pull is its newest attempt."""
        told = self.status
        if told and told.status.ended and self.match(pull) is Match.SAME_ATTEMPT:
            self._number = told.attempt  # and the kubelet has said why it failed
        else:
            self._number, self._failure = self._next_number(pull), None
        if self.pull:
            self.pull.superseded = True
            self.pull.settle()
        if name.is_full or not self.name.is_full or not name.is_same_image(self.name):
            self.name = name
        self.pull, pull.arrival_id = pull, self.id

    def _next_number(self, pull: Pull) -> int:
        if self.status and self.status.status.ended:
            return self._attempt + 1
        counted = self.demand.attempt if self.demand and not _is_later(pull, self.demand) else 1
        return max(self._attempt, counted)

    def is_over_for(self, demand: ImageDemand) -> bool:
        """The image came, and this want is for it once more."""
        if not self.has_completed or not demand.asked or demand.pulled_at is not None:
            return False
        return (
            demand.since if demand.pulling or not demand.failure else demand.failure.at
        ) > self._ended_at + WHOLE_SECONDS

    def is_end_of(self, demand: ImageDemand) -> bool:
        """The image came by this one, and that is what the kubelet says."""
        return (
            demand.pulled_at is not None and self.has_completed and demand.pulled_at <= self._ended_at + WHOLE_SECONDS
        )

    def explain(self, failure: Failure) -> None:
        """The kubelet's word on why an attempt failed. Agents cannot know it."""
        pull = self.pull
        if not pull or pull.phase is not PullPhase.FAILED or pull.reason not in (None, ErrorReason.UNKNOWN):
            return
        if pull.presumed and pull.ended_at is not None and pull.started_at <= failure.at:
            pull.ended_at = min(pull.ended_at, failure.at)  # when we concluded it is not when it was
        if pull.started_at - WHOLE_SECONDS <= failure.at <= (pull.ended_at or 0.0) + REPORT_LATE:
            self._failure = failure

    def tell(self, stall_timeout: float, analysis: Analysis, now: float) -> PullStatus | None:
        """What there is to tell that was not told yet."""
        pull, demand = self.pull, self.demand
        live = pull is not None and pull.ended_at is None
        basis = (
            (pull, pull and pull.ended_at, pull and pull.reason),
            (demand, self.name, self.status, self._failure, self.ahead),
        )
        if not live and basis == self._basis:
            return None
        self._basis = basis
        if pull and demand and pull.presumed and not self._failure and self._number >= self._attempt:
            _correct(pull, demand)
        status = (
            (pull and self._of_pull(pull, stall_timeout, analysis, now))
            or (demand and self._of_want(demand, analysis, now))
            or (not demand and self._given_up(now))
        )
        if not status or status == self.status:
            return None
        self.status = status
        return status

    def _of_pull(self, pull: Pull, stall_timeout: float, analysis: Analysis, now: float) -> PullStatus | None:
        """The attempt as its agent tells it. None when people know more of it, or of a later one, already."""
        told = self.status
        if self._number < self._attempt and (pull.ended_at is None or pull.phase is PullPhase.COMPLETED):
            self._number = self._attempt  # it had not failed after all, and a kubelet that asks again waits for it
        if self._number < self._attempt:
            return None
        if told and told.attempt == self._number and told.status.ended and pull.phase is not told.status:
            if told.status is PullPhase.COMPLETED:
                return None
            if not self._presumed:
                self._number += 1
        if self._number == self._attempt and self.demand and self._is_next(self.demand):
            return None
        self._seen = self._number
        if self._failure and not self.demand:
            self._failure = replace(self._failure, next_retry_at=None)  # nobody will try again
        failure = self._failure if pull.phase is PullPhase.FAILED else None
        self._presumed = pull.presumed and not failure
        return status_of(pull, self._told(self._number, failure, self.waited_behind), stall_timeout, analysis, now)

    def _of_want(self, demand: ImageDemand, analysis: Analysis, now: float) -> PullStatus | None:
        """What the kubelet alone can tell: that the image is queued, could not be had, or came unseen."""
        told = self.status
        failure = None if demand.pulling else demand.failure
        if not told or not told.status.ended:
            attempt = max(self._attempt, demand.attempt)
        elif self._is_next(demand):
            attempt = max(self._attempt + 1, demand.attempt)
        elif told.status is PullPhase.FAILED and failure and self._seen < self._attempt:
            attempt = self._attempt  # said once more, and better perhaps
        else:
            return None
        self._presumed, self._failure = False, failure
        self._begun = demand.since if demand.heard else -math.inf
        return status_without_pull(demand, self._told(attempt, failure, self.ahead), analysis, now)

    def _given_up(self, now: float) -> PullStatus | None:
        """The kubelet asked again, and before anything came of it the pods were gone."""
        told = self.status
        if not told or told.status.ended or not self.pull or self._number == told.attempt:
            return None
        self._presumed = True
        return structs.replace(
            told,
            status=PullPhase.FAILED,
            completed_at=to_time(now),
            bytes_per_sec=0.0,
            eta_seconds=None,
            error=GIVEN_UP,
            error_reason=ErrorReason.UNKNOWN,
        )

    @property
    def _attempt(self) -> int:
        return self.status.attempt if self.status else 0

    @property
    def _ended_at(self) -> float:
        """When the newest attempt ended."""
        if self.pull and self.pull.ended_at is not None and self._number >= self._attempt:
            return self.pull.ended_at
        ended_at = self.status.completed_at if self.status else None
        return ended_at.timestamp() if ended_at else math.inf

    def _is_next(self, demand: ImageDemand) -> bool:
        """The newest attempt was told to have failed, and the kubelet speaks of one after it."""
        told, ended_at = self.status, self._ended_at
        if not told or told.status is not PullPhase.FAILED or not demand.asked:
            return False
        if demand.pulled_at is not None:  # what the kubelet said of both stands in order
            return demand.pulled_at > ended_at + (WHOLE_SECONDS if self._seen == told.attempt else -WHOLE_SECONDS)
        if demand.heard or not demand.failure:
            return demand.since > ended_at + WHOLE_SECONDS
        return demand.failure.at > ended_at + WHOLE_SECONDS + FIRST_BACK_OFF

    def _told(self, attempt: int, failure: Failure | None, ahead: tuple[str, ...]) -> ArrivalContext:
        name = self.name
        return ArrivalContext(
            id=self.id,
            image=name.image,
            guessed=name.guessed,
            attempt=attempt,
            pods=self.pods,
            registry=name.registry,
            repository=name.repository,
            error=failure.message if failure else None,
            reason=failure.reason if failure else None,
            next_retry_at=failure.next_retry_at if failure else None,
            ahead=ahead,
        )


def _after(told: PullStatus) -> Match:
    """What comes after an end."""
    return Match.UNRELATED if told.status is PullPhase.COMPLETED else Match.NEXT_ATTEMPT


def _is_later(pull: Pull, demand: ImageDemand) -> bool:
    """The kubelet speaks of an attempt after this pull, whose end its agent has perhaps not told yet."""
    return demand.since > pull.started_at + WHOLE_SECONDS


def _correct(pull: Pull, demand: ImageDemand) -> None:
    """Its agent missed the end, and we took it for a failure when we noticed. The kubelet may know more."""
    if pull.ended_at is None:
        return
    if _is_later(pull, demand):
        pull.ended_at = max(min(pull.ended_at, demand.since - FIRST_BACK_OFF), pull.started_at)
    elif demand.pulled_at is not None and pull.phase is PullPhase.FAILED:
        pull.came(demand.pulled_at)
