"""Decide whether a client pulled an image or imported it from an archive. Sans-I/O.

Theory of operation. If any part of the image was downloaded after the lease began, the client pulled the image. If the
whole image was already on the node, the order of writes shows whether it was pulled or imported:

- A pull labels the manifest and then the config, even if both are cached, and writes the image record last.
- An import by containerd's client labels only the manifest before it writes the record. The config is labelled later,
  when the client unpacks the image under a second lease.
- An import through containerd's transfer service writes in the same order as a pull. However, the import removes the
  CRI plugin's label from the record.

After another client has written the record, the CRI plugin writes it again to add its own label. This second write is
ignored. If another pull of the image labels the manifest or the config before the agent reads the labels, the order of
the earlier writes can no longer be determined.
"""

from collections.abc import Iterable
from enum import Enum

from pulltrace.agent.model import Facts, Lease
from pulltrace.agent.pull import Pull
from pulltrace.agent.records import Name, RecordLedger


class Origin(Enum):
    """How the client obtained the image."""

    PULL = "pulled it"
    IMPORT = "imported or unpacked it"
    UNKNOWN = "pulled or imported it"


def origin_of(pull: Pull, name: Name, facts: Facts, ledger: RecordLedger) -> Origin:
    """Return how the client of a completed pull obtained the image. ``name`` is the name under which the pull
    completed.
    """
    if pull.image is None or _has_downloaded(pull, facts):
        return Origin.PULL
    began, targets, blobs = pull.lease.created_at, pull.image.targets, facts.blobs
    cached = [digest for digest in pull.image.documents if digest in blobs and blobs[digest].created_at < began]
    if not cached:
        return Origin.PULL
    # If a pull was discovered only after it had ended, its record alone does not prove that it was a pull, because
    # polls saw too little of it.
    order_lost = Origin.UNKNOWN if pull.guessed or pull.record else Origin.PULL
    manifests = [blobs[digest].updated_at for digest in cached if digest in targets]
    configs = [blobs[digest].updated_at for digest in cached if digest not in targets]
    if not (manifests and configs):
        return order_lost
    manifest, config = max(manifests), max(configs)
    first = ledger.first_write(name.reference, manifest)
    written_at = first.at if first and first.foreign else name.written_at
    if min(manifest, config) < began or manifest <= written_at < config:
        return Origin.IMPORT
    if ledger.is_foreign(name.reference, began):
        return Origin.UNKNOWN
    return Origin.PULL if manifest <= config <= written_at else order_lost


def are_imported(documents: Iterable[str], lease: Lease, facts: Facts) -> bool:
    """Return whether all these documents (digests) were imported, rather than downloaded, after the lease began. Only
    downloaded blobs have a source label.
    """
    blobs = [facts.blobs.get(digest) for digest in documents]
    return all(blob and not blob.sources and blob.created_at >= lease.created_at for blob in blobs)


def _has_downloaded(pull: Pull, facts: Facts) -> bool:
    """Return whether a blob of the pull was downloaded after the pull's lease began."""
    documents = pull.image.documents if pull.image else ()
    blobs = [facts.blobs.get(digest) for digest in (*documents, *pull.layers)]
    return any(blob and blob.sources and blob.created_at >= pull.lease.created_at for blob in blobs)
