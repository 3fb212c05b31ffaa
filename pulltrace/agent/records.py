"""Match image records to the pulls that wrote them. Sans-I/O.

containerd creates or updates an image's records when a pull completes. For a pull by tag, the CRI plugin writes three
records: one named by tag, one by digest and one by image id. A pull's records prove that the pull completed, and
identify its image.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from pulltrace.agent.identifiers import is_digest
from pulltrace.agent.model import ImageRecord, Lease, Write
from pulltrace.images import InvalidReferenceError, Reference, parse, registry_host

MAX_WRITES = 16
"""Maximum number of writes that the ledger remembers for each image record."""

MAX_NAMES = 256
"""Maximum number of image records for which the ledger remembers writes."""


class Name(NamedTuple):
    """A pull's image reference, whether that reference is a guess, and the time at which the pull wrote the image
    record.
    """

    reference: str
    guessed: bool
    written_at: float


class RecordLedger:
    """The records that completed pulls have claimed, each with the time at which its pull wrote it.

    Each version of a record proves that one pull completed. If a later pull updates the record, the new version proves
    that the later pull completed. If two pulls of the same image end during the same poll, the agent cannot determine
    which pull made which update. In this case, both pulls may claim the record, and their tags may be swapped.
    """

    def __init__(self) -> None:
        self._earlier: dict[str, float] = {}
        self._this_poll: dict[str, float] = {}
        self._removed: dict[str, bool] = {}  # record name → whether an earlier poll saw the removal
        self._writes: dict[str, list[Write]] = {}  # the last writes of each record, by record name

    def __len__(self) -> int:
        return len(self._earlier | self._this_poll)

    def is_new_for(self, record: ImageRecord, lease: Lease) -> bool:
        """Return whether this version of the record was written after the lease began and has not been claimed by an
        earlier pull.
        """
        return record.updated_at >= lease.created_at and self.is_new(record)

    def is_new(self, record: ImageRecord) -> bool:
        """Return whether no earlier pull has claimed this version of the record."""
        return record.updated_at > self._earlier.get(record.name, 0.0)

    def is_claimed(self, name: str) -> bool:
        """Return whether any pull has claimed the record, during this poll or an earlier one."""
        return name in self._earlier or name in self._this_poll

    def is_claimed_now(self, name: str) -> bool:
        """Return whether a pull that ended during this poll has claimed the record."""
        return name in self._this_poll

    def claimed_at(self, name: str) -> float:
        """Return the time at which this record was written by the pull that last claimed it; 0.0 if no pull has claimed
        it.
        """
        return self._this_poll.get(name, self._earlier.get(name, 0.0))

    def written_at(self, record: ImageRecord, lease: Lease) -> float:
        """Return the time when the pull with this lease wrote the record.

        If the pull created the record, the result is the record's creation time, because a second pull of the same
        image may have updated the record since then. However, if another pull that ended during this poll has already
        claimed the record, that pull is assumed to have created it. In that case, the result is the time of the update.
        """
        created = record.created_at >= lease.created_at and record.created_at > self._earlier.get(record.name, 0.0)
        return record.created_at if created and not self.is_claimed_now(record.name) else record.updated_at

    def claim(self, records: Iterable[ImageRecord], lease: Lease, name: Name | None) -> None:
        """Record that the pull with this lease completed as ``name``, and also wrote the records named by digest and by
        image id.

        If ``name`` is None, the pull is assumed to have written every unclaimed record since its lease began.
        """
        times = {record: self.written_at(record, lease) for record in records if name or self.is_new_for(record, lease)}
        self._this_poll.update(
            {record.name: at for record, at in times.items() if not name or is_tagless(record) or at == name.written_at}
        )

    def see_writes(self, writes: Mapping[str, Collection[Write]]) -> None:
        """Remember writes to image records. ``writes`` is keyed by record name."""
        for name, seen in writes.items():
            self._writes[name] = [*self._writes.pop(name, ()), *seen][-MAX_WRITES:]

    def first_write(self, record: str, since: float) -> Write | None:
        """Return the first known write of the record after ``since``, or None if there is none. The record itself
        contains only the time of its last write.
        """
        return min((write for write in self._writes.get(record, ()) if write.at >= since), default=None)

    def is_foreign(self, record: str, since: float) -> bool:
        """Return whether the first known write of the record after ``since`` was made by a client other than the CRI
        plugin.
        """
        write = self.first_write(record, since)
        return write is not None and write.foreign

    def see_removed(self, name: str) -> None:
        """Remember that a record has been written and removed since the last poll."""
        self._removed[name] = False

    def take_removed(self, source: tuple[str, str] | None) -> str | None:
        """Return the name of a removed record, and forget all removed records of the same repository. If ``source`` is
        given, only records with this source are considered.
        """
        known = {name: reference for name in self._removed if (reference := reference_of(name))}
        names = [name for name, item in known.items() if source in (None, source_of_reference(item))]
        if not names:
            return None
        name = min(names, key=lambda name: "@" in name)
        for other in names:
            if known[other].name == known[name].name:
                del self._removed[other]
        return str(known[name])

    def after_poll(self, oldest: float, unseen_since: float) -> None:
        """Forget claims and writes that no pull needs any longer.

        ``oldest`` is the start time of the oldest live pull. Pulls that no poll has seen began after ``unseen_since``.
        """
        claims = self._earlier | self._this_poll
        self._earlier = {name: at for name, at in claims.items() if at >= oldest}
        self._this_poll.clear()
        since = min(oldest, unseen_since)
        writes = {name: seen for name, seen in self._writes.items() if seen[-1].at >= since}
        self._writes = dict(list(writes.items())[-MAX_NAMES:])
        # A lease may still be listed for one poll after its pull has written the record, so a removed record is kept
        # for two polls.
        self._removed = {name: True for name, is_old in self._removed.items() if not is_old}


def name_of(
    records: Iterable[ImageRecord],
    lease: Lease,
    source: tuple[str, str] | None,
    ledger: RecordLedger,
    *,
    complete: bool = False,
) -> Name | None:
    """Derive a pull's name from the records of its image. Return None if the pull did not complete and therefore wrote
    no record.

    ``complete`` is true if every layer of the pull is on the node. Such a pull may have written a record that another
    pull has claimed. If two pulls of the same image overlap, the second pull may update the record before the first
    pull's lease is deleted. A busy node may take several seconds to delete a lease.

    Records from ``source`` are preferred. Among several records, one named by a tag is preferred to one named by a
    digest, an unclaimed one to a claimed one, and a newer one to an older one.
    """
    since = lease.created_at
    new = [record for record in records if record.updated_at >= since and (complete or ledger.is_new(record))]
    new.sort(key=lambda record: (not ledger.is_claimed_now(record.name), record.updated_at), reverse=True)
    named = [(reference, record) for record in new if (reference := reference_of(record.name))]
    named = [item for item in named if source_of_reference(item[0]) == source] or named
    tags = [item for item in named if item[0].tag]
    for reference, record in tags or named:
        return Name(str(reference), len(tags) > 1, ledger.written_at(record, lease))
    return None


def is_tagless(record: ImageRecord) -> bool:
    """Return whether the record is named by digest or by image id. The CRI plugin adds both records for every tag."""
    return "@" in record.name or is_digest(record.name)


def reference_of(name: str) -> Reference | None:
    """Parse a record's name. Return None if the name is not a reference."""
    if is_digest(name):
        return None  # the parser would take an image id for a tag of a repository named "sha256"
    try:
        return parse(name)
    except InvalidReferenceError:
        return None


def source_of_reference(reference: Reference) -> tuple[str, str]:
    """Return the registry host and the repository as they appear in containerd's content labels."""
    return registry_host(reference.registry), reference.repository
