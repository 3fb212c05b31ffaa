"""Recognise stale leases: those that outlived their pulls. Sans-I/O.

If a crash interrupts a pull, containerd keeps the lease of the pull for a day, and nothing marks that lease as stale.
"""

from collections.abc import Iterable

from pulltrace.agent.model import ImageRecord
from pulltrace.agent.pull import Pull, age
from pulltrace.wire import LayerPhase

NO_PROGRESS_LIMIT = 300.0
"""The number of seconds without progress after which containerd cancels a pull (``image_pull_progress_timeout``)."""

UNPACK_LIMIT = 1800.0
"""Seconds without progress after which unpacking has certainly ended, because no single layer takes that long."""

EMPTY_LIMIT = 2 * NO_PROGRESS_LIMIT
"""After this number of seconds, a pull that has not resolved its reference has certainly been cancelled, and its lease
is stale.
"""


def looks_dead(
    pull: Pull, others: Iterable[Pull], records: Iterable[ImageRecord], containerd_since: float, now: float
) -> bool:
    """Return whether a lease has outlived its pull. ``records`` are the pull's image records. No poll saw when the
    lease was created.

    A lease has outlived its pull if containerd was started after the lease began, or if the image was created after the
    last progress. A lease has also outlived its pull if a newer pull has taken over one of the ingests, or if there was
    no progress for too long. The last case does not apply while an older pull makes progress. This pull may then be
    waiting for a layer that the older pull downloads, or for a download slot. The last case does not apply either while
    the snapshotter fetches the layers: containerd does not show the progress of these layers.
    """
    others = [other for other in others if other is not pull and not other.suspect]
    # If the clock was set back, containerd's start time is in the future. In that case, ignore the start time.
    if age(pull) < containerd_since <= now or any(record.updated_at > pull.moved_at for record in records):
        return True
    if any(age(other) > age(pull) and other.resources.ingests & pull.resources.ingests for other in others):
        return True
    if pull.served:
        return False
    if any(age(other) < age(pull) and now - other.moved_at <= NO_PROGRESS_LIMIT for other in others):
        return False
    unpacking = any(progress.phase is LayerPhase.EXTRACTING for progress in pull.layers.values())
    return now - pull.moved_at > (UNPACK_LIMIT if unpacking else NO_PROGRESS_LIMIT)
