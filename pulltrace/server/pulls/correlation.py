"""A node's pulls and its kubelet's wants → the node's stories. PURE.

People see stories. Without Kubernetes there are no wants, and of an image that cannot be resolved no agent may ever
see a pull. ``join`` works anew through what is open on one node: attempts that run or ended a moment ago, wants, and
failed stories that a next attempt may continue. Who belongs together is decided here, what is told in ``arrivals``.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.pulls.analysis import Analysis
from pulltrace.server.pulls.arrival import Arrival, Match
from pulltrace.server.pulls.image_names import Name, names_of
from pulltrace.server.pulls.node import Pull
from pulltrace.wire import PullPhase, PullStatus

SETTLES_AFTER = 120.0
"""Seconds after a pull's end in which its story may still change: Kubernetes tells late who waited and what failed."""


@dataclass(slots=True)
class Joined:
    """What is new of a node's stories since the last join."""

    changed: list[tuple[Arrival, PullStatus | None]] = field(default_factory=list)
    """In the order in which it is to be told; of one story perhaps an end and the next beginning.

    None for a story that is no more: nobody waits any longer, or it turned out to be another.
    """


class Correlation:
    """The open stories of all nodes. Owned by the hub."""

    def __init__(self, stall_timeout: float, analysis: Analysis) -> None:
        self._stall_timeout = stall_timeout
        self._analysis = analysis
        self._nodes: dict[str, dict[str, Arrival]] = {}  # node → id → story

    def join(self, node: str, pulls: Iterable[Pull], demands: Sequence[ImageDemand], now: float) -> Joined:
        """Bring one node's stories up to date. ``pulls`` are those that run and those that ended lately."""
        arrivals = self._nodes.setdefault(node, {})
        joined = Joined()
        ordered = sorted((pull for pull in pulls if not pull.superseded), key=lambda pull: pull.started_at)
        names = names_of(ordered, demands)
        for pull in ordered:
            self._place(arrivals, pull, names[pull.key], now, joined)
        _place_wants(arrivals, node, demands)
        ahead = tuple(pull.state.repository or "another image" for pull in ordered if pull.ended_at is None)
        for arrival in list(arrivals.values()):
            if arrival.pull is None and (arrival.demand is None or (arrival.demand.pulled_at and not arrival.status)):
                _drop(arrivals, arrival, joined)
                continue
            if arrival.demand and arrival.demand.pulling and (not arrival.pull or arrival.pull.ended_at is not None):
                arrival.ahead, arrival.waited_behind = ahead, ahead or arrival.waited_behind
            self._tell(arrival, now, joined)
            if arrival.demand is None and _is_settled(arrival, now):
                del arrivals[arrival.id]
                if arrival.pull:
                    arrival.pull.settle()
        if not arrivals:
            del self._nodes[node]
        return joined

    def forget(self, pull: Pull) -> str | None:
        """The pull's time is over. Answers the id of the story that ends with it; None when it goes on without."""
        if pull.superseded:
            return None
        arrival = self._nodes.get(pull.node.name, {}).get(pull.arrival_id)
        if arrival and arrival.demand:
            arrival.pull = None
            return None
        if arrival:
            del self._nodes[pull.node.name][arrival.id]
        return pull.arrival_id or None

    def _place(self, arrivals: dict[str, Arrival], pull: Pull, name: Name, now: float, joined: Joined) -> None:
        """Give a pull its story: the one it had, one that waits for it, or a new one; none while that is open."""
        own = arrivals.get(pull.arrival_id)
        if pull.arrival_id and (not own or own.pull is not pull):
            return  # settled, or continued by a later attempt
        if own and own.name.image == name.image:
            own.name = name
            return
        if own and _knows_more(own.name, name):
            return
        others = [arrival for arrival in arrivals.values() if arrival is not own and name.is_same_image(arrival.name)]
        for arrival in others:
            self._tell(arrival, now, joined)  # how the attempt before it ended
        found, place = _best(others, own, pull, name)
        if not found and own:
            own.name = name  # it turned out to be another image than was thought
            return
        if own:
            _drop(arrivals, own, joined)
        pull.superseded, pull.supposed, pull.arrival_id = place is Match.EARLIER_ATTEMPT, "", ""
        if place is Match.UNDECIDED:
            pull.supposed = name.image
        elif place is not Match.EARLIER_ATTEMPT:
            found = found or Arrival(_free_id(arrivals, pull.node.name, pull.key), name)
            arrivals[found.id] = found
            found.attach(pull, name)

    def _tell(self, arrival: Arrival, now: float, joined: Joined) -> None:
        while status := arrival.tell(self._stall_timeout, self._analysis, now):
            joined.changed.append((arrival, status))
            if not status.status.ended:  # after an end there may be a beginning
                return


def _best(arrivals: Iterable[Arrival], own: Arrival | None, pull: Pull, name: Name) -> tuple[Arrival | None, Match]:
    """Whom such a pull belongs to. It leaves its own story for one of exactly its name, or when nothing was known."""
    best: tuple[Arrival | None, Match] = None, Match.UNRELATED
    for arrival in sorted(arrivals, key=lambda arrival: (arrival.name.image == name.image, arrival.recency)):
        place = arrival.match(pull)
        if place is not Match.UNRELATED and (not own or own.name.is_unknown or arrival.name.image == name.image):
            best = arrival, place
    return best


def _knows_more(known: Name, name: Name) -> bool:
    """The same image under a fuller name: who asked for it may be gone, or ask again."""
    return known.is_full and not name.is_full and (name.is_unknown or name.is_same_image(known))


def _place_wants(arrivals: dict[str, Arrival], node: str, demands: Sequence[ImageDemand]) -> None:
    """Give each want its story; one that has none is new."""
    by_image: dict[str, list[Arrival]] = {}
    for arrival in arrivals.values():
        arrival.demand = None
        by_image.setdefault(arrival.name.image, []).append(arrival)
    for demand in demands:
        of_image = by_image.get(demand.image, [])
        found = max(of_image, key=lambda arrival: (arrival.is_end_of(demand), *arrival.recency), default=None)
        if found is None or found.is_over_for(demand):
            if demand.pulled_at is not None or not demand.asked:
                continue
            # A failure whose beginning was missed has the time of an earlier one, and perhaps of a story that is over.
            began = demand.failure.at if demand.failure and not demand.pulling else demand.since
            found = Arrival(_free_id(arrivals, node, f"{demand.image} {began}"), Name.of(demand.image))
            arrivals[found.id] = found
        found.demand = demand
        found.pods = demand.pods or found.pods
        for arrival in of_image:
            if demand.failure:
                arrival.explain(demand.failure)
        if found.pull and demand.pulling:
            # The kubelet counts in whole seconds: a pull that never queued may seem to have, for less than one.
            found.pull.phases.setdefault(PullPhase.QUEUED, max(found.pull.started_at - demand.since, 0.0))


def _is_settled(arrival: Arrival, now: float) -> bool:
    """Nothing can change it: it ended well a while ago. A failed one waits for its next attempt until forgotten."""
    pull = arrival.pull
    return (
        pull is not None
        and pull.phase is PullPhase.COMPLETED
        and pull.learned_at is not None
        and now - pull.learned_at > SETTLES_AFTER
    )


def _drop(arrivals: dict[str, Arrival], arrival: Arrival, joined: Joined) -> None:
    arrivals.pop(arrival.id, None)
    if arrival.status:
        joined.changed.append((arrival, None))


def _free_id(arrivals: Mapping[str, Arrival], node: str, seed: str) -> str:
    """Opaque, URL-safe, and the same after a restart of the server.

    One is taken where a pull was an attempt of a story that goes on without it, or has kept another image's story.
    """
    digest = hashlib.blake2b(f"{node}\n{seed}".encode(), digest_size=9).digest()
    id_ = base64.urlsafe_b64encode(digest).decode()
    return _free_id(arrivals, node, f"{seed} again") if id_ in arrivals else id_
