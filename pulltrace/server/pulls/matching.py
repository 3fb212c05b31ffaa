"""Determine which attempt a reported pull belongs to. Sans-I/O.

Theory of operation
===================

The agent reports pulls, and the kubelet reports attempts. Both kinds of reports may arrive late and in any order. The
table below compares a pull that has no arrival yet with the newest attempt of each arrival of its image. *latest* is
the state of the newest attempt: ``running`` (the kubelet requested the image, and no agent reported a pull), ``failed``
or ``completed`` (as the kubelet reported), or ``inferred`` (no source reported the end). *pull* is ``live``,
``failed``, ``completed`` or ``presumed`` (its agent missed the end). The last three columns give the result, depending
on when the pull took place.

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

A pull that has ended is *before* an attempt if it ended before the attempt started, *within* the attempt if it ended
later, but before the attempt ended, and otherwise *after* the attempt. For a ``presumed`` pull, the start time is used
instead of the end time, because the inferred end time may be much too late.

A ``live`` pull may have ended already, because reports can be late by up to ``REPORT_LATE`` seconds:

- If the attempt is running, a pull that started before it, and was last reported at most ``REPORT_LATE`` seconds after
  its start, is *before* the attempt. Any other pull is *within* the attempt.
- If the attempt has ended, a pull that started before its end, and was last reported at most ``REPORT_LATE`` seconds
  after its end, is *within* the attempt. Any other pull is *after* the attempt.

Kubelets report times in whole seconds, so times up to two seconds apart count as equal.

Three rules take precedence over the table:

- Unless the arrival's newest pull has failed, any other pull is ``unrelated`` or a ``repeat``. However, a newest pull
  that is known only from its lease is ignored here, because the lease may belong to a pull of another image.
- If an agent observed that the newest attempt failed, a pull that starts afterwards is the ``next`` attempt.
- If several pods are waiting for the same image, the kubelet calls the runtime once for each pod. A later pull is a
  ``repeat`` if it started while the first pull was running, or if it downloads nothing and the image has just arrived.
  The attempt fails only when the first pull and all its repeats have failed.
"""

import math
from enum import Enum
from typing import Protocol

import msgspec

from pulltrace.server.kubernetes.attempts import Failure
from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.pulls.clocks import REPORT_LATE, WHOLE_SECONDS
from pulltrace.server.pulls.node import Pull
from pulltrace.wire import PullPhase


class Source(Enum):
    """The source that reported the state of an attempt."""

    AGENT = "agent"
    KUBELET = "kubelet"
    INFERRED = "inferred"
    """The state was inferred because no source reported it. A source that observed the attempt may correct an inferred
    state.
    """


class Attempt(msgspec.Struct, frozen=True):
    """One attempt to pull an image, as published. Times are in Unix seconds."""

    number: int
    source: Source
    started_at: float = -math.inf
    """The start of the attempt, or minus infinity if no agent observed the attempt and no event reported its start."""
    ended_at: float | None = None
    outcome: PullPhase | None = None
    """The result of the attempt (completed or failed), or None while the attempt is running."""
    failure: Failure | None = None
    observed: bool = False
    """True if an agent observed the attempt's pull."""


class Match(Enum):
    """How an arrival relates to a pull that has not been assigned to one."""

    SAME_ATTEMPT = "same"
    NEXT_ATTEMPT = "next"
    EARLIER_ATTEMPT = "earlier"
    REPEAT = "repeat"
    UNDECIDED = "undecided"
    UNRELATED = "unrelated"


class Time(Enum):
    """The time of a pull relative to the time of an attempt. Each value is a column index in ``TABLE``."""

    BEFORE = 0
    WITHIN = 1
    AFTER = 2


class ArrivalState(Protocol):
    """The attributes of an arrival that this module uses."""

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
        """Return whether the image is present."""

    @property
    def ended_at(self) -> float:
        """Return the end time of the newest attempt, or infinity if it is still running."""


_UNDECIDED, _SAME, _NEXT = Match.UNDECIDED, Match.SAME_ATTEMPT, Match.NEXT_ATTEMPT
_EARLIER, _UNRELATED = Match.EARLIER_ATTEMPT, Match.UNRELATED

# The table in the module's docstring: each pair (state of the latest attempt, state of the pull) maps to the results
# for a pull before, within and after the attempt.
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
    """Return how this pull relates to this arrival."""
    latest, before = arrival.latest, arrival.pull
    if _is_repeat(pull, arrival):
        return Match.REPEAT
    if before and before.is_only_lease and not (latest and latest.outcome):
        before = None  # the lease may belong to a pull of another image
    overlaps = before is not None and (before.ended_at or 0.0) > pull.started_at + 1.0
    if before and (before.phase is not PullPhase.FAILED or (overlaps and not continues(pull, arrival))):
        return Match.UNRELATED
    if latest is None:
        return Match.NEXT_ATTEMPT
    if latest.observed:
        return Match.UNRELATED if latest.outcome is PullPhase.COMPLETED else Match.NEXT_ATTEMPT
    return TABLE[_state_of(latest), _kind_of(pull)][_compare(pull, latest, arrival.ended_at).value]


def is_later(demand: ImageDemand, pull: Pull) -> bool:
    """Return whether the kubelet has reported an attempt that began after this pull. This pull itself may still be
    running.
    """
    return demand.since > pull.started_at + WHOLE_SECONDS


def continues(pull: Pull, arrival: ArrivalState) -> bool:
    """Return whether this pull is still running for a different pod, even though the first pull of the attempt has
    failed.
    """
    first, demand = arrival.pull, arrival.demand
    if first is None or first.phase is not PullPhase.FAILED or pull.ended_at is not None:
        return False
    if first.presumed and demand and is_later(demand, first):
        return False  # the first pull ended before the kubelet began its later attempt
    return _runs_beside(pull, arrival)


def _is_repeat(pull: Pull, arrival: ArrivalState) -> bool:
    """Return whether the kubelet started this pull for another pod that is waiting for the same image."""
    demand, first = arrival.demand, arrival.pull
    failed = first is not None and first.phase is PullPhase.FAILED
    if (not failed or pull.phase is PullPhase.FAILED) and _runs_beside(pull, arrival):
        return True
    if not arrival.has_completed or demand is None or pull.has_fetched or pull.phase is PullPhase.FAILED:
        return False
    observed = arrival.latest is not None and arrival.latest.observed
    after = pull.started_at >= arrival.ended_at + (-1.0 if observed else WHOLE_SECONDS)
    waited = demand.pulling or (demand.pulled_at is not None and pull.started_at <= demand.pulled_at + WHOLE_SECONDS)
    return after and waited and demand.since <= arrival.ended_at + WHOLE_SECONDS


def _runs_beside(pull: Pull, arrival: ArrivalState) -> bool:
    """Return whether this pull and the arrival's newest pull overlapped in time and are not known to have different
    manifest digests. The two pulls then belong to different pods and share a row. If only one pod requested the image,
    a pull that began earlier must be a pull of a different tag.
    """
    demand, first = arrival.demand, arrival.pull
    if not (demand or pull.repeats) or first is None or first is pull or first.is_only_lease:
        return False
    digests = {pull.state.manifest_digest, first.state.manifest_digest} - {None}
    if len(digests) > 1 or pull.started_at > (first.ended_at or math.inf):
        return False
    pods = len(demand.starts) if demand else 0
    return pull.started_at >= first.started_at or (pods >= 2 and (pull.ended_at or math.inf) >= first.started_at)


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
    at = pull.started_at if pull.presumed else pull.ended_at  # an inferred end may be much too late
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
