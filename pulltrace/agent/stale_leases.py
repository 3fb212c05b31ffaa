"""PURE: what was left behind: leases that outlived their pull. containerd keeps them for a day and never says so."""

from collections.abc import Iterable

from pulltrace.agent.model import ImageRecord
from pulltrace.agent.pull import Pull
from pulltrace.wire import LayerPhase

NO_PROGRESS_LIMIT = 300.0
"""Seconds; containerd gives up a pull on which nothing moves for this long (``image_pull_progress_timeout``)."""

UNPACK_LIMIT = 1800.0
"""Seconds; no single layer takes this long to unpack: whoever was doing it has died."""


def age(pull: Pull) -> float:
    """To sort by: the oldest first."""
    return pull.lease.created_at


def looks_dead(
    pull: Pull, others: Iterable[Pull], records: Iterable[ImageRecord], containerd_since: float, now: float
) -> bool:
    """Whether a lease that nobody saw beginning outlived its pull. ``records`` are the image's names.

    It did when containerd has started since, when the image was made after the last thing that moved here, when a newer
    pull has taken over one of its ingests, or when nothing has moved for too long; unless an older pull does move: then
    containerd did not die in between, and this one waits for a layer that the other fetches, or for a slot.
    """
    others = [other for other in others if other is not pull and not other.suspect]
    # A clock that was set back since makes it seem to begin in the future; then that says nothing.
    if age(pull) < containerd_since <= now or any(record.updated_at > pull.moved_at for record in records):
        return True
    if any(age(other) > age(pull) and other.resources.ingests & pull.resources.ingests for other in others):
        return True
    if any(age(other) < age(pull) and now - other.moved_at <= NO_PROGRESS_LIMIT for other in others):
        return False
    unpacking = any(progress.phase is LayerPhase.EXTRACTING for progress in pull.layers.values())
    return now - pull.moved_at > (UNPACK_LIMIT if unpacking else NO_PROGRESS_LIMIT)
