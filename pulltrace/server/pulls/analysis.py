"""What the server concludes about each pull beyond its numbers: the factor that limits it. Sans-I/O.

Owned by the hub. ``Arrival`` requests an ``Insight`` each time it publishes a pull.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.pulls.limiting import limiting_factor, unexplained
from pulltrace.server.pulls.node import Pull
from pulltrace.server.pulls.paces import Paces
from pulltrace.server.pulls.verdict import queued, rate_limited
from pulltrace.wire import Bound, ErrorReason, Factor, PullPhase


@dataclass(frozen=True, slots=True)
class Insight:
    """The conclusions about one pull."""

    bound: Bound | None = None


NO_INSIGHT = Insight()


class Analysis:
    """The conclusions about all pulls, and the memory that they need."""

    def __init__(self) -> None:
        self.paces = Paces()

    def forget(self, node: str) -> None:
        """Drop a node that the server has forgotten."""
        self.paces.forget(node)

    def of_pull(self, pull: Pull, reason: ErrorReason | None, ahead: Sequence[str], now: float) -> Insight:
        """Judge one attempt that an agent observed. ``ahead`` are the images that it was queued behind."""
        if reason is ErrorReason.RATE_LIMITED:
            return Insight(rate_limited(pull.state.registry))
        if pull.ended_at is None:
            if pull.node.legacy:
                return NO_INSIGHT
            pull.verdict.add(limiting_factor(pull, self.paces, now), now)
            return Insight(pull.verdict.live(now - pull.started_at, unexplained(pull, now)))
        bound = pull.verdict.ended(pull.ended_at - pull.started_at, pull.phases.get(PullPhase.QUEUED, 0.0), ahead)
        if pull.phase is PullPhase.FAILED and bound.by is Factor.UNKNOWN:
            return NO_INSIGHT
        return Insight(bound)

    def of_demand(self, demand: ImageDemand, registry: str | None, ahead: Sequence[str]) -> Insight:
        """Judge an image that no agent observes being pulled. ``ahead`` are the images that the node is pulling."""
        if demand.pulling:
            return Insight(queued(ahead))
        if demand.failure and demand.failure.reason is ErrorReason.RATE_LIMITED:
            return Insight(rate_limited(registry))
        return NO_INSIGHT
