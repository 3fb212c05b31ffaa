"""PURE: which image a lease is pulling, and what state each of its layers is in.

The layers of a pull come from its manifest, never from its ingests: a layer that another pull is fetching, or that the
node has, may never appear among the lease's own resources. See ``docs/how-it-knows.md``.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from pulltrace.agent.manifests import Config, Document, Index, Manifest
from pulltrace.agent.observation import Blob, ImageRecord, Ingest, Lease
from pulltrace.images import InvalidReferenceError, Reference, parse, registry_host
from pulltrace.wire import LayerPhase

LOCAL_SNAPSHOTTERS = frozenset({"overlayfs", "native", "btrfs", "zfs", "devmapper", "blockfile", "erofs"})
"""They unpack what was fetched. Others (stargz, nydus, soci, …) may mount a layer that is still at the registry."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob among the layers of an image. A layer that stands in it twice (an empty one, often) is one blob with
    two chain ids; without a config there are none."""

    digest: str
    media_type: str
    size: int
    chain_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """What a lease is pulling. ``targets`` are the digests that the image's record may point at, the index first;
    ``documents`` all index, manifest and config digests."""

    targets: tuple[str, ...]
    documents: tuple[str, ...]
    manifest_digest: str
    media_type: str
    layers: tuple[Layer, ...]
    config_read: bool


def image_of(content: Collection[str], documents: Mapping[str, Document | None]) -> Image | None:
    """The image among a lease's committed blobs; None until its manifest was read.

    A pull of all platforms has several manifests: its layers are those of all of them, each once.
    """
    known = {digest: document for digest in content if (document := documents.get(digest))}
    indexes = {digest: item for digest, item in known.items() if isinstance(item, Index)}
    manifests = {digest: item for digest, item in known.items() if isinstance(item, Manifest)}
    children = [child.digest for index in indexes.values() for child in index.manifests]
    ordered = [digest for digest in children if digest in manifests] or sorted(manifests)
    if not ordered:
        return None
    layers: dict[str, Layer] = {}
    configs = []
    for digest in dict.fromkeys(ordered):
        manifest = manifests[digest]
        configs.append(manifest.config.digest)
        config = known.get(manifest.config.digest)
        chains = config.chain_ids if isinstance(config, Config) else []
        for number, layer in enumerate(manifest.layers):
            chain = (chains[number],) if len(chains) == len(manifest.layers) else ()
            first = layers.get(layer.digest) or Layer(layer.digest, layer.media_type, layer.size)
            layers[layer.digest] = replace(first, chain_ids=first.chain_ids + chain)
    return Image(
        targets=(*indexes, *dict.fromkeys(ordered)),
        documents=(*indexes, *dict.fromkeys(ordered), *configs),
        manifest_digest=ordered[0],
        media_type=manifests[ordered[0]].media_type,
        layers=tuple(layers.values()),
        config_read=all(config in documents for config in configs),
    )


def unread(content: Collection[str], documents: Mapping[str, Document | None], image: Image | None) -> set[str]:
    """Committed blobs of a lease that may be documents: neither read yet nor known to be layers."""
    layers = {layer.digest for layer in image.layers} if image else set()
    return {digest for digest in content if digest not in documents and digest not in layers}


def with_children(content: frozenset[str], documents: Mapping[str, Document | None]) -> frozenset[str]:
    """A lease's committed blobs and the documents that those name, whether or not the lease lists them."""
    children: set[str] = set()
    for digest in content:
        match documents.get(digest):
            case Index(manifests=manifests):
                children.update(child.digest for child in manifests)
            case Manifest(config=config):
                children.add(config.digest)
    return content | children


def source_of(documents: Iterable[str], blobs: Mapping[str, Blob]) -> tuple[str, str] | None:
    """Registry host and repository that these documents have in common, if that leaves no doubt.

    A blob lists every repository it ever came from; one that a pull found on the node gets the pull's own added.
    """
    found = [blobs[digest].sources for digest in documents if digest in blobs and blobs[digest].sources]
    common = frozenset.intersection(*found) if found else frozenset()
    return next(iter(common)) if len(common) == 1 else None


class Name(NamedTuple):
    """The reference a pull was for, whether that is a guess, and when its record was made or updated by it."""

    reference: str
    guessed: bool
    written_at: float


def name_of(
    records: Iterable[ImageRecord],
    lease: Lease,
    source: tuple[str, str] | None,
    taken: Mapping[str, float],
    given: Collection[str],
) -> Name | None:
    """What this pull was for, from the image's records; None: it made none, so it did not complete.

    The record that was pulled is made or updated at the pull's end, so only those younger than the lease count; the
    CRI plugin makes one by tag and one by digest for a pull by tag, and one by image id. One of the pull's ``source``
    goes before any other. ``taken`` are the records that ended other pulls, as old as they were then; ``given`` those
    that did in this very poll, of which nobody can tell how often they were updated: two pulls of one image ending in
    one poll may have each other's tag.
    """
    fresh = [
        record
        for record in records
        if record.updated_at >= lease.created_at and record.updated_at > taken.get(record.name, 0.0)
    ]
    fresh.sort(key=lambda record: (record.name not in given, record.updated_at), reverse=True)
    named = [(reference, record) for record in fresh if (reference := _reference(record.name))]
    named = [item for item in named if _source(item[0]) == source] or named
    tags = [item for item in named if item[0].tag]
    for reference, record in tags or named:
        return Name(str(reference), len(tags) > 1, written_at(record, lease, taken, given))
    return None


def written_at(record: ImageRecord, lease: Lease, taken: Mapping[str, float], given: Collection[str]) -> float:
    """When this pull made or updated the record.

    A twin whose lease still stands may have updated it since: then its making was this one's.
    """
    made = record.created_at >= lease.created_at and record.created_at > taken.get(record.name, 0.0)
    return record.created_at if made and record.name not in given else record.updated_at


def _source(reference: Reference) -> tuple[str, str]:
    return registry_host(reference.registry), reference.repository


def made_with_any_tag(record: ImageRecord) -> bool:
    """The CRI plugin makes these names, by digest and by image id, whatever the tag was."""
    return "@" in record.name or record.name.startswith("sha256:")


def _reference(name: str) -> Reference | None:
    if name.startswith("sha256:"):
        return None  # the CRI plugin's record by image id, which would parse as a tag of a repository "sha256"
    try:
        return parse(name)
    except InvalidReferenceError:
        return None


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
    seen_waiting: bool = False
    was_here: bool = False

    @property
    def here(self) -> bool:
        """Every byte is on the node."""
        return self.was_here or self.completed_at is not None or self.unpacked

    @property
    def unpacked(self) -> bool:
        """Nothing is left to do."""
        return self.phase is LayerPhase.EXTRACTED or (self.phase is LayerPhase.CACHED and self.extracted_at is not None)

    def see_ingest(self, ingest: Ingest, lease: Lease, owner: str | None, now: float) -> None:
        """It is being downloaded, by ``owner``; ``owner`` None: by this pull itself."""
        if ingest.offset == 0:
            # From containerd 2.1 on every missing layer has an ingest at once, and waits in it for its slot.
            self.seen_waiting = True
            return
        if self.started_at is None:
            resumed = ingest.started_at < lease.created_at
            if resumed and owner is None and self.fetched_by is None:
                self.cached = min(ingest.offset, self.layer.size)
            self.started_at = now if resumed or self.seen_waiting else ingest.started_at
        self.phase = LayerPhase.DOWNLOADING
        self.fetched_by = owner
        # The offset falls when a registry cannot resume; what was told stays told.
        self.downloaded = max(self.downloaded, min(ingest.offset, self.layer.size) - self.cached)

    def see_collected(self) -> None:
        """The node had it, but this pull is fetching it: what a cancelled pull had left was collected in between."""
        if self.was_here:
            self.was_here, self.cached, self.phase, self.extracted_at = False, 0, LayerPhase.WAITING, None

    def see_blob(self, blob: Blob, lease: Lease, owner: str | None) -> None:
        """It is committed. Before the lease was made: the node had it."""
        if self.was_here or self.completed_at is not None:
            return
        phase = LayerPhase.DOWNLOADED
        if blob.created_at < lease.created_at:
            phase = LayerPhase.CACHED
            self._was_here()
        else:
            self.fetched_by = owner
            self.completed_at = blob.created_at
            self.downloaded = self.layer.size - self.cached
        if not self.unpacked:
            self.phase = phase

    def _was_here(self) -> None:
        self.was_here, self.cached, self.downloaded = True, self.layer.size, 0

    def see_snapshots(
        self, times: Collection[float], lease: Lease, owner: str | None, now: float, *, active: bool, lazy: bool
    ) -> None:
        """When each of its chain ids was unpacked, as far as they are. ``active``: a snapshot to unpack it is prepared;
        that happens before the download, so alone it says nothing. ``lazy``: the snapshotter may not need the blob."""
        if self.unpacked or not self.layer.chain_ids:
            return
        if len(times) < len(self.layer.chain_ids):
            if self.here and active:
                self.phase = LayerPhase.EXTRACTING
                # ``now`` is the poll's beginning: the blob may have come since.
                self.extract_started_at = self.extract_started_at or max(now, self.completed_at or 0.0)
            return
        self.extracted_at = max(times)
        if self.extracted_at < lease.created_at:
            self._was_here()
            self.phase = LayerPhase.CACHED
            return
        self.phase = LayerPhase.EXTRACTED
        if self.was_here or self.completed_at is not None:
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
            if not self.here:
                self.phase = LayerPhase.FAILED
            return
        self.cached = self.layer.size - self.downloaded
        if not self.here:
            self.phase = LayerPhase.DOWNLOADED if self.downloaded else LayerPhase.CACHED
