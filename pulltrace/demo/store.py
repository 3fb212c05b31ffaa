"""PURE: what one containerd keeps: content, ingests, leases, snapshots, images; and its garbage collector.

Times are unix seconds of the node's clock, sizes bytes. Seen with containerd 1.6, 1.7 and 2.4.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pulltrace.demo.images import Blob, Image

STEP = 1 << 20
"""The offset of an ingest moves in steps of 1 MiB, and to the end."""


@dataclass(slots=True)
class Content:
    """A committed blob."""

    blob: Blob
    created_at: float
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Ingest:
    """A blob being downloaded. It outlives a containerd that is killed, and is then resumed."""

    blob: Blob
    started_at: float
    updated_at: float
    received: float = 0.0

    @property
    def offset(self) -> int:
        """What containerd tells of it."""
        return self.blob.size if self.received >= self.blob.size else int(self.received) // STEP * STEP


@dataclass(slots=True)
class Lease:
    """Keeps its resources, (type, id) in the order in which they came, from being collected."""

    id: str
    created_at: float
    labels: dict[str, str]
    resources: dict[tuple[str, str], None] = field(default_factory=dict)


@dataclass(slots=True)
class Snapshot:
    """A layer unpacked (its key is its chain id) or being unpacked."""

    key: str
    parent: str
    committed: bool
    created_at: float


@dataclass(slots=True)
class Record:
    """An image's name."""

    name: str
    image: Image
    created_at: float
    updated_at: float


class Store:
    """Everything in the namespace ``k8s.io``. Changed only by the node and its pulls."""

    def __init__(self, snapshotter: str = "overlayfs", *, discard_unpacked_layers: bool = False) -> None:
        self.snapshotter = snapshotter
        self.discard_unpacked_layers = discard_unpacked_layers
        self.content: dict[str, Content] = {}
        self.ingests: dict[str, Ingest] = {}
        self.leases: dict[str, Lease] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.records: dict[str, Record] = {}

    @property
    def snapshots_type(self) -> str:
        """What a lease calls its snapshots."""
        return f"snapshots/{self.snapshotter}"

    def open(self, blob: Blob, now: float) -> Ingest:
        """Begin to download a blob, or resume."""
        return self.ingests.setdefault(blob.ref, Ingest(blob, now, now))

    def commit(self, blob: Blob, now: float) -> None:
        """A download is complete."""
        self.ingests.pop(blob.ref, None)
        self.content[blob.digest] = Content(blob, now)

    def label_source(self, digest: str, host: str, repository: str) -> None:
        """A blob was pulled from this repository too."""
        if content := self.content.get(digest):
            label = f"containerd.io/distribution.source.{host}"
            known = filter(None, content.labels.get(label, "").split(","))
            content.labels[label] = ",".join(sorted({*known, repository}))

    def prepare(self, key: str, parent: str, now: float) -> None:
        """Begin to unpack a layer."""
        self.snapshots[key] = Snapshot(key, parent, committed=False, created_at=now)

    def commit_snapshot(self, key: str, chain_id: str, now: float) -> None:
        """A layer is unpacked."""
        parent = self.snapshots.pop(key).parent
        self.snapshots[chain_id] = Snapshot(chain_id, parent, committed=True, created_at=now)

    def record(self, name: str, image: Image, now: float) -> None:
        """Name an image; a name that exists is updated."""
        created_at = self.records[name].created_at if name in self.records else now
        self.records[name] = Record(name, image, created_at, now)

    def collect(self) -> None:
        """Take away what no lease and no image holds."""
        held = {resource for lease in self.leases.values() for resource in lease.resources}
        for record in self.records.values():
            held |= set(self._held_by(record.image))
        self.content = {digest: item for digest, item in self.content.items() if ("content", digest) in held}
        self.ingests = {ref: item for ref, item in self.ingests.items() if ("ingests", ref) in held}
        kept = {key for kind, key in held if kind == self.snapshots_type}
        parents = list(kept)
        while parents:
            snapshot = self.snapshots.get(parents.pop())
            if snapshot and snapshot.parent and snapshot.parent not in kept:
                kept.add(snapshot.parent)
                parents.append(snapshot.parent)
        self.snapshots = {key: item for key, item in self.snapshots.items() if key in kept}

    def _held_by(self, image: Image) -> Iterator[tuple[str, str]]:
        blobs = image.documents if self.discard_unpacked_layers else (*image.documents, *(x.blob for x in image.layers))
        yield from (("content", blob.digest) for blob in blobs)
        yield from ((self.snapshots_type, chain) for chain in image.chain_ids)
