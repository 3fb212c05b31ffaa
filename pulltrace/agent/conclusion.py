"""Decide how a pull ended, after its lease was deleted. Sans-I/O.

Theory of operation. containerd deletes a pull's lease however the pull ended, and publishes no reason. A pull that
completed has just created or updated the record of its image; a pull that failed has not. So two facts decide:

==============================  ==========================================  ========================================
seen of the pull                image records written since the lease       outcome
==============================  ==========================================  ========================================
its manifest (``IMAGE``)        one of its image                            completed, under the record's name
its manifest (``IMAGE``)        none of its image                           failed
blobs or ingests (``CONTENT``)  one whose target is among its blobs         completed, under the record's name
blobs or ingests (``CONTENT``)  none                                        failed
only the lease (``LEASE``)      as many as there are such pulls             completed; the name is a guess
only the lease (``LEASE``)      none at all                                 failed
only the lease (``LEASE``)      another number, or the clock was set back   unknown: nothing is reported
snapshots of a container        (not looked at)                             no pull: nothing is reported
ingests without a lease         (not looked at)                             completed if all layers are complete
==============================  ==========================================  ========================================

``OUTCOMES`` is this table as data. If nothing is reported, the server closes the pull, and the kubelet's events decide.

A pull whose manifest no poll has seen is looked back at first: its documents are read now, if they still exist. That
happens in one poll only, so that a containerd that does not respond cannot hold up the end of a pull.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import Enum

from pulltrace.agent.attribution import image_of, unread, with_children
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
from pulltrace.agent.pull import Pull, Seen, age
from pulltrace.agent.records import Name, RecordLedger, is_tagless, name_of

ALL_IMAGES = ImageQuestion("")


class Written(Enum):
    """The image records that were written since a pull's lease began, as far as they concern this pull."""

    OWN = "a record of its image"
    NONE = "no record of its image"
    UNCLEAR = "records that may or may not be its own"


class Outcome(Enum):
    """How a pull ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"


OUTCOMES = {
    (Seen.IMAGE, Written.OWN): Outcome.COMPLETED,
    (Seen.IMAGE, Written.NONE): Outcome.FAILED,
    (Seen.CONTENT, Written.OWN): Outcome.COMPLETED,
    (Seen.CONTENT, Written.NONE): Outcome.FAILED,
    (Seen.LEASE, Written.NONE): Outcome.FAILED,
    (Seen.LEASE, Written.UNCLEAR): Outcome.UNKNOWN,
}
"""A pull of which only the lease was seen, and that gets an image by ``_guess``, is an ``IMAGE`` from then on."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one pull. ``name`` is set if it completed and its record is known, ``error`` if it failed."""

    outcome: Outcome
    at: float
    name: Name | None = None
    error: str | None = None


class Conclusion:
    """Decides for the pulls of one tracker, from its facts and the records that earlier pulls have claimed."""

    def __init__(self, facts: Facts, ledger: RecordLedger) -> None:
        self._facts = facts
        self._ledger = ledger

    def questions(
        self, pull: Pull, ended: Collection[Pull], pulls: Collection[Pull], snapshotter: str
    ) -> set[Question]:
        """Return what ``ending`` still needs to know. ``ended`` are the pulls whose leases are missing in this poll."""
        if pull.seen is Seen.CONTAINER:
            return set()
        if pull.image is None or not pull.image.config_read:
            missing = self._look_back(pull, ended, pulls)
            if missing and pull.look_back_poll in (None, pull.polls):
                pull.look_back_poll = pull.polls
                return missing
        targets = _targets(pull)
        if all(target in self._facts.images for target in targets):
            return set()
        return {ImageQuestion(target) for target in targets} | self._of_layers(pull, snapshotter)

    def ending(self, pull: Pull, now: float) -> Ending:
        """Return how the pull ended. ``questions`` must have returned nothing."""
        if pull.seen is Seen.CONTAINER:
            return Ending(Outcome.UNKNOWN, now)
        if pull.seen is Seen.FETCH:
            complete = all(progress.complete for progress in pull.layers.values())
            return Ending(Outcome.COMPLETED, now) if complete else Ending(Outcome.FAILED, now, error=pull.cause)
        records = self._records(pull)
        own = [record for record in records if record.name == pull.record]
        name = name_of(own or records, pull.lease, pull.source, self._ledger)
        written = Written.OWN if name else Written.NONE
        if pull.seen is Seen.LEASE and self._is_unclear(pull, now):
            written = Written.UNCLEAR
        outcome = OUTCOMES[pull.seen, written]
        if name:
            self._ledger.claim(records, pull.lease, name)
            return Ending(outcome, name.written_at, name)
        return Ending(outcome, now, error=pull.cause if outcome is Outcome.FAILED else None)

    def _records(self, pull: Pull) -> list[ImageRecord]:
        records = [record for target in _targets(pull) for record in self._facts.images[target]]
        if pull.image is None:
            return [record for record in records if record.target in pull.resources.content]
        return records

    def _look_back(self, pull: Pull, ended: Collection[Pull], pulls: Collection[Pull]) -> set[Question]:
        """Find the image of a pull that ended before a poll saw its manifest. Return what is needed for that."""
        if pull.layers and pull.image is None:
            return {BlobQuestion(digest) for digest in pull.layers if digest not in self._facts.blobs}
        if not pull.resources.content:
            if "" not in self._facts.images:
                return {ALL_IMAGES}
            self._guess(pull, ended, pulls)
            if not pull.resources.content:
                return set()
        content = with_children(pull.resources.content, self._facts.documents)
        pull.resources = replace(pull.resources, content=content)
        pull.image = image_of(content, self._facts.documents)
        pull.take_layers({})
        missing = unread(content, self._facts.documents, pull.image) - self._facts.absent
        return {DocumentQuestion(digest) for digest in missing}

    def _guess(self, pull: Pull, ended: Collection[Pull], pulls: Iterable[Pull]) -> None:
        """Pair pulls that ended unseen with new images, in the order of their times, if there are as many of both."""
        unseen = [one for one in ended if one.seen is Seen.LEASE and one.seen_at == pull.seen_at]
        images = self._images_since(pull, pulls)
        if len(images) == len(unseen):
            for one, target in zip(sorted(unseen, key=age), images, strict=True):
                one.resources, one.guessed = Resources(content=frozenset({target})), True

    def _is_unclear(self, pull: Pull, now: float) -> bool:
        """Return whether an image may have been made since the poll that last saw the lease."""
        images = self._facts.images.get("")
        return now < pull.seen_at or images is None or any(record.updated_at >= pull.seen_at for record in images)

    def _images_since(self, pull: Pull, pulls: Iterable[Pull]) -> list[str]:
        """Return the targets, oldest first, of records written since the pull was last seen and by no other pull."""
        records, ledger = self._facts.images[""], self._ledger
        claimed = {record.target for record in records if ledger.is_claimed(record.name)}
        made: dict[str, float] = {}
        for record in records:
            # The CRI plugin writes the tagless records of a claimed image after the lease was deleted.
            new = record.updated_at >= pull.seen_at and record.updated_at > ledger.claimed_at(record.name)
            if new and not (record.target in claimed and is_tagless(record)):
                made[record.target] = min(record.updated_at, made.get(record.target, record.updated_at))
        for other in pulls:
            for digest in (*other.resources.content, *(other.image.targets if other.image else ())):
                made.pop(digest, None)
        return sorted(made, key=made.__getitem__)

    def _of_layers(self, pull: Pull, snapshotter: str) -> set[Question]:
        """Return the questions about layers that no poll has seen arriving."""
        questions: set[Question] = set()
        for digest, progress in pull.layers.items():
            if not progress.complete:
                questions.add(BlobQuestion(digest))
            if not progress.unpacked:
                questions |= {SnapshotQuestion(chain, snapshotter) for chain in progress.layer.chain_ids}
        return questions


def _targets(pull: Pull) -> tuple[str, ...]:
    """Return the digests to look records up by. An image whose documents cannot be read exists all the same."""
    if pull.image:
        return pull.image.targets
    return ("",) if pull.resources.content else ()
