"""Conclusions about each pull beyond its numbers: what limits it, and whether its duration is usual. Sans-I/O.

The hub owns the ``Analysis``, and ``status`` requests an ``Insight`` whenever a pull is published.
"""

from collections.abc import Sequence

import msgspec

from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.models import Bound, Factor, PullStatus
from pulltrace.server.pulls.limiting import limiting_factor, unexplained
from pulltrace.server.pulls.node import Pull
from pulltrace.server.pulls.paces import Paces
from pulltrace.server.pulls.quota import Quota
from pulltrace.server.pulls.usual import Estimate, Usual
from pulltrace.server.pulls.verdict import queued, rate_limited
from pulltrace.wire import ErrorReason, PullPhase

SLOWER = 1.5
"""A pull is slow if it takes at least this many times the usual duration, and longer than the 90th percentile."""
NO_OWNER = "no known pod"
"""The owner of a pull if no pod was seen waiting for its image."""
SLOWER_SECONDS = 10.0
"""If a pull exceeds the usual duration by fewer seconds than this, it is not slow."""


class Insight(msgspec.Struct, frozen=True):
    """The conclusions about one pull."""

    bound: Bound | None = None
    usual: Estimate | None = None
    slower: float | None = None
    """The pull's duration divided by the usual duration; None if the pull is not slow."""

    @property
    def usual_seconds(self) -> float | None:
        """The usual duration."""
        return self.usual.median if self.usual else None


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about the pull to analyse: its name, its size, and where it runs."""

    image: str
    registry: str
    repository: str
    node: str
    size: int | None
    """The number of bytes that have to be fetched."""
    ahead: Sequence[str] = ()
    """Repositories of the pulls that are, or were, ahead of this pull in the queue."""
    reason: ErrorReason | None = None


class Analysis:
    """The conclusions about all pulls, and the history from which they are drawn."""

    def __init__(self) -> None:
        self.paces = Paces()
        self.usual = Usual()
        self.quota = Quota()

    def forget(self, node: str) -> None:
        """Drop a node that the server no longer knows."""
        self.paces.forget(node)

    def of_pull(self, pull: Pull, subject: Subject, now: float) -> Insight:
        """Return the conclusions about one attempt that an agent observed."""
        if pull.node.go_agent:
            return Insight()
        usual = self._usual(pull, subject)
        took = (now if pull.ended_at is None else pull.ended_at) - pull.started_at
        bound = self._bound(pull, subject, took, now)
        return Insight(bound, usual, _slower(took, usual) if pull.phase is not PullPhase.FAILED else None)

    def ended(self, pull: PullStatus) -> None:
        """Count an ended attempt in the statistics on the registry's rate limit."""
        if pull.registry and pull.completed_at:
            pod = next(iter((*(pull.pods or ()), *(pull.waited or ()))), None)
            owner = f"{pod.owner or pod.pod_name} in {pod.namespace}" if pod else NO_OWNER
            self.quota.record(pull.registry, owner, pull.completed_at.timestamp())

    def of_demand(self, demand: ImageDemand, subject: Subject, now: float) -> Insight:
        """Return the conclusions about an image whose pull no agent observes."""
        if demand.pulling:
            return Insight(queued(subject.ahead), self._estimate(subject))
        if demand.failure and demand.failure.reason is ErrorReason.RATE_LIMITED:
            return Insight(self._rate_limited(subject.registry, now))
        return Insight()

    def _rate_limited(self, registry: str, now: float) -> Bound:
        owners = self.quota.owners(registry, now)
        return rate_limited(registry, *(owners[0] if owners else ("", 0)), sum(count for _, count in owners))

    def _bound(self, pull: Pull, subject: Subject, took: float, now: float) -> Bound | None:
        if subject.reason is ErrorReason.RATE_LIMITED:
            return self._rate_limited(subject.registry, now)
        if pull.ended_at is None:
            verdict = pull.verdict
            if verdict.is_due(now):
                verdict.add(limiting_factor(pull, self.paces, now), now)
                verdict.published = verdict.live(took, lambda: unexplained(pull, now))
            return verdict.published
        bound = pull.verdict.ended(took, pull.phases.get(PullPhase.QUEUED, 0.0), subject.ahead)
        return None if pull.phase is PullPhase.FAILED and bound.by is Factor.UNKNOWN else bound

    def _usual(self, pull: Pull, subject: Subject) -> Estimate | None:
        """Estimate the duration once for each name and size, and record the actual duration when the pull completes."""
        key = (subject.image, subject.size)
        if pull.usual is None or pull.usual[0] != key:
            if pull.recorded:
                return pull.usual[1] if pull.usual else None
            pull.usual = key, self._estimate(subject)
        if pull.phase is PullPhase.COMPLETED and pull.ended_at is not None and not pull.recorded:
            pull.recorded = True
            if subject.size and not pull.presumed:
                self.usual.record(
                    image=subject.image,
                    repository=subject.repository,
                    registry=subject.registry,
                    node=subject.node,
                    size=subject.size,
                    seconds=pull.ended_at - pull.started_at,
                )
        return pull.usual[1]

    def _estimate(self, subject: Subject) -> Estimate | None:
        return self.usual.estimate(
            image=subject.image,
            repository=subject.repository,
            registry=subject.registry,
            node=subject.node,
            size=subject.size,
        )


def _slower(took: float, usual: Estimate | None) -> float | None:
    if usual is None or took < max(SLOWER * usual.median, usual.median + SLOWER_SECONDS, usual.p90):
        return None
    return round(took / max(usual.median, 1.0), 1)
