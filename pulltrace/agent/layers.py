"""The state of one layer during one pull, derived from ingests, blobs and snapshots. Sans-I/O.

See ``docs/how-it-knows.md`` for the evidence behind each state.
"""

from collections.abc import Collection
from dataclasses import dataclass

from pulltrace.agent.model import Blob, Ingest, Lease
from pulltrace.wire import LayerPhase


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob among the layers of an image. A layer that stands in it twice (an empty one, often) is one blob with
    two chain ids; without a config there are none."""

    digest: str
    media_type: str
    size: int
    chain_ids: tuple[str, ...] = ()


@dataclass(slots=True)
class Progress:
    """How far one layer is, in one pull. Its state only goes forward; bytes are remembered when containerd forgets."""

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

    @property
    def complete(self) -> bool:
        """Every byte is on the node."""
        return self.cached_before or self.completed_at is not None or self.unpacked

    @property
    def unpacked(self) -> bool:
        """Nothing is left to do."""
        return self.phase is LayerPhase.EXTRACTED or (self.phase is LayerPhase.CACHED and self.extracted_at is not None)

    def see_ingest(self, ingest: Ingest, lease: Lease, owner: str | None, now: float) -> None:
        """It is being downloaded, by ``owner``; ``owner`` None: by this pull itself."""
        if ingest.offset == 0:
            # From containerd 2.1 on every missing layer has an ingest at once, and waits in it for its slot.
            self.waited_for_slot = True
            return
        if self.started_at is None:
            resumed = ingest.started_at < lease.created_at
            if resumed and owner is None and self.fetched_by is None:
                self.cached = min(ingest.offset, self.layer.size)
            self.started_at = now if resumed or self.waited_for_slot else ingest.started_at
        self.phase = LayerPhase.DOWNLOADING
        self.fetched_by = owner
        # The offset falls when a registry cannot resume; what was told stays told.
        self.downloaded = max(self.downloaded, min(ingest.offset, self.layer.size) - self.cached)

    def see_collected(self) -> None:
        """The node had it, but this pull is fetching it: what a cancelled pull had left was collected in between."""
        if self.cached_before:
            self.cached_before, self.cached, self.phase, self.extracted_at = False, 0, LayerPhase.WAITING, None

    def see_blob(self, blob: Blob, lease: Lease, owner: str | None) -> None:
        """It is committed. Before the lease was made: the node had it."""
        if self.cached_before or self.completed_at is not None:
            return
        phase = LayerPhase.DOWNLOADED
        if blob.created_at < lease.created_at:
            phase = LayerPhase.CACHED
            self._mark_cached()
        else:
            self.fetched_by = owner
            self.completed_at = blob.created_at
            self.downloaded = self.layer.size - self.cached
        if not self.unpacked:
            self.phase = phase

    def _mark_cached(self) -> None:
        self.cached_before, self.cached, self.downloaded = True, self.layer.size, 0

    def see_snapshots(
        self, times: Collection[float], lease: Lease, owner: str | None, now: float, *, active: bool, lazy: bool
    ) -> None:
        """When each of its chain ids was unpacked, as far as they are. ``active``: a snapshot to unpack it is prepared;
        that happens before the download, so alone it says nothing. ``lazy``: the snapshotter may not need the blob."""
        if self.unpacked or not self.layer.chain_ids:
            return
        if len(times) < len(self.layer.chain_ids):
            if self.complete and active:
                self.phase = LayerPhase.EXTRACTING
                # ``now`` is the poll's beginning: the blob may have come since.
                self.extract_started_at = self.extract_started_at or max(now, self.completed_at or 0.0)
            return
        self.extracted_at = max(times)
        if self.extracted_at < lease.created_at:
            self._mark_cached()
            self.phase = LayerPhase.CACHED
            return
        self.phase = LayerPhase.EXTRACTED
        if self.cached_before or self.completed_at is not None:
            return
        # Unpacked, but there is no blob: discarded after use, or never needed.
        if lazy and self.started_at is None:
            self.cached = self.layer.size
        else:
            self.fetched_by = owner
            self.downloaded = self.layer.size - self.cached

    def end(self, *, completed: bool) -> None:
        """The pull is over. What of a complete image did not have to be fetched was not missing."""
        if not completed:
            if not self.complete:
                self.phase = LayerPhase.FAILED
            return
        self.cached = self.layer.size - self.downloaded
        if not self.complete:
            self.phase = LayerPhase.DOWNLOADED if self.downloaded else LayerPhase.CACHED
