"""Decide whether a pull may have changed in anything other than the size of its downloads. Sans-I/O.

Theory of operation. A lease's resources change only in these cases:

- An ingest of the pull appears, ends or is committed. The list of ingests shows this.
- The pull resolves its reference: documents arrive, possibly without a visible ingest.
- A layer is being unpacked, or is about to be: snapshots appear that no list shows.
- The snapshotter fetches the layers: snapshots appear without any ingest.

In all other cases, a pull is *steady*: the list of ingests alone shows its progress. While every pull on a node is
steady, and the lists contain the same ingests and leases as before, the poller requests only these two lists. As a
safety net, every tenth poll requests everything.
"""

from collections.abc import Collection

from pulltrace.agent.layers import Progress
from pulltrace.agent.pull import Pull, Seen
from pulltrace.agent.stale_leases import NO_PROGRESS_LIMIT
from pulltrace.wire import LayerPhase


def is_steady(pull: Pull, refs: Collection[str], now: float) -> bool:
    """Return whether the pull can change only in the size of its downloads.

    ``refs`` are the refs of all ingests.
    """
    if pull.resources.ingests.isdisjoint(refs) or _may_be_stale(pull, now):
        return False
    return _is_known(pull) and not _may_unpack(pull)


def _is_known(pull: Pull) -> bool:
    """Return whether the pull's image, its source and the component that fetches its layers are all known."""
    if pull.seen is not Seen.IMAGE or pull.served:
        return False
    return pull.sized and pull.traced and pull.is_answered


def _may_be_stale(pull: Pull, now: float) -> bool:
    """Return whether the pull's lease may have become stale merely because time has passed.

    All other evidence of a stale lease is in the lists.
    """
    return pull.suspect or (pull.inherited and now - pull.moved_at > NO_PROGRESS_LIMIT / 2)


def _may_unpack(pull: Pull) -> bool:
    """Return whether a layer is being unpacked or may soon be unpacked.

    Normally, a layer may be unpacked once this layer and all layers below it are complete. If a lease prepares several
    layers at once, containerd unpacks in parallel. Then any complete layer may be next.
    """
    in_parallel = len(pull.resources.unpacking) > 1
    is_next = True
    for progress in pull.layers.values():
        if not _is_done(progress):
            if progress.complete and (is_next or in_parallel or progress.phase is LayerPhase.EXTRACTING):
                return True
            is_next = False
    return False


def _is_done(progress: Progress) -> bool:
    return progress.unpacked or (progress.complete and not progress.layer.chain_ids)
