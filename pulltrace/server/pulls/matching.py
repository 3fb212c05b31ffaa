"""Determine which attempt of an image's arrival a pull represents. Sans-I/O.

Theory of operation
===================

An agent reports pulls, and the kubelet reports attempts; both may arrive late and in any order. A pull without an
arrival is compared with the newest attempt of each arrival of its image. The table below gives the results. *latest* is
the state of the newest attempt: ``running`` (the kubelet requested the image, and no agent reported a pull), ``failed``
or ``completed`` (as the kubelet reported), ``inferred`` (nobody saw its end). *pull* is ``live``, ``failed``,
``completed`` or ``presumed`` (its agent missed the end). The other columns compare the time of the pull with the time
of the newest attempt.

=========  =========  =========  =========  =========
latest     pull       before     within     after
=========  =========  =========  =========  =========
running    live       undecided  same       same
running    failed     earlier    same       same
running    completed  unrelated  same       same
running    presumed   earlier    same       same
failed     live       undecided  undecided  next
failed     failed     earlier    same       next
failed     completed  unrelated  next       next
failed     presumed   earlier    same       next
completed  live       undecided  undecided  unrelated
completed  failed     earlier    unrelated  unrelated
completed  completed  unrelated  same       unrelated
completed  presumed   earlier    same       unrelated
inferred   live       same       same       same
inferred   failed     earlier    same       same
inferred   completed  unrelated  same       same
inferred   presumed   earlier    same       same
=========  =========  =========  =========  =========

*Before* means that the pull ended before the attempt started; for a live pull, the time of the last report is compared.
*Within* means that the pull ended no later than the attempt. A live pull counts as *within* if the pull started no
later than the attempt's end. The report that this pull is live may be late. Everything else is *after*. Kubelets report
whole seconds, so times up to two seconds apart count as equal.

Three rules take precedence over the table. If the pull of an arrival is still running, or has not failed, the arrival
cannot take another pull. The only exception is a pull whose lease is the only known fact. If an agent observed the
newest attempt and this attempt has failed, a pull that starts afterwards is the ``next`` attempt. If several pods wait,
the kubelet calls the runtime once for each of them. The pull of each later call is a ``repeat`` in two cases: the first
pull was still running when the later pull started, or the later pull has no bytes and the image has just arrived.
"""

import math
from enum import Enum
from typing import Protocol

import msgspec

from pulltrace.server.kubernetes.attempts import Failure
from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.pulls.node import REPORT_LATE, WHOLE_SECONDS, Pull
from pulltrace.wire import PullPhase


class Source(Enum):
    """The source that reported the state of an attempt."""

    AGENT = "agent"
    KUBELET = "kubelet"
    INFERRED = "inferred"
    """No source reported the state. It was inferred from silence, and a source that observed the attempt may correct
    it.
    """


class Attempt(msgspec.Struct, frozen=True):
    """One attempt to pull an image, as published. Times are in unix seconds."""

    number: int
    source: Source
    started_at: float = -math.inf
    """Minus infinity if no agent observed the attempt, and no event reported its start."""
    ended_at: float | None = None
    outcome: PullPhase | None = None
    """Whether the attempt completed or failed; None while it is running."""
    failure: Failure | None = None
    observed: bool = False
    """Whether an agent observed the attempt's pull."""


class Match(Enum):
    """How a pull that has no arrival yet is related to an arrival."""

    SAME_ATTEMPT = "same"
    NEXT_ATTEMPT = "next"
    EARLIER_ATTEMPT = "earlier"
    REPEAT = "repeat"
    UNDECIDED = "undecided"
    UNRELATED = "unrelated"


class Time(Enum):
    """The time of a pull, relative to an attempt."""

    BEFORE = 0
    WITHIN = 1
    AFTER = 2


class ArrivalState(Protocol):
    """The attributes of an arrival that are used for matching."""

    @property
    def pull(self) -> Pull | None:
        """The newest pull that an agent reported."""

    @property
    def demand(self) -> ImageDemand | None:
        """The image that the kubelet needs."""

    @property
    def latest(self) -> Attempt | None:
        """The newest attempt, as published."""

    @property
    def has_completed(self) -> bool:
        """Whether the image is present."""

    @property
    def ended_at(self) -> float:
        """When the newest attempt ended; infinity if it is still running."""


_UNDECIDED, _SAME, _NEXT = Match.UNDECIDED, Match.SAME_ATTEMPT, Match.NEXT_ATTEMPT
_EARLIER, _UNRELATED = Match.EARLIER_ATTEMPT, Match.UNRELATED

# The table above: for each pair of states (latest attempt, pull), the match if the pull is before, within or after the
# attempt.
TABLE = {
    ("running", "live"): (_UNDECIDED, _SAME, _SAME),
    ("running", "failed"): (_EARLIER, _SAME, _SAME),
    ("running", "completed"): (_UNRELATED, _SAME, _SAME),
    ("running", "presumed"): (_EARLIER, _SAME, _SAME),
    ("failed", "live"): (_UNDECIDED, _UNDECIDED, _NEXT),
    ("failed", "failed"): (_EARLIER, _SAME, _NEXT),
    ("failed", "completed"): (_UNRELATED, _NEXT, _NEXT),
    ("failed", "presumed"): (_EARLIER, _SAME, _NEXT),
    ("completed", "live"): (_UNDECIDED, _UNDECIDED, _UNRELATED),
    ("completed", "failed"): (_EARLIER, _UNRELATED, _UNRELATED),
    ("completed", "completed"): (_UNRELATED, _SAME, _UNRELATED),
    ("completed", "presumed"): (_EARLIER, _SAME, _UNRELATED),
    ("inferred", "live"): (_SAME, _SAME, _SAME),
    ("inferred", "failed"): (_EARLIER, _SAME, _SAME),
    ("inferred", "completed"): (_UNRELATED, _SAME, _SAME),
    ("inferred", "presumed"): (_EARLIER, _SAME, _SAME),
}


def match(pull: Pull, arrival: ArrivalState) -> Match:
    """Return how this pull is related to this arrival."""
    latest, before = arrival.latest, arrival.pull
    if _is_repeat(pull, arrival):
        return Match.REPEAT
    if before and before.is_only_lease and not (latest and latest.outcome):
        before = None  # the lease may be for another image
    if before and (before.phase is not PullPhase.FAILED or (before.ended_at or 0.0) > pull.started_at + 1.0):
        return Match.UNRELATED
    if latest is None:
        return Match.NEXT_ATTEMPT
    if latest.observed:
        return Match.UNRELATED if latest.outcome is PullPhase.COMPLETED else Match.NEXT_ATTEMPT
    return TABLE[_state_of(latest), _kind_of(pull)][_compare(pull, latest, arrival.ended_at).value]


def _is_repeat(pull: Pull, arrival: ArrivalState) -> bool:
    """Return whether the kubelet started this pull for another pod that waits for the same image."""
    demand = arrival.demand
    first = arrival.pull
    if (
        (demand or pull.repeats)
        and first
        and not first.is_only_lease
        and _runs_beside(pull, first, len(demand.starts) if demand else 0)
    ):
        return True
    if not arrival.has_completed or demand is None or pull.has_fetched or pull.phase is PullPhase.FAILED:
        return False
    observed = arrival.latest is not None and arrival.latest.observed
    after = pull.started_at >= arrival.ended_at + (-1.0 if observed else WHOLE_SECONDS)
    waited = demand.pulling or (demand.pulled_at is not None and pull.started_at <= demand.pulled_at + WHOLE_SECONDS)
    return after and waited and demand.since <= arrival.ended_at + WHOLE_SECONDS


def _runs_beside(pull: Pull, first: Pull, pods: int) -> bool:
    """Return whether two pulls of an image ran at the same time and therefore share their outcome.

    If only one pod requested the image, a pull that began earlier must be for another tag.
    """
    digests = {pull.state.manifest_digest, first.state.manifest_digest} - {None}
    if pull is first or len(digests) > 1 or pull.started_at > (first.ended_at or math.inf):
        return False
    if pull.started_at < first.started_at and (pods < 2 or (pull.ended_at or math.inf) < first.started_at):
        return False
    return first.phase is not PullPhase.FAILED or pull.phase is PullPhase.FAILED


def _state_of(latest: Attempt) -> str:
    if latest.source is Source.INFERRED:
        return "inferred"
    return latest.outcome.value if latest.outcome else "running"


def _kind_of(pull: Pull) -> str:
    if pull.ended_at is None:
        return "live"
    return "presumed" if pull.presumed else pull.phase.value


def _compare(pull: Pull, latest: Attempt, ended_at: float) -> Time:
    if pull.ended_at is None:
        return _compare_live(pull, latest, ended_at)
    at = pull.started_at if pull.presumed else pull.ended_at
    if at < latest.started_at - WHOLE_SECONDS:
        return Time.BEFORE
    return Time.WITHIN if at <= ended_at + WHOLE_SECONDS else Time.AFTER


def _compare_live(pull: Pull, latest: Attempt, ended_at: float) -> Time:
    seen_at = pull.seen_at or pull.started_at
    if latest.outcome:
        late = pull.started_at <= ended_at + WHOLE_SECONDS and seen_at <= ended_at + REPORT_LATE
        return Time.WITHIN if late else Time.AFTER
    started_at = latest.started_at
    late = pull.started_at < started_at - WHOLE_SECONDS and seen_at <= started_at + REPORT_LATE
    return Time.BEFORE if late else Time.WITHIN
