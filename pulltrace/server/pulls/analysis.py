"""Determine what limits each pull, and whether it takes longer than usual. Sans-I/O.

The hub owns the ``Analysis``, and ``status`` requests an ``Insight`` whenever a pull is published.
"""

from collections.abc import Sequence

import msgspec

from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.models import Bound, Factor, PullStatus, UsualBasis
from pulltrace.server.pulls.limiting import limiting_factor, unexplained
from pulltrace.server.pulls.node import Pull
from pulltrace.server.pulls.paces import Paces
from pulltrace.server.pulls.quota import Quota
from pulltrace.server.pulls.usual import Estimate, Usual
from pulltrace.server.pulls.verdict import queued, rate_limited
from pulltrace.wire import ErrorReason, PullPhase

SLOWER = 2.0
"""A pull counts as slow only if it takes at least this many times the usual duration."""
SLOWER_SECONDS = 10.0
"""A pull counts as slow only if it takes at least this many seconds longer than usual."""
ESTIMATE_AGAIN = 10.0
"""If no similar pull was known, a live pull's usual duration is estimated again at this interval, in seconds."""
NO_OWNER = "no known pod"
"""The owner recorded for a pull if no pod was seen waiting for its image."""


class Insight(msgspec.Struct, frozen=True):
    """The factor that limits a pull, and a comparison of the pull's duration with the usual one."""

    bound: Bound | None = None
    usual: Estimate | None = None
    slower: float | None = None
    """The pull's duration divided by the usual duration, or None if the pull is not slow."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about a pull that the analysis needs: its name, its size, and its node."""

    image: str
    registry: str
    repository: str
    node: str
    size: int | None
    """The number of bytes to fetch."""
    ahead: Sequence[str] = ()
    """The repositories of the pulls that are or were ahead of this pull in the queue."""
    deleted_ahead: int = 0
    """How many of the pulls ahead in the queue belong only to deleted pods."""
    reason: ErrorReason | None = None


class Analysis:
    """Derives insights into pulls from earlier pulls and download rates."""

    def __init__(self) -> None:
        self.paces = Paces()
        self.usual = Usual(self.paces)
        self.quota = Quota()

    def forget(self, node: str) -> None:
        """Drop a node that the server no longer knows."""
        self.paces.forget(node)

    def progress_of(self, node: str) -> int:
        """Return a number that changes whenever a much higher download rate is measured on this node."""
        return int(self.paces.best(node)).bit_length()

    def of_pull(self, pull: Pull, subject: Subject, now: float) -> Insight:
        """Return the insight for an attempt that an agent observed."""
        if pull.node.go_agent:
            return Insight()
        usual = self._usual(pull, subject, now)
        took = (now if pull.ended_at is None else pull.ended_at) - pull.started_at
        bound = self._bound(pull, subject, took, now)
        return Insight(bound, usual, _slower(took, usual) if pull.phase is not PullPhase.FAILED else None)

    def ended(self, pull: PullStatus) -> None:
        """Count a finished attempt as a pull from its registry."""
        if pull.registry and pull.completed_at:
            pod = next(iter((*(pull.pods or ()), *(pull.waited or ()))), None)
            owner = f"{pod.owner or pod.pod_name} in {pod.namespace}" if pod else NO_OWNER
            self.quota.record(pull.registry, owner, pull.completed_at.timestamp())

    def of_demand(self, demand: ImageDemand, subject: Subject, now: float) -> Insight:
        """Return the insight for an image whose pull is not observed by any agent."""
        if demand.pulling:
            return Insight(queued(subject.ahead, subject.deleted_ahead), self._estimate(subject))
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

    def _usual(self, pull: Pull, subject: Subject, now: float) -> Estimate | None:
        """Estimate the duration again whenever the pull's name or size changes. When the pull completes, record its
        actual duration.
        """
        key, live = (subject.image, subject.size), pull.ended_at is None
        is_missing = pull.usual is not None and (pull.usual[1] is None or pull.usual[1].basis is UsualBasis.OTHER_NODES)
        if pull.usual is None or pull.usual[0] != key or (is_missing and (now >= pull.usual_due or not live)):
            if pull.recorded:
                return pull.usual[1] if pull.usual else None
            self.paces.unpacking[subject.node] = pull.node.unpacking
            pull.usual, pull.usual_due = (key, self._estimate(subject)), now + ESTIMATE_AGAIN
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
    if usual is None or not usual.is_firm or took < max(SLOWER * usual.median, usual.median + SLOWER_SECONDS):
        return None
    if usual.p90 is not None and took <= usual.p90:
        return None
    return round(took / max(usual.median, 1.0), 1)
