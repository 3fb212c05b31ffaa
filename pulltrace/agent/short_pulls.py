"""Recognise pulls that began and ended between two polls by the image records that they wrote. Sans-I/O.

containerd publishes an event when an image record is created or updated. A pull writes a record, but so do imports,
builders, tag commands and the CRI plugin's own bookkeeping. A pull is recognised by two facts about the content. First,
the content's label names the registry and the repository in the record's name. Second, each pull updates this label,
even if every byte was cached. Other writers update only the record, or write content without such a label.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pulltrace.agent.model import Blob, ImageRecord, Lease, Resources
from pulltrace.agent.pull import Pull
from pulltrace.agent.records import is_tagless, reference_of, source_of_reference

SHORT = "image-"
"""The prefix of the id of a pull that no poll saw."""

MAX_TARGETS = 256


@dataclass(frozen=True, slots=True)
class Change:
    """An image record that was written since the last poll, and the index or manifest that it points to."""

    record: ImageRecord
    blob: Blob


class ShortPulls:
    """Remembers, for each image, until when its pulls have been reported. So no pull is reported twice."""

    def __init__(self) -> None:
        self._accounted: dict[str, float] = {}

    def account(self, targets: Iterable[str], now: float) -> None:
        """Record that a pull of the image with these targets (digests) has ended and was reported."""
        for target in targets:
            self._accounted.pop(target, None)
            self._accounted[target] = now
        for target in list(self._accounted)[:-MAX_TARGETS]:
            del self._accounted[target]

    def find(self, changes: Iterable[Change], pulls: Collection[Pull], since: float) -> list[Pull]:
        """Return the pulls that began after ``since`` and that no poll saw. ``pulls`` are the known pulls."""
        known = {target for pull in pulls for target in _targets(pull)}
        found: dict[str, Change] = {}
        for change in sorted(changes, key=_precedence):
            if change.record.target not in known and self._is_pull(change, since):
                found.setdefault(change.record.target, change)
        # The image may have been pulled twice since the last poll. Only the first of these pulls fetched the content.
        # The second one is dated by the time at which it updated the label.
        return [
            _ended(change, max(since, self._accounted.get(change.record.target, 0.0)))
            for change in sorted(found.values(), key=lambda item: item.record.updated_at)
        ]

    def _is_pull(self, change: Change, since: float) -> bool:
        reference, blob = reference_of(change.record.name), change.blob
        if reference is None or source_of_reference(reference) not in blob.sources:
            return False
        updated_at = max(blob.updated_at, blob.created_at)
        return since <= updated_at <= change.record.updated_at and updated_at > self._accounted.get(
            change.record.target, 0.0
        )


def adopt(pull: Pull, short: Pull) -> None:
    """Complete ``pull``, which is known only by its lease, with the image of ``short``, which no poll saw.

    The assignment is a guess.
    """
    pull.resources, pull.record, pull.source = short.resources, short.record, short.source
    pull.traced = pull.guessed = True


def _targets(pull: Pull) -> Iterable[str]:
    return (*pull.resources.content, *(pull.image.targets if pull.image else ()))


def _precedence(change: Change) -> tuple[bool, float]:
    """Return a sort key. Tags come before digests, and older records before newer ones, because a pull writes its
    record before anybody can add another tag.
    """
    return is_tagless(change.record), change.record.updated_at


def _ended(change: Change, since: float) -> Pull:
    """Return a pull that has already ended.

    The pull's first step was to fetch the index or manifest, or to label the cached one.
    """
    record, blob = change.record, change.blob
    began_at = blob.created_at if blob.created_at >= since else blob.updated_at
    lease = Lease(f"{SHORT}{record.target.partition(':')[2][:12]}-{record.updated_at:.3f}", began_at)
    pull = Pull(lease, inherited=False, moved_at=began_at, record=record.name)
    pull.resources, pull.seen_at = Resources(content=frozenset({record.target})), since
    if reference := reference_of(record.name):
        pull.source, pull.traced = source_of_reference(reference), True
    return pull
