"""Use image records to recognise pulls that began and ended between two polls. Sans-I/O.

containerd publishes an event when an image record is created or updated. Pulls write records, but so do imports,
builders, tag commands and the CRI plugin's own bookkeeping. Two facts about the content distinguish pulls from other
writers. First, a source label on the content contains the same registry and repository as the record. Second, the
source label has just been updated: every pull updates it, even if every byte was already on the node. Other writers
update only the record, or write content without a source label.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pulltrace.agent.model import Blob, ImageRecord, Lease, Resources
from pulltrace.agent.pull import Pull
from pulltrace.agent.records import is_tagless, reference_of, source_of_reference

SHORT = "image-"
"""The id prefix of a pull that no poll saw."""

MAX_TARGETS = 256


@dataclass(frozen=True, slots=True)
class Change:
    """An image record written since the last poll, and the index or manifest that it points to."""

    record: ImageRecord
    blob: Blob


class ShortPulls:
    """Remembers the time up to which each image's pulls have been reported, so that no pull is reported twice."""

    def __init__(self) -> None:
        self._accounted: dict[str, float] = {}

    def account(self, targets: Iterable[str], now: float) -> None:
        """Record that all pulls of the image with these targets (digests) up to ``now`` have been reported."""
        for target in targets:
            self._accounted.pop(target, None)
            self._accounted[target] = now
        for target in list(self._accounted)[:-MAX_TARGETS]:
            del self._accounted[target]

    def find(self, changes: Iterable[Change], pulls: Collection[Pull], since: float) -> list[Pull]:
        """Return the pulls that began after ``since`` and that no poll saw. ``pulls`` contains the known pulls."""
        known = {target for pull in pulls if not pull.imported for target in _targets(pull)}
        found: dict[str, Change] = {}
        for change in sorted(changes, key=_precedence):
            if change.record.target not in known and self._is_pull(change, since):
                found.setdefault(change.record.target, change)
        # An image may have been pulled twice since the last poll. The first pull fetched the content. The second pull
        # only updated the label, so its start time is the label's update time.
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
    """Assign the image of the unseen pull ``short`` to ``pull``, for which only the lease is known.

    The agent only guesses that the two pulls are the same.
    """
    pull.resources, pull.record, pull.source = short.resources, short.record, short.source
    pull.traced = pull.guessed = True


def _targets(pull: Pull) -> Iterable[str]:
    return (*pull.resources.content, *(pull.image.targets if pull.image else ()))


def _precedence(change: Change) -> tuple[bool, float]:
    """Return a sort key that puts tags before digests and older records before newer ones. A pull writes its record
    before anybody can add another tag.
    """
    return is_tagless(change.record), change.record.updated_at


def _ended(change: Change, since: float) -> Pull:
    """Return the finished pull that wrote this version of the image record.

    The pull began when it fetched the index or manifest. If the document was already on the node, the pull began when
    it updated the document's label.
    """
    record, blob = change.record, change.blob
    began_at = blob.created_at if blob.created_at >= since else blob.updated_at
    lease = Lease(f"{SHORT}{record.target.partition(':')[2][:12]}-{record.updated_at:.3f}", began_at)
    pull = Pull(lease, inherited=False, moved_at=began_at, record=record.name)
    pull.resources, pull.seen_at = Resources(content=frozenset({record.target})), since
    if reference := reference_of(record.name):
        pull.source, pull.traced = source_of_reference(reference), True
    return pull
