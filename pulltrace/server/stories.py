"""One image arriving on one node, attempt after attempt, as people are told of it. PURE.

A *story* is an image's arrival: queued, then pulled, perhaps in several attempts. A ``Pull`` is one attempt as an agent
tells it, a ``Want`` what the kubelet is after. Both come late and in any order, so what was told decides:

- An attempt that was told to have ended has ended. What comes to life after that is the next one, or was late.
- Which of the two, its beginning tells: a kubelet waits ten seconds at least before it tries again.
- An end that nobody saw is a conclusion of ours, and may be undone by who did see.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from pulltrace.server.failures import FIRST_BACK_OFF
from pulltrace.server.naming import Name
from pulltrace.server.nodes import Pull
from pulltrace.server.pods import Failure, Want
from pulltrace.server.status import Told, status_of, status_without_pull
from pulltrace.wire import ErrorReason, PodCorrelation, PullPhase, PullStatus

NEXT_ATTEMPT = 2.0
"""Seconds after an attempt's end from which a beginning is another's. Kubelets count in whole seconds."""


@dataclass(slots=True, eq=False)
class Story:
    """Ids outlive a restart of the server where an agent knows the pull."""

    id: str
    name: Name
    pull: Pull | None = None
    """The newest attempt that an agent saw."""
    want: Want | None = None
    pods: tuple[PodCorrelation, ...] = ()
    """Who waits; of an ended story, who waited."""
    status: PullStatus | None = None
    """As last told."""
    _pull_attempt: int = 0
    """Which attempt ``pull`` is; 0 until that is known."""
    _seen_attempt: int = 0
    """The newest attempt that an agent saw."""
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
        if self.pull and self._pull_attempt >= self._attempt:
            return self.pull.phase is PullPhase.COMPLETED
        return self.status is not None and self.status.status is PullPhase.COMPLETED

    def continues_with(self, pull: Pull) -> bool:
        """It waits for such a pull: none has begun, the one before failed, or the kubelet told all of it already."""
        before = self.pull
        if self.has_completed:
            return self._seen_attempt < self._attempt and not self._is_after(pull.started_at)
        if before is None:
            return True
        return before.phase is PullPhase.FAILED and (before.ended_at or 0.0) <= pull.started_at + 1.0

    def is_over_for(self, want: Want) -> bool:
        """The image came, and this want is for it once more."""
        return self.has_completed and want.asked and want.pulled_at is None and self._is_after(want.since)

    def is_end_of(self, want: Want) -> bool:
        """The image came by this one, and that is what the kubelet says."""
        return want.pulled_at is not None and self.has_completed and not self._is_after(want.pulled_at)

    def explain(self, failure: Failure) -> None:
        """The kubelet's word on why an attempt failed. Agents cannot know it."""
        pull = self.pull
        if not pull or pull.phase is not PullPhase.FAILED or pull.reason not in (None, ErrorReason.UNKNOWN):
            return
        if pull.presumed and pull.ended_at is not None and pull.started_at <= failure.at:
            pull.ended_at = min(pull.ended_at, failure.at)  # when we concluded it is not when it was
        if pull.started_at - NEXT_ATTEMPT <= failure.at and not self._is_after(failure.at):
            self._failure = failure

    def attach(self, pull: Pull, name: Name) -> None:
        """The pull is its newest attempt."""
        if self.pull:
            self.pull.superseded = True
            self.pull.settle()
        if pull.story_id != self.id:  # else it is back, under a better name
            self._pull_attempt, self._failure = 0, None
        if name.is_full or not self.name.is_full or not name.is_same_image(self.name):
            self.name = name
        self.pull, pull.story_id = pull, self.id

    def tell(self, stall_timeout: float, now: float) -> PullStatus | None:
        """What there is to tell that was not told yet."""
        pull, want = self.pull, self.want
        live = pull is not None and pull.ended_at is None
        basis = (pull, pull and pull.ended_at, pull and pull.reason, want, self.name, self.status, self._failure)
        if not live and basis == self._basis:
            return None
        self._basis = basis
        if pull and want and pull.presumed and pull.ended_at is not None:
            _correct(pull, want)
        status = (pull and self._of_pull(pull, stall_timeout, now)) or (want and self._of_want(want))
        if not status or status == self.status:
            return None
        self.status = status
        return status

    def _of_pull(self, pull: Pull, stall_timeout: float, now: float) -> PullStatus | None:
        """The attempt as its agent tells it. None when people know more of it, or of a later one, already."""
        self._number(pull)
        told, attempt = self.status, self._pull_attempt
        if attempt < self._attempt:
            return None
        if told and told.attempt == attempt and told.status.ended:
            if pull.ended_at is None and not self._presumed:
                return None  # the report was long under way
            if told.status is PullPhase.COMPLETED is not pull.phase or (self.want and self._is_next(self.want)):
                return None
        self._seen_attempt = attempt
        if self._failure and not self.want:
            self._failure = replace(self._failure, next_retry_at=None)  # nobody will try again
        failure = self._failure if pull.phase is PullPhase.FAILED else None
        self._presumed = pull.presumed and not failure
        return status_of(pull, self._told(attempt, failure), stall_timeout, now)

    def _number(self, pull: Pull) -> None:
        """Which attempt is it?"""
        told, want, known = self.status, self.want, self._pull_attempt
        if known and known < self._attempt:
            return
        if not told or not told.status.ended:
            if pull.ended_at is None or not known:
                counted = want.attempt if want and not _is_later(pull, want) else 1
                self._pull_attempt = max(self._attempt, counted)
        elif not known and told.attempt > 1 and pull.started_at < told.started_at.timestamp() - NEXT_ATTEMPT:
            self._pull_attempt = told.attempt - 1  # it was long under way, and the kubelet is further
        else:
            another = not known and (self._seen_attempt == self._attempt or self._is_after(pull.started_at))
            denies = pull.phase is PullPhase.COMPLETED and told.status is PullPhase.FAILED and not self._presumed
            self._pull_attempt = self._attempt + (another or denies)

    def _of_want(self, want: Want) -> PullStatus | None:
        """What the kubelet alone can tell: that the image is queued, could not be had, or came unseen."""
        told = self.status
        failure = None if want.pulling else want.failure
        if not told or not told.status.ended:
            attempt = max(self._attempt, want.attempt)
        elif self._is_next(want):
            attempt = max(self._attempt + 1, want.attempt)
        elif told.status is PullPhase.FAILED and failure and self._seen_attempt < self._attempt:
            attempt = self._attempt  # said once more, and better perhaps
        else:
            return None
        self._presumed = False
        return status_without_pull(want, self._told(attempt, failure))

    @property
    def _attempt(self) -> int:
        return self.status.attempt if self.status else 0

    def _is_after(self, time: float) -> bool:
        """So long after the end of the newest attempt that it belongs to another."""
        ended_at = self.status.completed_at if self.status else None
        if self.pull and self.pull.ended_at is not None and self._pull_attempt >= self._attempt:
            return time > self.pull.ended_at + NEXT_ATTEMPT
        return ended_at is not None and time > ended_at.timestamp() + NEXT_ATTEMPT

    def _is_next(self, want: Want) -> bool:
        """The newest attempt was told to have failed, and the kubelet speaks of one after it."""
        told = self.status
        if not told or told.status is not PullPhase.FAILED:
            return False
        if want.pulled_at is not None:
            return self._is_after(want.pulled_at)
        if want.heard or not want.failure:
            return self._is_after(want.since)
        return self._is_after(want.failure.at - FIRST_BACK_OFF)

    def _told(self, attempt: int, failure: Failure | None) -> Told:
        name = self.name
        return Told(
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
        )


def _is_later(pull: Pull, want: Want) -> bool:
    """The kubelet speaks of an attempt after this pull, whose end its agent has perhaps not told yet."""
    return want.since > pull.started_at + NEXT_ATTEMPT


def _correct(pull: Pull, want: Want) -> None:
    """Its agent missed the end, and we took it for a failure when we noticed. The kubelet may know more."""
    if _is_later(pull, want):
        pull.ended_at = max(min(pull.ended_at or 0.0, want.since - FIRST_BACK_OFF), pull.started_at)
    elif want.pulled_at is not None and pull.phase is PullPhase.FAILED:
        pull.came(want.pulled_at)
