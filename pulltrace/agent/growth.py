"""Decide whether anything other than download sizes may have changed in a pull. Sans-I/O.

Theory of operation. A lease's resources change only in these cases:

- One of the pull's ingests appears, is aborted or is committed. This is visible in the list of ingests.
- The pull is resolving its reference: documents arrive, possibly without a visible ingest.
- A layer is being unpacked, or is about to be: snapshots appear, which neither the list of ingests nor the list of
  leases contains.
- The snapshotter is fetching the layers: snapshots appear without any ingest.

If none of the last three cases applies, a pull is *steady*: any change to its lease's resources is visible in the list
of ingests. While every pull on a node is steady and no ingest or lease appears or disappears, the poller requests only
the lists of ingests and leases. As a safeguard, the poller requests everything after ten such polls.
"""

from collections.abc import Collection

from pulltrace.agent.layers import Progress
from pulltrace.agent.pull import Pull, Seen
from pulltrace.agent.stale_leases import NO_PROGRESS_LIMIT
from pulltrace.wire import LayerPhase


def is_steady(pull: Pull, refs: Collection[str], now: float) -> bool:
    """Return whether only the sizes of the pull's downloads can change.

    ``refs`` contains the refs of all ingests on the node.
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
    """Return whether the pull's lease might have become stale simply because time has passed.

    All other signs of a stale lease are visible in the lists of ingests and leases.
    """
    return pull.suspect or (pull.inherited and now - pull.moved_at > NO_PROGRESS_LIMIT / 2)


def _may_unpack(pull: Pull) -> bool:
    """Return whether a layer is being unpacked or may soon be unpacked.

    Normally, a layer may be unpacked once it and all layers below it are complete. If several of the pull's layers are
    being unpacked at the same time, containerd is unpacking in parallel, so any complete layer may be next.
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
