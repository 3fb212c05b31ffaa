"""Assign leases to the images that the kubelet is pulling, if only the lease of a pull is known. Sans-I/O.

Such a lease belongs either to a pull that is resolving its reference, or to a container that is being created. Neither
its purpose nor its image is known. An assigned lease therefore shows only that an image is being resolved, and the end
of the attempt is reported by the kubelet alone. If a lease is assigned to the wrong image, no published state has to be
corrected later.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pulltrace.server.kubernetes.demand import ImageDemand
from pulltrace.server.pulls.arrival import Arrival, is_later
from pulltrace.server.pulls.image_names import ORDER_TOLERANCE, Name, ended_together, was_running
from pulltrace.server.pulls.node import Pull
from pulltrace.wire import UNKNOWN_IMAGE


def place(
    leases: Iterable[Pull], arrivals: Iterable[Arrival], demands: Sequence[ImageDemand]
) -> list[tuple[Pull, Name]]:
    """Assign one node's leases, oldest first. Return the leases without an arrival, each with its probable name.

    The name is unknown, or belongs to an image whose pods were deleted before the pull began.
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
    """A request by the kubelet whose pull has no lease yet."""

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
    """Assign a lease to the earliest matching request by the kubelet.

    Return the lease's name if the lease needs a separate arrival.
    """
    if lease.ended_at is not None:
        lease.superseded = lease.released or any(ended_together(lease, demand) for demand in demands)
        return None if lease.superseded else Name(UNKNOWN_IMAGE)
    fits = [slot for slot in slots if slot.since <= lease.started_at + ORDER_TOLERANCE]
    if not fits:
        lease.released |= any(was_running(lease, demand) for demand in demands)  # the lease was reported late
        return None if lease.released else Name(UNKNOWN_IMAGE)
    best = min(fits, key=lambda slot: (slot.since > lease.started_at + 1.0, slot.since, slot.attempt))
    slots.remove(best)
    name, arrival = Name.of(best.image, guessed=True), best.arrival
    if arrival is None:
        return name
    if not arrival.has_completed and (arrival.pull is None or arrival.pull.ended_at is not None):
        arrival.attach(lease, name)
        lease.supposed, lease.supposed_guessed = name.image, True
    return None


def _has_ended(arrival: Arrival, lease: Pull) -> bool:
    """Each lease seems to belong to an attempt. Return whether the kubelet has reported the end of this attempt."""
    demand = arrival.demand
    return demand is not None and (not demand.pulling or is_later(demand, lease))
