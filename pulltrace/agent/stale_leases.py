"""Recognise stale leases: leases that have outlived their pulls. Sans-I/O.

If a crash interrupts a pull, containerd keeps the pull's lease for a day, and nothing marks the lease as stale.
"""

from collections.abc import Iterable

from pulltrace.agent.model import ImageRecord
from pulltrace.agent.pull import Pull, age
from pulltrace.wire import LayerPhase

NO_PROGRESS_LIMIT = 300.0
"""Maximum time, in seconds, that a pull can go without progress before containerd cancels it
(``image_pull_progress_timeout``).
"""

UNPACK_LIMIT = 1800.0
"""Maximum time, in seconds, that unpacking can go without visible progress. Unpacking a single layer never takes this
long.
"""

EMPTY_LIMIT = 2 * NO_PROGRESS_LIMIT
"""Maximum time, in seconds, that a pull can take to resolve its reference. By then, containerd must have cancelled the
pull, so its lease is stale.
"""


def looks_stale(
    pull: Pull, others: Iterable[Pull], records: Iterable[ImageRecord], containerd_since: float, now: float
) -> bool:
    """Return whether a lease that already existed before the first poll has outlived its pull. ``records`` contains the
    records of the pull's image.

    A lease has outlived its pull in these cases:

    - containerd started after the lease began;
    - the image record was written after the pull last made progress;
    - a newer pull has taken over one of the pull's ingests;
    - the pull has made no progress for too long.

    The last case does not apply while an older pull is making progress. The newer pull may be waiting for a download
    slot, or for a layer that the older pull is downloading. The last case also does not apply while the snapshotter is
    fetching the layers, because containerd does not show the progress of those layers.
    """
    others = [other for other in others if other is not pull and not other.suspect]
    # If the clock was set back, containerd's start time may be in the future. A start time in the future is ignored.
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
