"""Combine a node's pulls with its image demands. Sans-I/O.

A pull and the demand for its image form one *arrival*. Users see arrivals. If there is no Kubernetes cluster, there are
no demands. If an image cannot be resolved, there may be no pull for the agent to observe. ``join`` considers everything
on one node that can still change: running pulls, pulls that have just ended, demands, and failed arrivals that may be
retried. ``correlation`` decides which pulls and demands belong to the same arrival, and ``arrival`` decides what to
publish.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.models import PullStatus
from pulltrace.server.pulls import leases
from pulltrace.server.pulls.analysis import Analysis
from pulltrace.server.pulls.arrival import Arrival
from pulltrace.server.pulls.arrival_ids import free_id, seed_of
from pulltrace.server.pulls.image_names import Name, names_of
from pulltrace.server.pulls.matching import Match, continues, match
from pulltrace.server.pulls.node import Pull
from pulltrace.server.responses import NodeState
from pulltrace.wire import PullPhase

SETTLES_AFTER = 120.0
"""How long, in seconds, an arrival may still change after its pull has ended. Kubernetes may report late which pods
waited and why the pull failed.
"""

ANNOUNCED_WITHIN = 2.0
"""Maximum time, in seconds, from the start of a pull to the arrival of the kubelet's event. During this time, a pull
without a tag is not shown.
"""

LEASE_ANNOUNCED_WITHIN = 30.0
"""The corresponding limit for a pull that is known only from its lease. This limit is higher because the lease may
belong to a container, and a busy node creates containers slowly.
"""

_Abandoned: TypeAlias = Mapping[str, ImageDemand]
"""The demands of pods that were deleted before their pulls began, keyed by image."""


class Changed(NamedTuple):
    """A change to an arrival that has not been published yet."""

    arrival: Arrival
    status: PullStatus | None
    """None if the arrival no longer exists. An arrival ends if no pod is waiting for the image any longer, or if it
    turns out to be part of another arrival.
    """


@dataclass(frozen=True, slots=True)
class _Context:
    """State shared by all nodes."""

    stall_timeout: float
    ttl: float
    analysis: Analysis
    announced: bool


class Correlation:
    """The open arrivals of all nodes, owned by the hub.

    ``announced`` is true if the server watches a cluster. In a cluster, a kubelet event announces the start of each
    pull.
    """

    def __init__(self, stall_timeout: float, ttl: float, analysis: Analysis, *, announced: bool) -> None:
        self._context = _Context(stall_timeout, ttl, analysis, announced)
        self._expiring: list[tuple[float, str]] = []  # heap: the times at which each node must be joined again
        self.due = set[str]()
        """Nodes for which ``join`` must be called at the next tick, even if no report or demand has changed."""
        self._nodes: dict[str, _Open] = {}

    def join(
        self,
        node: str,
        pulls: Iterable[Pull],
        demands: Sequence[ImageDemand],
        now: float,
        *,
        agent: NodeState | None = NodeState.REPORTING,
    ) -> list[Changed]:
        """Return one node's changes since the last call, in the order in which they must be published.

        ``pulls`` contains the pulls that are running or have ended recently. ``agent`` is the state of the node's
        agent, or None if the node has no agent.
        """
        open_ = self._nodes.get(node)
        if open_ is None:
            open_ = self._nodes[node] = _Open(node, self._context)
        changed = list(open_.join(pulls, demands, now, agent=agent))
        held = any(arrival.held for arrival in open_.arrivals.values())
        (self.due.add if held else self.due.discard)(node)
        for at in open_.expiring:
            heapq.heappush(self._expiring, (at, node))
        open_.expiring.clear()
        if not open_.arrivals:
            del self._nodes[node]
        return changed

    def expire(self, now: float) -> None:
        """Add to ``due`` each node on which an arrival has just expired or settled."""
        while self._expiring and self._expiring[0][0] <= now:
            self.due.add(heapq.heappop(self._expiring)[1])

    def forget(self, pull: Pull) -> str | None:
        """Forget a pull whose history has expired.

        If the pull's arrival ends as well, return the arrival's id. Return None if the pull has been superseded, or if
        the kubelet's demand keeps the arrival open.
        """
        if pull.superseded:
            return None
        open_ = self._nodes.get(pull.node.name)
        arrival = open_.arrivals.get(pull.arrival_id) if open_ else None
        if arrival and arrival.demand:
            arrival.pull = None
            return None
        if open_ and arrival:
            del open_.arrivals[arrival.id]
        return pull.arrival_id or None


class _Open:
    """The open arrivals of one node, keyed by id."""

    def __init__(self, node: str, context: _Context) -> None:
        self.expiring: list[float] = []
        """The times at which ``join`` must be called again, for example because an arrival expires or settles. Only
        times that were added since the last call are included.
        """
        self.arrivals: dict[str, Arrival] = {}
        self._settles_at = 0.0  # the time at which the newest completed pull settles
        self._node = node
        self._context = context

    def join(
        self, pulls: Iterable[Pull], demands: Sequence[ImageDemand], now: float, *, agent: NodeState | None
    ) -> Iterator[Changed]:
        ordered = sorted((pull for pull in pulls if not pull.superseded), key=lambda pull: pull.started_at)
        known = [pull for pull in ordered if not (self._context.announced and pull.is_only_lease)]
        names = names_of(known, demands)
        abandoned = {demand.image: demand for demand in demands if demand.abandoned}
        moving = self._update_names(known, names)
        for pull in moving:
            self._detach(pull, names[pull.key])
        # First process the pulls that must leave their arrivals, to make room for the pulls that have no arrival yet.
        for pull in sorted(moving, key=lambda pull: (not pull.arrival_id, pull.ended_at is None)):
            yield from self._place_pull(pull, names, abandoned, now, agent=agent)
        self._place_demands([demand for demand in demands if not demand.abandoned], now)
        if unknown := [pull for pull in ordered if pull.key not in names]:
            yield from self._place_leases(unknown, demands, abandoned, now, agent=agent)
        self._note_queue(ordered, abandoned)
        for arrival in list(self.arrivals.values()):
            arrival.row.note_pods(arrival.demand)
            if arrival.pull is None and arrival.demand is None:
                if not self._keeps(arrival, now):
                    yield from self._drop(arrival)
                continue
            yield from self._publish(arrival, now, agent=agent)
            if arrival.demand is None and _is_settled(arrival, now):
                del self.arrivals[arrival.id]
                if arrival.pull:
                    arrival.pull.settle()
            elif arrival.pull and arrival.pull.learned_at is not None:
                self._settle_at(arrival.pull.learned_at + SETTLES_AFTER + 1.0)

    def _note_queue(self, pulls: Iterable[Pull], abandoned: _Abandoned) -> None:
        """Record for each queued image which pulls are ahead of it in the kubelet's queue."""
        arrivals = self.arrivals.values()
        ahead = tuple(pull.state.repository or "another image" for pull in pulls if pull.ended_at is None)
        begun = {arrival.name.image for arrival in arrivals if arrival.is_running} if abandoned else set()
        queued = [demand for image, demand in abandoned.items() if demand.pulling and image not in begun]
        deleted_requests = [demand.since for demand in queued]
        for arrival in arrivals:
            arrival.note_queue(ahead, deleted_requests)

    def _settle_at(self, at: float) -> None:
        """Schedule another ``join``. Otherwise, an idle node would keep the layers of its last pulls in memory."""
        if at > self._settles_at:
            self._settles_at = at
            self.expiring.append(at)

    def _is_placed(self, pull: Pull, name: Name) -> bool:
        """Return whether a pull stays assigned to its arrival.

        The pull stays assigned if the arrival has settled or a newer pull has taken this pull's place in it. It also
        stays assigned if both have the same image, or if the arrival's image name is more precise than the pull's.
        """
        if not pull.arrival_id:
            return False
        own = self.arrivals.get(pull.arrival_id)
        return own is None or own.pull is not pull or own.name.image == name.image or name.is_less_precise(own.name)

    def _is_leaving(self, pull: Pull | None, names: Mapping[str, Name]) -> bool:
        """Return whether the newest pull of an arrival turned out to belong to a different image."""
        return pull is not None and pull.key in names and not self._is_placed(pull, names[pull.key])

    def _update_names(self, pulls: Iterable[Pull], names: Mapping[str, Name]) -> list[Pull]:
        """Update the names of the arrivals that keep their pulls, because a name that was a guess may now be certain.

        Return the pulls that must leave their arrivals.
        """
        moving = []
        for pull in pulls:
            own = self.arrivals.get(pull.arrival_id)
            if not self._is_placed(pull, names[pull.key]):
                moving.append(pull)
            elif own and own.pull is pull and own.name.image == names[pull.key].image:
                own.name = names[pull.key]
        return moving

    def _detach(self, pull: Pull, name: Name) -> None:
        """Detach a pull from its arrival, because the pull turned out to belong to a different image. Do so only if the
        kubelet still needs the image that the arrival requested, and if neither bytes nor an outcome has been published
        for the pull.
        """
        own = self.arrivals.get(pull.arrival_id)
        if own and own.pull is pull and not pull.best_percent and own.continues_without(name):
            own.pull, pull.arrival_id = None, ""

    def _place_pull(
        self, pull: Pull, names: Mapping[str, Name], abandoned: _Abandoned, now: float, *, agent: NodeState | None
    ) -> Iterator[Changed]:
        """Assign a pull to its current arrival, to another matching arrival, or to a new arrival. If it is too early to
        decide, leave the pull unassigned.
        """
        name = names[pull.key]
        if self._is_placed(pull, name):  # assigned when another pull was placed
            return
        own = self.arrivals.get(pull.arrival_id)
        others = [
            arrival
            for arrival in self.arrivals.values()
            if arrival is not own and name.is_same_image(arrival.name) and not self._is_leaving(arrival.pull, names)
        ]
        for arrival in others:
            if not continues(pull, arrival):  # publish the end of the previous attempt first
                yield from self._publish(arrival, now, agent=agent)
        found, place = _best(others, own, pull, name)
        if own and found:
            own.pull = None  # the arrival is then removed unless it has a demand
            if pull.best_percent:  # the published bytes belong to the other image
                yield from self._drop(own)
        elif own:
            own.rename(name)
            _suppose(pull, name)
            return
        elif not found and self._is_unannounced(pull, name, now):
            return
        self._attach(pull, name, found, place, abandoned.get(name.image))

    def _is_unannounced(self, pull: Pull, name: Name, now: float) -> bool:
        """Return whether a pull's tag is still unknown but may arrive in a later kubelet event."""
        if not self._context.announced or name.is_full:
            return False
        within = LEASE_ANNOUNCED_WITHIN if pull.is_only_lease else ANNOUNCED_WITHIN
        until = (pull.started_at if pull.learned_at is None else pull.learned_at) + within
        if now < until:
            self.expiring.append(until)
        return now < until

    def _attach(
        self, pull: Pull, name: Name, found: Arrival | None, place: Match, abandoned: ImageDemand | None
    ) -> None:
        first = found.pull if found else None
        if place is Match.REPEAT and pull.phase is PullPhase.COMPLETED and first and first.ended_at is None:
            # This pull has fetched the image, so the result of the first pull does not matter.
            place = Match.SAME_ATTEMPT
        hidden = place in (Match.UNDECIDED, Match.REPEAT)
        pull.repeats = place is Match.REPEAT
        pull.superseded = place is Match.EARLIER_ATTEMPT or (pull.repeats and pull.ended_at is not None)
        pull.arrival_id = ""
        if not hidden and not pull.superseded:
            found = found or self._new_arrival(seed_of(abandoned) if abandoned else pull.key, name)
            found.attach(pull, name)
        if not pull.superseded:
            _suppose(pull, name)

    def _place_leases(
        self,
        unknown: Iterable[Pull],
        demands: Sequence[ImageDemand],
        abandoned: _Abandoned,
        now: float,
        *,
        agent: NodeState | None,
    ) -> Iterator[Changed]:
        """Assign the pulls that are known only from their leases."""
        for arrival in list(self.arrivals.values()):
            if arrival.pull and arrival.pull.ended_at is not None:
                yield from self._publish(arrival, now, agent=agent)  # a lease may replace the finished pull
        for pull, name in leases.place(unknown, self.arrivals.values(), demands):
            if not self._is_unannounced(pull, name, now):
                self._attach(pull, name, None, Match.UNRELATED, abandoned.get(name.image))

    def _place_demands(self, demands: Sequence[ImageDemand], now: float) -> None:
        """Assign each demand to its arrival, or to a new arrival."""
        by_image: dict[str, list[Arrival]] = {}
        for arrival in self.arrivals.values():
            arrival.demand = None
            by_image.setdefault(arrival.name.image, []).append(arrival)
        for demand in demands:
            of_image = by_image.get(demand.image, [])
            found = max(of_image, key=lambda arrival: (arrival.is_end_of(demand), *arrival.recency), default=None)
            if found and found.has_completed and not demand.requested:
                continue  # the container is waiting for something other than the image
            if demand.assumed and not (found and found.pull):
                continue  # the image may already have been on the node
            if found is None or found.is_over_for(demand):
                if not _needs_row(demand, now):
                    continue
                found = self._new_arrival(seed_of(demand), Name.of(demand.image))
            found.assign(demand)
            for arrival in of_image:
                if demand.failure:
                    arrival.explain(demand.failure)
            if found.pull and demand.pulling:
                # The kubelet reports times in whole seconds. A pull that was never queued may therefore appear to have
                # been queued for less than a second.
                found.pull.phases.setdefault(PullPhase.QUEUED, max(found.pull.started_at - demand.since, 0.0))

    def _publish(self, arrival: Arrival, now: float, *, agent: NodeState | None) -> Iterator[Changed]:
        observed, reporting = agent not in (None, NodeState.LOST), agent in (NodeState.REPORTING, NodeState.CONFLICT)
        timeout, analysis = self._context.stall_timeout, self._context.analysis
        while status := arrival.next_status(timeout, analysis, now, observed=observed, reporting=reporting):
            yield Changed(arrival, status)
            if not status.status.ended:  # after a finished attempt, there may be another attempt to publish
                return

    def _keeps(self, arrival: Arrival, now: float) -> bool:
        """Return whether to keep a completed arrival whose pull no agent observed."""
        if not arrival.has_completed or not arrival.row.status or now >= arrival.ended_at + self._context.ttl:
            return False
        if not arrival.expires:
            arrival.expires = True
            self.expiring.append(arrival.ended_at + self._context.ttl)
        return True

    def _drop(self, arrival: Arrival) -> Iterator[Changed]:
        self.arrivals.pop(arrival.id, None)
        if arrival.row.status:
            yield Changed(arrival, None)

    def _new_arrival(self, seed: str, name: Name) -> Arrival:
        arrival = Arrival(free_id(self.arrivals, self._node, seed), name)
        self.arrivals[arrival.id] = arrival
        return arrival


def _needs_row(demand: ImageDemand, now: float) -> bool:
    """Return whether a demand must be shown even though it has no arrival."""
    if demand.pulled_at is None:
        return demand.requested
    # The pull was so short that the kubelet events for its start and its end arrived together.
    return demand.pull_seconds is not None and now - demand.pulled_at < SETTLES_AFTER


def _best(arrivals: Iterable[Arrival], own: Arrival | None, pull: Pull, name: Name) -> tuple[Arrival | None, Match]:
    """Return the arrival to which a pull belongs.

    A pull moves to a different arrival only if that arrival has exactly the pull's name, or if the image of the pull's
    current arrival is unknown. If a live pull has no tag and several tags of its repository may be retried, the pull is
    not treated as a retry of any of them.
    """
    places = {
        arrival: match(pull, arrival)
        for arrival in sorted(arrivals, key=lambda arrival: (arrival.name.image == name.image, arrival.recency))
        if not own or own.name.is_unknown or arrival.name.image == name.image
    }
    found = [(arrival, place) for arrival, place in places.items() if place is not Match.UNRELATED]
    if pull.ended_at is None and not name.is_full:
        found = [item for item in found if not (item[1] is Match.NEXT_ATTEMPT and item[0].is_abandoned)]
        retried = {arrival.name.image for arrival, place in found if place is Match.NEXT_ATTEMPT}
        if len(retried) > 1:
            found = [item for item in found if item[1] is not Match.NEXT_ATTEMPT]
    return found[-1] if found else (None, Match.UNRELATED)


def _suppose(pull: Pull, name: Name) -> None:
    """Store the name that was assigned to a pull."""
    pull.supposed, pull.supposed_guessed = name.image if name.is_full else "", name.guessed


def _is_settled(arrival: Arrival, now: float) -> bool:
    """Return whether the arrival completed so long ago that it can no longer change.

    A failed arrival never settles, because it is waiting for the next attempt.
    """
    pull = arrival.pull
    if pull is None or pull.phase is not PullPhase.COMPLETED or pull.learned_at is None:
        return False
    return now - pull.learned_at > SETTLES_AFTER
