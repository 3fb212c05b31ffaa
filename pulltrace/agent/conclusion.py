"""Decide how a pull ended, once its lease has been deleted. Sans-I/O.

Theory of operation. containerd deletes a pull's lease whether or not the pull succeeded, and does not record why the
pull ended. However, a completed pull has just created or updated its image record, whereas a failed pull has not.
Therefore, the outcome depends on what the polls saw of the pull and on which image records were written:

==============================  ==========================================  ========================================
polls have seen                 records written since the lease began       outcome
==============================  ==========================================  ========================================
its manifest (``IMAGE``)        a record of its image                       completed, under the record's name
its manifest (``IMAGE``)        a record that was removed immediately       completed, under that record's name
its manifest (``IMAGE``)        no record of its image                      failed
blobs or ingests (``CONTENT``)  a record of an image with such a blob       completed, under the record's name
blobs or ingests (``CONTENT``)  no such record                              failed
only cached blobs, no manifest  no such record                              unknown: nothing is reported
only the lease (``LEASE``)      of as many images as there are such pulls   completed; the name is a guess
only the lease (``LEASE``)      none                                        failed
only the lease (``LEASE``)      a different number, or clock was set back   unknown: nothing is reported
only the lease (``LEASE``)      any, and a container was created meanwhile  unknown: nothing is reported
only the lease (``LEASE``)      of an image that was imported again         unknown: nothing is reported
an archive (``IMPORT``)         a record of an image with such a blob       completed, under the record's name
an archive (``IMPORT``)         no record of any image                      cancelled; the cause is unknown
an archive (``IMPORT``)         a record of another image                   unknown: nothing is reported
no pull's lease (``FETCH``)     any, or none                                completed if all layers are complete,
                                                                            otherwise cancelled
not a pull (``OTHER``)          (not examined)                              unknown: nothing is reported
==============================  ==========================================  ========================================

If a poll saw the manifest of an image that was in fact imported, the agent reports an import. If the records belong to
several images, the pull is reported without a name. Containers and image builders also create leases; ``Pull.seen``
distinguishes their leases from those of pulls.

``OUTCOMES`` contains this table as data. If the agent reports nothing, the server withdraws the pull and takes its
outcome from the kubelet's events.

A lease may be deleted before any poll has read the pull's manifest. In that case, the agent tries to read the pull's
documents after the pull has ended. The agent tries only during a single poll, so that an unresponsive containerd does
not delay the report that the pull has ended.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import Enum

from pulltrace.agent.attribution import image_of, unread, with_children
from pulltrace.agent.identifiers import is_digest
from pulltrace.agent.manifests import Index, Manifest
from pulltrace.agent.model import (
    BlobQuestion,
    DocumentQuestion,
    Facts,
    ImageQuestion,
    ImageRecord,
    Question,
    Resources,
    SnapshotQuestion,
)
from pulltrace.agent.origin import Origin, are_imported, origin_of
from pulltrace.agent.pull import Pull, Seen, age
from pulltrace.agent.records import Name, RecordLedger, is_tagless, name_of
from pulltrace.wire import NO_CAUSE, ErrorReason

ALL_IMAGES = ImageQuestion("")

UNPACK_WITHIN = 30.0
"""A lease created within this many seconds of an import may be the lease under which the client unpacks the image."""

NO_IMAGE = "no image was created: the pull was cancelled, or an image builder made the lease"


class Written(Enum):
    """The kinds of image records that may have been written since the pull's lease began."""

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
    (Seen.IMPORT, Written.UNCLEAR): Outcome.UNKNOWN,
    (Seen.FETCH, Written.OWN): Outcome.COMPLETED,
    (Seen.FETCH, Written.NONE): Outcome.CANCELLED,
}
"""The outcome for each combination of observed parts (``Seen``) and written records (``Written``). There are two
exceptions to the table. If polls have seen only a pull's lease but ``_guess`` finds its image, ``Pull.seen`` changes to
``IMAGE``. A ``Seen.FETCH`` pull without a record still counts as completed if all its layers are complete.
"""


@dataclass(frozen=True, slots=True)
class Ending:
    """How and when a pull ended. ``name`` is set if the pull completed under a single name, and ``error`` if the pull
    failed or was cancelled.
    """

    outcome: Outcome
    at: float
    name: Name | None = None
    error: str | None = None
    reason: ErrorReason | None = None
    removed: bool = False
    """True if the image was removed right after the pull. Every layer must have been complete before the image was
    removed, even if the last poll saw incomplete layers.
    """


class Conclusion:
    """Decides how pulls ended, from what a tracker observed and which records earlier pulls have already claimed."""

    def __init__(self, facts: Facts, ledger: RecordLedger) -> None:
        self._facts = facts
        self._ledger = ledger
        self._imported_at = -math.inf  # when the last known import wrote its record

    def questions(
        self, pull: Pull, ended: Collection[Pull], pulls: Collection[Pull], snapshotter: str
    ) -> set[Question]:
        """Return the questions that must be answered before ``ending`` can decide how the pull ended.

        ``ended`` contains the pulls whose leases the current poll no longer lists.
        """
        if pull.seen is Seen.OTHER:
            return set()
        if pull.image is None or not pull.image.config_read or pull.seen is Seen.IMPORT:
            missing = self._look_back(pull, ended, pulls)
            if missing and pull.look_back_poll in (None, pull.polls):
                pull.look_back_poll = pull.polls
                return missing
        targets = _targets(pull)
        held = pull.image.documents if pull.image else pull.resources.content
        # The labels of blobs may have changed since an earlier poll, so they are requested again.
        once = self._of_layers(pull, snapshotter) | {BlobQuestion(digest) for digest in held}
        records = {ImageQuestion(target) for target in targets if target not in self._facts.images}
        return records | (once - self._facts.asked)

    def ending(self, pull: Pull, now: float) -> Ending:
        """Return how the pull ended. Call this method only after ``questions`` has returned an empty set."""
        if pull.seen is Seen.OTHER:
            return Ending(Outcome.UNKNOWN, now)
        records = self._records(pull)
        own = [record for record in records if record.name == pull.record]
        name = name_of(own or records, pull.lease, pull.source, self._ledger, complete=pull.complete)
        if name is None:
            return self._ending_without_record(pull, now)
        origin = origin_of(pull, name, self._facts, self._ledger)
        if pull.imported or origin is not Origin.PULL:
            self._imported_at = max(self._imported_at, name.written_at)
        if origin is Origin.UNKNOWN or (origin is Origin.IMPORT and (pull.guessed or pull.record)):
            return Ending(Outcome.UNKNOWN, now)
        name = name._replace(guessed=name.guessed and pull.seen is not Seen.IMPORT)
        if self._are_of_several_images(pull, records):
            self._ledger.claim(records, pull.lease, None)
            return Ending(Outcome.COMPLETED, name.written_at)
        self._ledger.claim(records, pull.lease, name)
        if pull.image and pull.seen is Seen.IMAGE:
            is_new = pull.source is None and are_imported(pull.image.documents, pull.lease, self._facts)
            pull.imported = origin is Origin.IMPORT or is_new
        return Ending(Outcome.COMPLETED, name.written_at, name)

    def _ending_without_record(self, pull: Pull, now: float) -> Ending:
        if pull.seen in (Seen.IMAGE, Seen.CONTENT) and (removed := self._ledger.take_removed(pull.source)):
            name = Name(removed, guessed=pull.source is None, written_at=now)
            return Ending(Outcome.COMPLETED, now, name, removed=True)
        if self._holds_no_manifest(pull):
            return Ending(Outcome.UNKNOWN, now)
        unclear = self._is_unclear(pull, now)
        outcome = OUTCOMES[pull.seen, Written.UNCLEAR if unclear else Written.NONE]
        if outcome is Outcome.CANCELLED and pull.seen is Seen.FETCH and pull.complete:
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
        """Return whether the pull wrote records for several images that do not all belong to the same index."""
        targets = {record.target for record in records if self._ledger.is_new_for(record, pull.lease)}
        parts: set[str] = set()
        for target in targets:
            document = self._facts.documents.get(target)
            if isinstance(document, Index):
                parts.update(child.digest for child in document.manifests)
        return len(targets - parts) > 1

    def _look_back(self, pull: Pull, ended: Collection[Pull], pulls: Collection[Pull]) -> set[Question]:
        """Find the image of a pull that ended before any poll had read its manifest.

        Return the questions whose answers are still missing.
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
        """Read the indexes, manifests and configs among these blobs, and all other documents that the image refers to.

        Return the questions whose answers are still missing.
        """
        documents = self._facts.documents
        content = with_children(content, documents)
        missing = {DocumentQuestion(digest) for digest in unread(content, documents, pull.image) - self._facts.absent}
        if image := image_of(content, documents):
            pull.resources, pull.image = replace(pull.resources, content=content), image
            pull.take_layers({})
        return {*missing, *(BlobQuestion(digest) for digest in pull.layers if self._is_unknown(digest))}

    def _holds_no_manifest(self, pull: Pull) -> bool:
        """Return whether polls saw only blobs that were already on the node, and no index or manifest among them.

        A pull's lease lists a manifest before any other blob. Therefore, a lease without a manifest belongs to a client
        that imported the blobs again.
        """
        held = pull.resources.content
        if pull.seen is not Seen.CONTENT or pull.layers:
            return False
        if any(isinstance(self._facts.documents.get(digest), Index | Manifest) for digest in held):
            return False
        blobs = [self._facts.blobs.get(digest) for digest in held]
        return all(blob and blob.created_at < pull.lease.created_at for blob in blobs)

    def _is_unknown(self, digest: str) -> bool:
        return digest not in self._facts.blobs and digest not in self._facts.absent

    def _find_image(self, pull: Pull, pulls: Iterable[Pull]) -> set[Question]:
        """Find the images that have a new record and contain one of this pull's blobs. Return the questions whose
        answers are still missing.

        An import needs this search, because it writes its manifests last and often ends before a poll has read them.
        """
        if "" not in self._facts.images:
            return {ALL_IMAGES}
        others = [other for other in pulls if other is not pull and not (pull.imported and other.record)]
        of_others = {digest for other in others for digest in _documents_of(other)}
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
            unseen = {BlobQuestion(target) for target in targets - of_others if self._is_unknown(target)}
            if unseen:
                return {*unseen}
            mine = {target for target in targets - of_others if are_imported([target], pull.lease, self._facts)}
        return self._read_image(pull, pull.resources.content | mine)

    def _guess(self, pull: Pull, ended: Collection[Pull], pulls: Iterable[Pull]) -> None:
        """Pair new images, in chronological order, with the pulls for which polls saw only the lease. Do nothing unless
        there are as many new images as pulls.
        """
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
        """Return whether an empty lease that was reported as a pull may belong to a container. A container's lease is
        also empty at first.

        Such a lease must not be paired with an image, because the server would then show the image's pull with this
        lease's id and start time.
        """
        return pull.is_worth_reporting and self._may_be_of_container(pull)

    def _may_be_of_container(self, pull: Pull) -> bool:
        """Return whether a container has been created since the lease began."""
        return any(at > pull.lease.created_at for at in self._facts.containers)

    def _is_unclear(self, pull: Pull, now: float) -> bool:
        """Return whether the pull may have written some of the new records, even though polls saw too little of it to
        be certain.

        An empty lease may have belonged to a container, to the unpacking of an imported image, or to a pull that wrote
        its image record after the last poll that saw the lease. An import may have written its manifests after the last
        poll that saw its lease.
        """
        images, ledger = self._facts.images.get(""), self._ledger
        if pull.seen is Seen.IMPORT:
            new = [record for record in images or () if ledger.is_new_for(record, pull.lease)]
            return any(record.updated_at > ledger.claimed_at(record.name) for record in new)
        if pull.seen is not Seen.LEASE:
            return False
        return (
            self._may_be_of_container(pull)
            or 0.0 <= pull.lease.created_at - self._imported_at < UNPACK_WITHIN
            or now < pull.seen_at
            or images is None
            or any(record.updated_at >= pull.seen_at for record in images)
        )

    def _images_since(self, pull: Pull, pulls: Iterable[Pull]) -> list[str]:
        """Return the targets of the image records written since the last poll that saw the pull, oldest first. Targets
        that belong to other pulls are excluded.
        """
        ledger = self._ledger
        # The CRI plugin also writes records named by image id, but a pull always writes other records as well.
        records = [record for record in self._facts.images[""] if not is_digest(record.name)]
        claimed = {record.target for record in records if ledger.is_claimed(record.name)}
        made: dict[str, float] = {}
        for record in records:
            # The CRI plugin deletes the lease before it writes the untagged records, so another pull may already have
            # claimed the image.
            new = record.updated_at >= pull.seen_at and record.updated_at > ledger.claimed_at(record.name)
            if new and not (record.target in claimed and is_tagless(record)):
                made[record.target] = min(record.updated_at, made.get(record.target, record.updated_at))
        for other in pulls:
            for digest in _documents_of(other):
                made.pop(digest, None)
        return sorted(made, key=made.__getitem__)

    def _of_layers(self, pull: Pull, snapshotter: str) -> set[Question]:
        """Return the questions about the layers that are not yet known to be complete and unpacked."""
        questions: set[Question] = set()
        for digest, progress in pull.layers.items():
            if not progress.complete:
                questions.add(BlobQuestion(digest))
            if not progress.unpacked:
                questions |= {SnapshotQuestion(chain, snapshotter) for chain in progress.layer.chain_ids}
        return questions


def _targets(pull: Pull) -> tuple[str, ...]:
    """Return the targets whose image records must be looked up. For imports, and for pulls whose image is not known,
    the target is empty, which means all records.
    """
    if pull.image and pull.seen is not Seen.IMPORT:
        return pull.image.targets
    return ("",) if pull.resources.content else ()


def _documents_of(pull: Pull) -> tuple[str, ...]:
    """Return the digests that the pull's own records may point to."""
    return (*pull.resources.content, *(pull.image.targets if pull.image else ()))
