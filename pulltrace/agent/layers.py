"""The state of one layer during one pull, derived from ingests, blobs and snapshots. Sans-I/O.

See ``docs/how-it-knows.md`` for the evidence behind each state.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from pulltrace.agent.model import Blob, Ingest, Lease
from pulltrace.agent.snapshotters import Delivery, Snapshot
from pulltrace.wire import GUEST, SNAPSHOTTER, LayerPhase


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an image. A blob that occurs twice in an image (often an empty layer) has two chain ids. Before the
    image's config has been read, no layer has a chain id.
    """

    digest: str
    media_type: str
    size: int
    chain_ids: tuple[str, ...] = ()


class Absence(Enum):
    """The reason why a layer with a committed snapshot has no blob."""

    STAGED = "the snapshotter already had the content"
    DISCARDED = "containerd removed the blob after unpacking it"
    SNAPSHOTTER = "the snapshotter fetched the content itself"


@dataclass(slots=True)
class Progress:
    """The progress of a layer within one pull. The state only advances, except when new evidence corrects the state.
    Bytes remain counted when containerd no longer lists them.

    ``cached_before`` means that every byte was on the node before the pull. ``committed_in`` is the number of the first
    poll in which all snapshots of the layer were committed.
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
        """Whether the pull can end without fetching more of the layer."""
        return self.cached_before or self.completed_at is not None or self.unpacked

    @property
    def is_missing(self) -> bool:
        """Whether bytes of the layer still have to be fetched. If all snapshots of the layer are committed, the value
        is false.
        """
        return not self.complete and self.committed_in is None

    @property
    def unpacked(self) -> bool:
        """Whether the pull has nothing left to download or unpack for this layer."""
        if self.phase in (LayerPhase.EXTRACTED, LayerPhase.REMOTE):
            return True
        return self.phase is LayerPhase.CACHED and self.extracted_at is not None

    @property
    def by_snapshotter(self) -> bool:
        """Whether the snapshotter fetches the layer. containerd does not see the bytes of such a layer."""
        return self.fetched_by == SNAPSHOTTER

    def see_ingest(self, ingest: Ingest, lease: Lease, owner: str | None, now: float) -> None:
        """Record that the pull ``owner`` is downloading the layer; None means this pull."""
        if ingest.offset == 0:
            # From containerd 2.1 on, every missing layer gets an ingest at once, which then waits for a download slot.
            self.waited_for_slot = True
            return
        if self.started_at is None:
            resumed = ingest.started_at < lease.created_at
            if resumed and owner is None and self.fetched_by is None:
                self.cached = min(ingest.offset, self.layer.size)
            self.started_at = now if resumed or self.waited_for_slot else ingest.started_at
        self.phase = LayerPhase.DOWNLOADING
        self.fetched_by = owner
        # The offset decreases if the registry cannot resume a download, but published progress never decreases.
        self.downloaded = max(self.downloaded, min(ingest.offset, self.layer.size) - self.cached)

    def see_snapshotter(self, owner: str | None, now: float) -> None:
        """Record that the snapshotter is fetching the layer for the pull ``owner``; None means this pull."""
        self.phase = LayerPhase.DOWNLOADING
        self.fetched_by = owner or SNAPSHOTTER
        if self.started_at is None:
            self.started_at = now

    def see_file(self, received: int, owner: str | None, now: float) -> None:
        """Record how many bytes the snapshotter has written for the pull ``owner``; None means this pull."""
        self.phase, self.fetched_by = LayerPhase.DOWNLOADING, owner
        self.started_at = self.started_at or now
        self.downloaded = max(self.downloaded, min(received, self.layer.size) - self.cached)
        if self.downloaded == self.layer.size - self.cached:
            self.phase, self.completed_at = LayerPhase.DOWNLOADED, now

    def see_no_fetch(self) -> None:
        """Record that the snapshotter does not fetch the layer, at least not yet."""
        if self.by_snapshotter and not self.complete:
            self.phase, self.fetched_by, self.started_at = LayerPhase.WAITING, None, None

    def see_collected(self) -> None:
        """Record that the pull fetches a layer that was on the node, but has been garbage-collected since."""
        if self.cached_before:
            self._forget()

    def see_other_snapshotter(self) -> None:
        """Drop conclusions that are based on a snapshotter that this pull does not use."""
        if self.extracted_at is not None:
            self._forget()

    def _forget(self) -> None:
        self.cached_before, self.cached, self.phase = False, 0, LayerPhase.WAITING
        self.extracted_at = self.committed_in = None

    def see_blob(self, blob: Blob, lease: Lease, owner: str | None) -> None:
        """Record that the blob is committed. A blob that is older than the lease was on the node before the pull."""
        if self.cached_before or self.completed_at is not None or self.phase is LayerPhase.REMOTE:
            return
        phase = LayerPhase.DOWNLOADED
        if blob.created_at < lease.created_at:
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

        A snapshot may be prepared before the download, so the layer counts as extracting only once it is complete.
        """
        if self.complete and not self.unpacked:
            self.phase = LayerPhase.EXTRACTING
            # ``now`` is the time when the poll began; the blob may be newer.
            self.extract_started_at = self.extract_started_at or max(now, self.completed_at or 0.0)

    def see_snapshots(
        self,
        snapshots: Collection[Snapshot],
        lease: Lease,
        owner: str | None,
        absence: Absence | None,
        *,
        visible: bool = False,
    ) -> None:
        """Record that every snapshot of the layer is committed, and derive how the layer arrived.

        ``absence`` explains why the layer has no blob; None means that the blob may still exist. ``visible`` is true if
        the bytes that the snapshotter fetches are counted while they arrive.
        """
        if self.unpacked:
            return
        committed_at = max(snapshot.created_at for snapshot in snapshots)
        # A blob that occurs twice in the image has two snapshots, and one of these may be older than the pull.
        deliveries = {item.delivery for item in snapshots if item.created_at >= lease.created_at}
        if committed_at < lease.created_at:
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
        """Record that every byte had arrived when the snapshot was committed."""
        self.phase, self.fetched_by = LayerPhase.EXTRACTED, fetched_by
        self.downloaded = self.layer.size - self.cached

    def end(self, *, completed: bool) -> None:
        """Record the end of the pull. If it completed, the bytes that were not fetched were already on the node."""
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
