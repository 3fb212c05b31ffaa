"""The state of a simulated containerd (content, ingests, leases, snapshotters and images) and its garbage collector.
Sans-I/O.

Times are Unix seconds on the node's clock, and sizes are in bytes. The store can behave like containerd 1.6, 1.7 and
2.4.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from pulltrace.demo.images import Blob, Image
from pulltrace.demo.snapshotter import Mode, Snapshot, Snapshotter

STEP = 1 << 20
"""An ingest's offset grows in 1 MiB steps. The last step may be shorter."""


@dataclass(slots=True)
class Content:
    """A committed blob."""

    blob: Blob
    created_at: float
    labels: dict[str, str] = field(default_factory=dict)
    updated_at: float = 0.0


@dataclass(slots=True)
class Ingest:
    """A blob that is being downloaded. If containerd is killed, the ingest remains, and a later pull resumes the
    download.
    """

    blob: Blob
    started_at: float
    updated_at: float
    received: float = 0.0

    @property
    def offset(self) -> int:
        """The ingest's offset, as containerd reports it."""
        return self.blob.size if self.received >= self.blob.size else int(self.received) // STEP * STEP


@dataclass(slots=True)
class Lease:
    """A lease, which protects its ``resources`` from garbage collection. ``resources`` contains (type, id) pairs,
    oldest first.
    """

    id: str
    created_at: float
    labels: dict[str, str]
    resources: dict[tuple[str, str], None] = field(default_factory=dict)


@dataclass(slots=True)
class Record:
    """An image record: a name, and the image that it refers to."""

    name: str
    image: Image
    created_at: float
    updated_at: float


class Store:
    """All objects in containerd's ``k8s.io`` namespace. Only the node and its pulls change these objects.

    ``snapshotter`` is the default snapshotter. The snapshotters in ``others`` are also loaded, so runtime classes can
    select them.
    """

    def __init__(
        self,
        snapshotter: str = "overlayfs",
        *,
        mode: Mode = Mode.UNPACK,
        others: Iterable[Snapshotter] = (),
        discard_unpacked_layers: bool = False,
    ) -> None:
        self.snapshotter = Snapshotter(snapshotter, mode)
        self.snapshotters = {item.name: item for item in (self.snapshotter, *others)}
        self.discard_unpacked_layers = discard_unpacked_layers
        self.content: dict[str, Content] = {}
        self.ingests: dict[str, Ingest] = {}
        self.leases: dict[str, Lease] = {}
        self.records: dict[str, Record] = {}
        self.listeners: list[Callable[[str, bool], None]] = []
        """These callbacks run when an image record is created or updated, with the record's name and whether it has the
        CRI plugin's label.
        """

    @property
    def snapshots(self) -> dict[str, Snapshot]:
        """The snapshots of the default snapshotter."""
        return self.snapshotter.snapshots

    def open(self, blob: Blob, now: float) -> Ingest:
        """Start or resume the download of a blob."""
        return self.ingests.setdefault(blob.ref, Ingest(blob, now, now))

    def commit(self, blob: Blob, now: float) -> None:
        """Commit a complete blob."""
        self.ingests.pop(blob.ref, None)
        self.content[blob.digest] = Content(blob, now)

    def label_source(self, digest: str, host: str, repository: str, now: float) -> None:
        """Record that a blob was also pulled from this repository."""
        if content := self.content.get(digest):
            label = f"containerd.io/distribution.source.{host}"
            known = filter(None, content.labels.get(label, "").split(","))
            content.labels[label] = ",".join(sorted({*known, repository}))
            content.updated_at = max(now, content.created_at)

    def record(self, name: str, image: Image, now: float, *, by_cri: bool = True) -> None:
        """Create or update an image record. ``by_cri`` is false if something other than the CRI plugin writes the
        record.
        """
        created_at = self.records[name].created_at if name in self.records else now
        self.records[name] = Record(name, image, created_at, now)
        for listener in self.listeners:
            listener(name, by_cri)

    def collect(self) -> None:
        """Delete everything that is not held by a lease or an image, as containerd's garbage collector does."""
        held = {resource for lease in self.leases.values() for resource in lease.resources}
        for record in self.records.values():
            held |= set(self._held_by(record.image))
        self.content = {digest: item for digest, item in self.content.items() if ("content", digest) in held}
        self.ingests = {ref: item for ref, item in self.ingests.items() if ("ingests", ref) in held}
        for snapshotter in self.snapshotters.values():
            snapshotter.keep({key for kind, key in held if kind == snapshotter.resource_type})

    def _held_by(self, image: Image) -> Iterator[tuple[str, str]]:
        blobs = image.documents if self.discard_unpacked_layers else (*image.documents, *(x.blob for x in image.layers))
        yield from (("content", blob.digest) for blob in blobs)
        for snapshotter in self.snapshotters.values():
            yield from ((snapshotter.resource_type, chain) for chain in image.chain_ids)
