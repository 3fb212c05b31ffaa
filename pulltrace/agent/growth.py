"""Decide whether a pull can have changed in anything but the growth of its downloads. Sans-I/O.

Theory of operation. A lease's resources change only when

- an ingest of the pull appears, ends or is committed, which the list of ingests shows;
- the pull resolves: documents arrive that no ingest may have shown;
- a layer is being unpacked, or is about to be: snapshots appear, which nothing else shows;
- the snapshotter fetches the layers: snapshots appear without any ingest.

A pull that is *steady* is in none of these states, so that the list of ingests alone shows its progress. While every
pull of a node is steady and the same ingests and leases exist, the poller requests these two lists and nothing else,
except in every tenth poll, as a safety net.
"""

from collections.abc import Collection

from pulltrace.agent.layers import Progress
from pulltrace.agent.pull import Pull, Seen
from pulltrace.wire import LayerPhase


def is_steady(pull: Pull, refs: Collection[str]) -> bool:
    """Return whether only the growth of its downloads can change the pull. ``refs`` are those of all ingests."""
    return _is_known(pull) and not pull.resources.ingests.isdisjoint(refs) and not _may_unpack(pull)


def _is_known(pull: Pull) -> bool:
    """Return whether everything about the pull is known: its image, its source, and what fetches its layers."""
    if pull.seen is not Seen.IMAGE or pull.inherited or pull.suspect or pull.served:
        return False
    return pull.sized and pull.traced and pull.is_answered


def _may_unpack(pull: Pull) -> bool:
    """Return whether a layer is being unpacked or may be soon: it is complete, and so are all layers below it.

    If a lease prepares several layers at once, containerd unpacks in parallel: then any complete layer may be next.
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
