"""Assign each pull that is known only from its lease to an image that the kubelet is pulling. Sans-I/O.

A lease does not contain an image name. An empty lease may belong to a pull that is resolving its reference, or to a
container that is being created. Even after its lease has been assigned, such a pull is therefore published only as
resolving, and only the kubelet's reports can end the attempt. No published state has to be corrected if a lease was
assigned to the wrong image.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.pulls.arrival import Arrival
from pulltrace.server.pulls.image_names import ORDER_TOLERANCE, Name, ended_together, was_running
from pulltrace.server.pulls.matching import Match, is_later, match
from pulltrace.server.pulls.node import Pull
from pulltrace.wire import UNKNOWN_IMAGE


def place(
    leases: Iterable[Pull], arrivals: Iterable[Arrival], demands: Sequence[ImageDemand]
) -> list[tuple[Pull, Name]]:
    """Assign one node's leases, oldest first. Return the leases that need a new arrival, each with the probable name of
    its image.

    The name is either unknown or that of an image whose pods were deleted before the pull began.
    """
    by_id = {arrival.id: arrival for arrival in arrivals}
    open_ = []
    for lease in leases:
        own = by_id.get(lease.arrival_id)
        if own and own.pull is lease and _has_ended(own, lease):
            own.pull, lease.arrival_id, lease.released = None, "", True
        if not lease.arrival_id:
            open_.append(lease)
    slots = [slot for arrival in by_id.values() if arrival.demand for slot in _slots(arrival.demand, arrival)]
    shown = {arrival.name.image for arrival in by_id.values()}
    slots += [slot for demand in demands if demand.abandoned and demand.image not in shown for slot in _slots(demand)]
    return [(lease, name) for lease in open_ if (name := _assign(lease, slots, demands))]


@dataclass(frozen=True, slots=True)
class _Slot:
    """An image request from the kubelet for which there is no lease yet."""

    since: float
    attempt: int
    image: str
    arrival: Arrival | None


def _slots(demand: ImageDemand, arrival: Arrival | None = None) -> list[_Slot]:
    if not demand.pulling:
        return []
    starts = list(demand.starts) or [demand.since]
    has_lease = arrival is not None and arrival.pull is not None and arrival.pull.ended_at is None
    return [_Slot(since, demand.attempt, demand.image, arrival) for since in starts[has_lease:]]


def _assign(lease: Pull, slots: list[_Slot], demands: Sequence[ImageDemand]) -> Name | None:
    """Assign a lease to the kubelet's earliest matching request.

    Return the image's name if the lease needs a new arrival, otherwise None.
    """
    if lease.ended_at is not None:
        lease.superseded = lease.released or any(ended_together(lease, demand) for demand in demands)
        return None if lease.superseded else Name(UNKNOWN_IMAGE)
    fits = [slot for slot in slots if slot.since <= lease.started_at + ORDER_TOLERANCE]
    if not fits:
        lease.released |= any(was_running(lease, demand) for demand in demands)  # the agent reported the lease late
        return None if lease.released else Name(UNKNOWN_IMAGE)
    best = min(fits, key=lambda slot: (slot.since > lease.started_at + 1.0, slot.since, slot.attempt))
    slots.remove(best)
    name, arrival = Name.of(best.image, guessed=True), best.arrival
    if arrival is None:
        return name
    if match(lease, arrival) in (Match.SAME_ATTEMPT, Match.NEXT_ATTEMPT):
        arrival.attach(lease, name)
        lease.supposed, lease.supposed_guessed = name.image, True
    return None


def _has_ended(arrival: Arrival, lease: Pull) -> bool:
    """Return whether the kubelet has reported the end of the attempt to which the lease was assigned."""
    demand = arrival.demand
    return demand is not None and (not demand.pulling or is_later(demand, lease))
