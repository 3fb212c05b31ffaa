"""Match image records to the pulls that wrote them. Sans-I/O.

containerd creates or updates an image's records at the end of its pull. For a pull by tag, the CRI plugin writes three
records: one named by tag, one by digest and one by image id. The records that a pull wrote prove that it completed, and
name its image.
"""

from collections.abc import Iterable
from typing import NamedTuple

from pulltrace.agent.identifiers import is_digest
from pulltrace.agent.model import ImageRecord, Lease
from pulltrace.images import InvalidReferenceError, Reference, parse, registry_host


class Name(NamedTuple):
    """The reference of a pull, whether it is a guess, and when the pull wrote the record."""

    reference: str
    guessed: bool
    written_at: float


SHARED_POLLS = 4
"""The number of polls for which a lease may still exist after the pull wrote the record. Busy nodes delete leases late.
"""


class RecordLedger:
    """The records that ended pulls have claimed, with the times at which these pulls wrote them.

    A record proves the end of only one pull. If a later pull updates the record, the record also proves the end of the
    later pull. If two pulls of one image end in the same poll, it is unknown which update belongs to which pull: both
    may claim the record, and their tags may be swapped.
    """

    def __init__(self) -> None:
        self._earlier: dict[str, float] = {}
        self._recent: list[set[str]] = []  # the names of the records claimed in each of the last few polls
        self._this_poll: dict[str, float] = {}
        self._removed: dict[str, bool] = {}  # by record name: whether an earlier poll saw the removal

    def __len__(self) -> int:
        return len(self._earlier | self._this_poll)

    def is_new_for(self, record: ImageRecord, lease: Lease) -> bool:
        """Return whether the record was written after the lease began. Return False if an earlier pull has claimed this
        version of the record.
        """
        return record.updated_at >= lease.created_at and record.updated_at > self._earlier.get(record.name, 0.0)

    def may_prove(self, record: ImageRecord, lease: Lease) -> bool:
        """Return whether the pull with this lease may have written the record.

        If two pulls of one image overlap, the second pull may have written the record before the first pull's lease was
        deleted.
        """
        is_recent = any(record.name in names for names in self._recent)
        claimed_at = 0.0 if is_recent else self._earlier.get(record.name, 0.0)
        return record.updated_at >= lease.created_at and record.updated_at > claimed_at

    def is_claimed(self, name: str) -> bool:
        """Return whether any pull, of this poll or an earlier one, has claimed the record."""
        return name in self._earlier or name in self._this_poll

    def is_claimed_now(self, name: str) -> bool:
        """Return whether a pull that ended in this poll has claimed the record."""
        return name in self._this_poll

    def claimed_at(self, name: str) -> float:
        """Return when the last pull that claimed this record wrote it; 0.0 if none did."""
        return self._this_poll.get(name, self._earlier.get(name, 0.0))

    def written_at(self, record: ImageRecord, lease: Lease) -> float:
        """Return when the pull with this lease wrote the record.

        If this pull created the record, the result is the record's creation time. A second pull of the same image may
        have updated the record since then. But if another pull that ended in this poll has already claimed the record,
        the creation is attributed to that pull.
        """
        created = record.created_at >= lease.created_at and record.created_at > self._earlier.get(record.name, 0.0)
        return record.created_at if created and not self.is_claimed_now(record.name) else record.updated_at

    def claim(self, records: Iterable[ImageRecord], lease: Lease, name: Name | None) -> None:
        """Record that the pull with this lease ended as ``name``, and also wrote the records by digest and by image id.

        If ``name`` is None, the pull wrote all records that are new since the lease began.
        """
        times = {record: self.written_at(record, lease) for record in records if name or self.is_new_for(record, lease)}
        self._this_poll.update(
            {record.name: at for record, at in times.items() if not name or is_tagless(record) or at == name.written_at}
        )

    def see_removed(self, name: str) -> None:
        """Remember a record that was written and removed again since the last poll."""
        self._removed[name] = False

    def take_removed(self, source: tuple[str, str] | None) -> str | None:
        """Return the name of a removed record, and forget all removed records of the same repository. With a
        ``source``, only records of this source count.
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

    def after_poll(self, oldest: float) -> None:
        """Forget claims of records written before ``oldest``, the time at which the oldest live pull began."""
        claims = self._earlier | self._this_poll
        self._earlier = {name: at for name, at in claims.items() if at >= oldest}
        self._recent = [*self._recent, set(self._this_poll)][-SHARED_POLLS:]
        self._this_poll.clear()
        # A lease may still be listed once after its pull wrote the record, so a removed record is kept for two polls.
        self._removed = {name: True for name, is_old in self._removed.items() if not is_old}


def name_of(
    records: Iterable[ImageRecord], lease: Lease, source: tuple[str, str] | None, ledger: RecordLedger
) -> Name | None:
    """Return the name of a pull, from the records of its image; None if the pull wrote no record and so did not
    complete.

    A record with the pull's ``source`` takes precedence over others, an unclaimed record over a claimed one, a tag over
    a digest, and a newer record over an older one.
    """
    new = [record for record in records if ledger.may_prove(record, lease)]
    new.sort(key=lambda record: (not ledger.is_claimed_now(record.name), record.updated_at), reverse=True)
    named = [(reference, record) for record in new if (reference := reference_of(record.name))]
    named = [item for item in named if source_of_reference(item[0]) == source] or named
    tags = [item for item in named if item[0].tag]
    for reference, record in tags or named:
        return Name(str(reference), len(tags) > 1, ledger.written_at(record, lease))
    return None


def is_tagless(record: ImageRecord) -> bool:
    """Return whether the record is named by digest or by image id: the CRI plugin adds such records for every tag."""
    return "@" in record.name or is_digest(record.name)


def reference_of(name: str) -> Reference | None:
    """Parse a record's name; None if it is not a reference."""
    if is_digest(name):
        return None  # a record by image id, which would parse as a tag of a repository named "sha256"
    try:
        return parse(name)
    except InvalidReferenceError:
        return None


def source_of_reference(reference: Reference) -> tuple[str, str]:
    """Return the registry host and the repository in the form used by containerd's content labels."""
    return registry_host(reference.registry), reference.repository
