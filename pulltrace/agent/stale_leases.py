"""Recognise leases that outlived their pull. Sans-I/O.

If a crash interrupts a pull, containerd keeps its lease for a day, without marking it as stale.
"""

from collections.abc import Iterable

from pulltrace.agent.model import ImageRecord
from pulltrace.agent.pull import Pull, age
from pulltrace.wire import LayerPhase

NO_PROGRESS_LIMIT = 300.0
"""Seconds after which containerd cancels a pull that makes no progress (``image_pull_progress_timeout``)."""

UNPACK_LIMIT = 1800.0
"""Seconds without progress after which unpacking has certainly ended, because no single layer takes that long."""

EMPTY_LIMIT = 2 * NO_PROGRESS_LIMIT
"""Seconds after which a pull that has not resolved its reference was certainly cancelled, so that its lease is no
longer in use.
"""


def looks_dead(
    pull: Pull, others: Iterable[Pull], records: Iterable[ImageRecord], containerd_since: float, now: float
) -> bool:
    """Return whether a lease has outlived its pull. No poll saw the lease being created; ``records`` are the image
    records of the pull.

    It has outlived the pull if containerd was started after the lease began, if the image was created after the last
    progress, if a newer pull has taken over one of the ingests, or if there was no progress for too long. The last rule
    does not apply while an older pull makes progress: this pull then waits for a layer that the other one downloads, or
    for a download slot. Nor does it apply while the snapshotter fetches the layers, because containerd does not show
    their progress.
    """
    others = [other for other in others if other is not pull and not other.suspect]
    # If the clock was set back, containerd seems to have started in the future. Ignore its start time in that case.
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
