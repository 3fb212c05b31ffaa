"""The state of one layer during one pull, derived from ingests, blobs and snapshots. Sans-I/O.

``docs/how-it-knows.md`` explains how each state is derived.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from pulltrace.agent.model import Blob, Ingest
from pulltrace.agent.snapshotters import Delivery, Snapshot
from pulltrace.wire import GUEST, SNAPSHOTTER, LayerPhase


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image. A blob that occurs twice in an image (often an empty layer) has two chain ids. Until the
    image's config has been read, its layers have no chain ids.
    """

    digest: str
    media_type: str
    size: int
    chain_ids: tuple[str, ...] = ()


class Absence(Enum):
    """Why a layer with a committed snapshot may have no blob."""

    STAGED = "the snapshotter already had the content"
    DISCARDED = "containerd removed the blob after unpacking it"
    SNAPSHOTTER = "the snapshotter fetched the content itself"


@dataclass(slots=True)
class Progress:
    """A layer's progress within one pull. The layer's state only moves forward, unless newer data corrects it.
    Downloaded bytes remain in the total even after containerd stops listing the layer's content.

    ``cached_before`` is true if every byte was on the node before the pull could fetch layers. ``committed_in`` is the
    number of the first poll in which all of the layer's snapshots were committed. In the methods, ``since`` is always
    ``Pull.fetching_since``.
    """

    layer: Layer
    phase: LayerPhase = LayerPhase.WAITING
    downloaded: int = 0
    cached: int = 0
    fetched_by: str | None = None
    started_at: float | None = None
    completed_at: float | None = None
    extract_started_at: float | None = None
    extracted_at: float | None = None
    waited_for_slot: bool = False
    cached_before: bool = False
    committed_in: int | None = None

    @property
    def complete(self) -> bool:
        """Return whether the pull can complete even if it fetches no more of this layer."""
        return self.cached_before or self.completed_at is not None or self.unpacked

    @property
    def is_missing(self) -> bool:
        """Return whether some of the layer's bytes still have to be fetched. The result is false once all of the
        layer's snapshots are committed.
        """
        return not self.complete and self.committed_in is None

    @property
    def unpacked(self) -> bool:
        """Return whether the whole layer has been downloaded and unpacked."""
        if self.phase in (LayerPhase.EXTRACTED, LayerPhase.REMOTE):
            return True
        return self.phase is LayerPhase.CACHED and self.extracted_at is not None

    @property
    def by_snapshotter(self) -> bool:
        """Return whether the snapshotter itself fetches the layer, in which case containerd does not see the bytes."""
        return self.fetched_by == SNAPSHOTTER

    def see_ingest(self, ingest: Ingest, since: float, owner: str | None, now: float) -> None:
        """Record that a pull is downloading the layer. ``owner`` is the id of that pull, or None if it is this pull."""
        if ingest.offset == 0:
            # Since containerd 2.1, every missing layer immediately gets an ingest, which waits for a download slot.
            self.waited_for_slot = True
            return
        if self.started_at is None:
            resumed = ingest.started_at < since
            if resumed and owner is None and self.fetched_by is None:
                self.cached = min(ingest.offset, self.layer.size)
            self.started_at = now if resumed or self.waited_for_slot else ingest.started_at
        self.phase = LayerPhase.DOWNLOADING
        self.fetched_by = owner
        # If the registry cannot resume a download, the offset falls, but the reported progress must never decrease.
        self.downloaded = max(self.downloaded, min(ingest.offset, self.layer.size) - self.cached)

    def see_snapshotter(self, owner: str | None, now: float) -> None:
        """Record that the snapshotter is fetching the layer for a pull. ``owner`` is None for this pull, or the id of
        another pull.
        """
        self.phase = LayerPhase.DOWNLOADING
        self.fetched_by = owner or SNAPSHOTTER
        if self.started_at is None:
            self.started_at = now

    def see_file(self, received: int, owner: str | None, now: float) -> None:
        """Record how many bytes of the layer the snapshotter has written for a pull. ``owner`` is None for this pull,
        or the id of another pull.
        """
        self.phase, self.fetched_by = LayerPhase.DOWNLOADING, owner
        self.started_at = self.started_at or now
        self.downloaded = max(self.downloaded, min(received, self.layer.size) - self.cached)
        if self.downloaded == self.layer.size - self.cached:
            self.phase, self.completed_at = LayerPhase.DOWNLOADED, now

    def see_no_fetch(self) -> None:
        """Record that the snapshotter is not fetching the layer, at least for now."""
        if self.by_snapshotter and not self.complete:
            self.phase, self.fetched_by, self.started_at = LayerPhase.WAITING, None, None

    def see_collected(self) -> None:
        """Record that the layer was on the node but has been garbage-collected, so that the pull has to fetch it
        again.
        """
        if self.cached_before:
            self._forget()

    def see_other_snapshotter(self) -> None:
        """Discard everything that was derived from the snapshots of a snapshotter other than the pull's."""
        if self.extracted_at is not None:
            self._forget()

    def _forget(self) -> None:
        self.cached_before, self.cached, self.phase = False, 0, LayerPhase.WAITING
        self.extracted_at = self.committed_in = None

    def see_blob(self, blob: Blob, since: float, owner: str | None) -> None:
        """Record that the blob has been committed. A blob that is older than ``since`` was already on the node."""
        if self.cached_before or self.completed_at is not None or self.phase is LayerPhase.REMOTE:
            return
        phase = LayerPhase.DOWNLOADED
        if blob.created_at < since:
            phase = LayerPhase.CACHED
            self._mark_cached()
        else:
            if not self.by_snapshotter:
                self.fetched_by = owner
            self.completed_at = blob.created_at
            self.downloaded = self.layer.size - self.cached
        if not self.unpacked:
            self.phase = phase

    def _mark_cached(self) -> None:
        self.cached_before, self.cached, self.downloaded = True, self.layer.size, 0

    def see_unpacking(self, now: float) -> None:
        """Record that a snapshot for the layer has been prepared.

        A snapshot may be prepared before the layer is downloaded, so the layer counts as extracting only once its
        download is complete.
        """
        if self.complete and not self.unpacked:
            self.phase = LayerPhase.EXTRACTING
            # ``now`` is the time when the poll began, but the blob may have been committed later.
            self.extract_started_at = self.extract_started_at or max(now, self.completed_at or 0.0)

    def see_snapshots(
        self,
        snapshots: Collection[Snapshot],
        since: float,
        owner: str | None,
        absence: Absence | None,
        *,
        visible: bool = False,
    ) -> None:
        """Record that all snapshots of the layer are committed, and determine how its content reached the node.

        ``absence`` is the reason why the layer has no blob, or None if the layer may have one. ``visible`` is true if
        the bytes that the snapshotter fetches can be counted as they arrive.
        """
        if self.unpacked:
            return
        committed_at = max(snapshot.created_at for snapshot in snapshots)
        # A blob that occurs twice in the image has two snapshots, one of which may be older than the pull.
        deliveries = {item.delivery for item in snapshots if item.created_at >= since}
        if committed_at < since:
            self._mark_cached()
            self.phase = LayerPhase.CACHED
        elif not self.downloaded and deliveries & {Delivery.STREAMED, Delivery.GUEST}:
            self._stream(GUEST if Delivery.GUEST in deliveries else None)
        elif self.cached_before or (self.completed_at is not None and Delivery.FETCHED not in deliveries):
            self.phase = LayerPhase.EXTRACTED
        elif Delivery.FETCHED in deliveries or self.by_snapshotter:
            self._arrive(owner or (None if visible else SNAPSHOTTER))
        elif self.started_at is not None or owner is not None:
            self._arrive(owner)
        elif absence is Absence.STAGED:
            self._mark_cached()
            self.phase = LayerPhase.CACHED
        elif absence is not None:
            self._arrive(SNAPSHOTTER if absence is Absence.SNAPSHOTTER else None)
        if self.unpacked or self.phase is LayerPhase.CACHED:
            self.extracted_at = committed_at

    def _stream(self, fetched_by: str | None) -> None:
        self.phase, self.fetched_by = LayerPhase.REMOTE, fetched_by
        self.cached_before, self.cached, self.downloaded = False, 0, 0
        self.started_at = self.completed_at = None

    def _arrive(self, fetched_by: str | None) -> None:
        """Record that every byte had arrived by the time the snapshot was committed."""
        self.phase, self.fetched_by = LayerPhase.EXTRACTED, fetched_by
        self.downloaded = self.layer.size - self.cached

    def end(self, *, completed: bool) -> None:
        """Record that the pull has ended. If the pull completed, all bytes that it did not download were already on the
        node.
        """
        if not completed:
            if not self.complete:
                self.phase = LayerPhase.FAILED
            return
        if self.phase is LayerPhase.REMOTE:
            return
        if self.by_snapshotter and not self.complete:
            self._arrive(SNAPSHOTTER)
            return
        self.cached = self.layer.size - self.downloaded
        if not self.complete:
            self.phase = LayerPhase.DOWNLOADED if self.downloaded else LayerPhase.CACHED
