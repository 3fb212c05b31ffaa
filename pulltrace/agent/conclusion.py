"""Decide how a pull ended, once its lease has been deleted. Sans-I/O.

Theory of operation. containerd deletes a pull's lease whether or not the pull succeeded, and does not record why the
pull ended. A pull that completed has just created or updated the record of its image; a pull that failed has not. Two
facts decide:

==============================  ==========================================  ========================================
polls have seen                 records written since the lease began       outcome
==============================  ==========================================  ========================================
its manifest (``IMAGE``)        a record of its image                       completed, under the record's name
its manifest (``IMAGE``)        a record that was removed immediately       completed, under that record's name
its manifest (``IMAGE``)        no record of its image                      failed
blobs or ingests (``CONTENT``)  a record of an image with such a blob       completed, under the record's name
blobs or ingests (``CONTENT``)  no such record                              failed
only the lease (``LEASE``)      of as many images as there are such pulls   completed; the name is a guess
only the lease (``LEASE``)      none                                        failed
only the lease (``LEASE``)      a different number, or clock was set back   unknown: nothing is reported
only the lease (``LEASE``)      any, and a container was created meanwhile  unknown: nothing is reported
only the lease (``LEASE``)      of an image that was imported earlier       unknown: the lease was for its unpacking
an archive (``IMPORT``)         a record of an image with such a blob       completed, under the record's name
an archive (``IMPORT``)         no such record                              cancelled; the cause is unknown
no pull's lease (``FETCH``)     any, or none                                completed if all layers are complete,
                                                                            otherwise cancelled
not a pull (``OTHER``)          (not examined)                              unknown: nothing is reported
==============================  ==========================================  ========================================

If the records belong to several images, the pull has no name. Containers and image builders create leases too.
``Pull.seen`` distinguishes these leases from the leases of pulls.

``OUTCOMES`` is this table as data. If nothing is reported, the server withdraws the pull, and the kubelet's events
determine its outcome.

A lease may be deleted before any poll has read the pull's manifest. The pull's documents are then read afterwards, if
they still exist. Only one poll tries this, so that the end of a pull is not delayed when containerd does not respond.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import Enum

from pulltrace.agent.attribution import image_of, unread, with_children
from pulltrace.agent.manifests import Index
from pulltrace.agent.model import (
    BlobQuestion,
    DocumentQuestion,
    Facts,
    ImageQuestion,
    ImageRecord,
    Lease,
    Question,
    Resources,
    SnapshotQuestion,
)
from pulltrace.agent.pull import Pull, Seen, age
from pulltrace.agent.records import Name, RecordLedger, is_tagless, name_of
from pulltrace.wire import NO_CAUSE, ErrorReason

ALL_IMAGES = ImageQuestion("")

NO_IMAGE = "it ended without creating an image: it was cancelled, or an image builder made the lease"


class Written(Enum):
    """The image records that were written since a pull's lease began and that concern this pull."""

    OWN = "a record of its image"
    NONE = "no record of its image"
    UNCLEAR = "records that may or may not be its own"


class Outcome(Enum):
    """How a pull ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


OUTCOMES = {
    (Seen.IMAGE, Written.OWN): Outcome.COMPLETED,
    (Seen.IMAGE, Written.NONE): Outcome.FAILED,
    (Seen.CONTENT, Written.OWN): Outcome.COMPLETED,
    (Seen.CONTENT, Written.NONE): Outcome.FAILED,
    (Seen.LEASE, Written.NONE): Outcome.FAILED,
    (Seen.LEASE, Written.UNCLEAR): Outcome.UNKNOWN,
    (Seen.IMPORT, Written.OWN): Outcome.COMPLETED,
    (Seen.IMPORT, Written.NONE): Outcome.CANCELLED,
    (Seen.FETCH, Written.OWN): Outcome.COMPLETED,
    (Seen.FETCH, Written.NONE): Outcome.CANCELLED,
}
"""If polls have seen only the lease of a pull, and ``_guess`` finds the image, ``Pull.seen`` becomes ``IMAGE``. A
``FETCH`` without a record has still completed if all its layers are complete."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one pull. ``name`` is set if the pull completed under one name, ``error`` if it did not complete."""

    outcome: Outcome
    at: float
    name: Name | None = None
    error: str | None = None
    reason: ErrorReason | None = None
    removed: bool = False
    """Whether the image was removed right after the pull. If so, every layer was complete, even if no poll saw this."""


class Conclusion:
    """Decides how pulls ended, based on a tracker's facts and on the records that earlier pulls have claimed."""

    def __init__(self, facts: Facts, ledger: RecordLedger) -> None:
        self._facts = facts
        self._ledger = ledger

    def questions(
        self, pull: Pull, ended: Collection[Pull], pulls: Collection[Pull], snapshotter: str
    ) -> set[Question]:
        """Return the questions that must be answered before ``ending`` can decide how the pull ended.

        ``ended`` are the pulls whose leases are missing from this poll.
        """
        if pull.seen is Seen.OTHER:
            return set()
        if pull.image is None or not pull.image.config_read or pull.seen is Seen.IMPORT:
            missing = self._look_back(pull, ended, pulls)
            if missing and pull.look_back_poll in (None, pull.polls):
                pull.look_back_poll = pull.polls
                return missing
        targets = _targets(pull)
        if all(target in self._facts.images for target in targets):
            return set()
        questions = {ImageQuestion(target) for target in targets} | self._of_layers(pull, snapshotter)
        if pull.image and pull.source is None:
            questions |= {BlobQuestion(digest) for digest in pull.image.documents}
        return questions

    def ending(self, pull: Pull, now: float) -> Ending:
        """Return how the pull ended. Call it only when ``questions`` returns nothing."""
        if pull.seen is Seen.OTHER:
            return Ending(Outcome.UNKNOWN, now)
        if self._is_unpacking(pull):
            return Ending(Outcome.UNKNOWN, now)
        records = self._records(pull)
        own = [record for record in records if record.name == pull.record]
        name = name_of(own or records, pull.lease, pull.source, self._ledger)
        if name is None:
            return self._ending_without_record(pull, now)
        name = name._replace(guessed=name.guessed and pull.seen is not Seen.IMPORT)
        if self._are_of_several_images(pull, records):
            self._ledger.claim(records, pull.lease, None)
            return Ending(Outcome.COMPLETED, name.written_at)
        self._ledger.claim(records, pull.lease, name)
        if pull.image and pull.source is None and pull.seen is Seen.IMAGE:
            pull.imported = self._is_imported(pull.image.documents, pull.lease)
        return Ending(Outcome.COMPLETED, name.written_at, name)

    def _ending_without_record(self, pull: Pull, now: float) -> Ending:
        if pull.seen in (Seen.IMAGE, Seen.CONTENT) and (removed := self._ledger.take_removed(pull.source)):
            name = Name(removed, guessed=pull.source is None, written_at=now)
            return Ending(Outcome.COMPLETED, now, name, removed=True)
        unclear = pull.seen is Seen.LEASE and self._is_unclear(pull, now)
        outcome = OUTCOMES[pull.seen, Written.UNCLEAR if unclear else Written.NONE]
        complete = bool(pull.layers) and all(progress.complete for progress in pull.layers.values())
        if outcome is Outcome.CANCELLED and pull.seen is Seen.FETCH and complete:
            return Ending(Outcome.COMPLETED, now)
        if outcome is Outcome.UNKNOWN:
            return Ending(outcome, now)
        if outcome is Outcome.CANCELLED:
            return Ending(outcome, now, error=pull.cause or NO_IMAGE, reason=ErrorReason.CANCELED)
        return Ending(outcome, now, error=pull.cause or NO_CAUSE)

    def _records(self, pull: Pull) -> list[ImageRecord]:
        records = [record for target in _targets(pull) for record in self._facts.images.get(target, ())]
        if pull.image is None or pull.seen is Seen.IMPORT:
            return [record for record in records if record.target in pull.resources.content]
        return records

    def _are_of_several_images(self, pull: Pull, records: Iterable[ImageRecord]) -> bool:
        """Return whether the pull wrote records of several images that are not parts of one index."""
        targets = {record.target for record in records if self._ledger.is_new_for(record, pull.lease)}
        parts: set[str] = set()
        for target in targets:
            document = self._facts.documents.get(target)
            if isinstance(document, Index):
                parts.update(child.digest for child in document.manifests)
        return len(targets - parts) > 1

    def _look_back(self, pull: Pull, ended: Collection[Pull], pulls: Collection[Pull]) -> set[Question]:
        """Find the image of a pull that ended before any poll read its manifest.

        Return the questions that must be answered first.
        """
        if not (pull.layers or pull.resources.content):
            if "" not in self._facts.images:
                return {ALL_IMAGES}
            self._guess(pull, ended, pulls)
            if not pull.resources.content:
                return set()
        missing = self._read_image(pull, pull.resources.content)
        if missing or (pull.image and pull.seen is not Seen.IMPORT):
            return missing
        return self._find_image(pull, pulls)

    def _read_image(self, pull: Pull, content: frozenset[str]) -> set[Question]:
        """Read the indexes, manifests and configs among these blobs, and those to which they refer.

        Return the questions that must be answered first.
        """
        documents = self._facts.documents
        content = with_children(content, documents)
        missing = {DocumentQuestion(digest) for digest in unread(content, documents, pull.image) - self._facts.absent}
        if image := image_of(content, documents):
            pull.resources, pull.image = replace(pull.resources, content=content), image
            pull.take_layers({})
        return {*missing, *(BlobQuestion(digest) for digest in pull.layers if self._is_open(digest))}

    def _is_imported(self, documents: Iterable[str], lease: Lease) -> bool:
        """Return whether these documents were imported since the lease began. Unlike imported blobs, downloaded blobs
        have a source label.
        """
        blobs = [self._facts.blobs.get(digest) for digest in documents]
        return all(blob and not blob.sources and blob.created_at >= lease.created_at for blob in blobs)

    def _is_unpacking(self, pull: Pull) -> bool:
        """Return whether the image that was guessed for an empty lease had been imported before the lease began.

        A client unpacks an imported image under a second lease, while the CRI plugin updates the image record.
        """
        blobs = [self._facts.blobs.get(digest) for digest in (pull.image.documents if pull.image else ())]
        earlier = (blob and not blob.sources and blob.created_at < pull.lease.created_at for blob in blobs)
        return pull.guessed and bool(blobs) and all(earlier)

    def _is_open(self, digest: str) -> bool:
        return digest not in self._facts.blobs and digest not in self._facts.absent

    def _find_image(self, pull: Pull, pulls: Iterable[Pull]) -> set[Question]:
        """Find the images with new records that contain a blob of this pull. Return the questions that must be answered
        first.

        Imports need this method: an import writes its manifests last, so often no poll reads them.
        """
        if "" not in self._facts.images:
            return {ALL_IMAGES}
        of_others = {digest for other in pulls if other is not pull for digest in _documents_of(other)}
        targets = {record.target for record in self._facts.images[""] if self._ledger.is_new_for(record, pull.lease)}
        documents = self._facts.documents
        held = pull.resources.content | pull.layers.keys()
        mine: set[str] = set()
        for target in targets - of_others - pull.resources.content:
            content = with_children(with_children(frozenset({target}), documents), documents)
            if unknown := [digest for digest in content - self._facts.absent if digest not in documents]:
                return {DocumentQuestion(digest) for digest in unknown}
            image = image_of(content, documents)
            if image and held & {*content, *(layer.digest for layer in image.layers)}:
                mine |= content
        if pull.imported and not mine:
            unseen = {BlobQuestion(target) for target in targets - of_others if self._is_open(target)}
            if unseen:
                return {*unseen}
            mine = {target for target in targets - of_others if self._is_imported([target], pull.lease)}
        return self._read_image(pull, pull.resources.content | mine)

    def _guess(self, pull: Pull, ended: Collection[Pull], pulls: Iterable[Pull]) -> None:
        """If as many pulls ended unobserved as new images appeared, pair them in chronological order."""
        if self.is_doubtful(pull):
            return
        unseen = [
            one for one in ended if one.seen is Seen.LEASE and one.seen_at == pull.seen_at and not self.is_doubtful(one)
        ]
        images = self._images_since(pull, pulls)
        if len(images) == len(unseen):
            for one, target in zip(sorted(unseen, key=age), images, strict=True):
                one.resources, one.guessed = Resources(content=frozenset({target})), True

    def is_doubtful(self, pull: Pull) -> bool:
        """Return whether an empty lease that was reported as a pull may belong to a container, whose lease is also
        empty at first.

        Such a lease must not be paired with an image, because the server would then show the image's pull with the id
        and the start time of this lease.
        """
        return pull.is_worth_reporting and self._may_be_of_container(pull)

    def _may_be_of_container(self, pull: Pull) -> bool:
        """Return whether a container was created since the lease began."""
        return any(at > pull.lease.created_at for at in self._facts.containers)

    def _is_unclear(self, pull: Pull, now: float) -> bool:
        """Return whether the lease may belong to a container, or an image may have been created since the last poll
        that saw the lease.
        """
        images = self._facts.images.get("")
        return (
            self._may_be_of_container(pull)
            or now < pull.seen_at
            or images is None
            or any(record.updated_at >= pull.seen_at for record in images)
        )

    def _images_since(self, pull: Pull, pulls: Iterable[Pull]) -> list[str]:
        """Return the targets of the image records that were written since the pull was last seen, the oldest first.
        Records of other pulls are left out.
        """
        records, ledger = self._facts.images[""], self._ledger
        claimed = {record.target for record in records if ledger.is_claimed(record.name)}
        made: dict[str, float] = {}
        for record in records:
            # The CRI plugin writes an image's tagless records after it has deleted the lease, so the image may already
            # have been claimed.
            new = record.updated_at >= pull.seen_at and record.updated_at > ledger.claimed_at(record.name)
            if new and not (record.target in claimed and is_tagless(record)):
                made[record.target] = min(record.updated_at, made.get(record.target, record.updated_at))
        for other in pulls:
            for digest in _documents_of(other):
                made.pop(digest, None)
        return sorted(made, key=made.__getitem__)

    def _of_layers(self, pull: Pull, snapshotter: str) -> set[Question]:
        """Return the questions about layers whose arrival no poll has seen."""
        questions: set[Question] = set()
        for digest, progress in pull.layers.items():
            if not progress.complete:
                questions.add(BlobQuestion(digest))
            if not progress.unpacked:
                questions |= {SnapshotQuestion(chain, snapshotter) for chain in progress.layer.chain_ids}
        return questions


def _targets(pull: Pull) -> tuple[str, ...]:
    """Return the targets of the image records to look up. An empty target means all records, and is used if the pull's
    documents have not been read.
    """
    if pull.image and pull.seen is not Seen.IMPORT:
        return pull.image.targets
    return ("",) if pull.resources.content else ()


def _documents_of(pull: Pull) -> tuple[str, ...]:
    """Return the digests that may be targets of the pull's own records."""
    return (*pull.resources.content, *(pull.image.targets if pull.image else ()))
