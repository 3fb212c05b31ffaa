"""The agent's own types, for what containerd returns and for the tracker's questions to containerd. Sans-I/O.

Times are unix seconds on the node's clock; sizes are in bytes.
"""

from dataclasses import dataclass, field

from msgspec import Struct

from pulltrace.agent.manifests import Document
from pulltrace.agent.snapshotters import Snapshot

MAX_SPARE_DOCUMENTS = 64

LAYER_REFS = ("layer-", "unknown-")
"""The ref prefixes of layers, and of blobs whose kind containerd does not know."""
ARCHIVE = "tar-"
"""The ref prefix of an ingest that is not a download, but a file from an archive that is being imported."""


class Ingest(Struct, frozen=True, gc=False):
    """A blob being downloaded. ``started_at`` is the start of the first attempt, even if a later one resumed the
    download.
    """

    ref: str
    digest: str
    offset: int
    total: int
    started_at: float
    updated_at: float

    @property
    def is_layer(self) -> bool:
        """Whether the blob may be a layer. The prefix of the ref shows whether the blob is an index, a manifest, a
        config or an attestation instead.
        """
        if self.ref.startswith(ARCHIVE):
            return not self.ref.endswith(".json")
        return self.ref.startswith(LAYER_REFS)

    @property
    def is_copy(self) -> bool:
        """Whether this ingest copies a blob that a snapshotter (SOCI) has already fetched. The ref of such an ingest is
        only the digest.
        """
        return self.ref == self.digest and not self.ref.startswith(ARCHIVE)


class Lease(Struct, frozen=True, gc=False):
    """One lease. ``expires`` is true for leases of image pulls and false for leases of sandboxes.

    ``is_default`` is true if containerd's client chose the id and the lifetime, as it does for every pull by the CRI
    plugin. Image builders choose other ids, lifetimes or labels for their leases.
    """

    id: str
    created_at: float
    expires: bool = True
    is_default: bool = True


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of one lease: committed blobs, ingest refs, and the chain ids of layers that are being or have been
    unpacked.

    ``foreign`` is true if the lease holds snapshots that are not layers of an image; such a lease does not belong to a
    pull.
    """

    content: frozenset[str] = frozenset()
    ingests: frozenset[str] = frozenset()
    unpacking: frozenset[str] = frozenset()
    unpacked: frozenset[str] = frozenset()
    snapshotter: str | None = None
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Blob:
    """A committed blob. ``sources`` are its known origins: (registry host without port, repository)."""

    size: int
    created_at: float
    sources: frozenset[tuple[str, str]] = frozenset()
    updated_at: float = 0.0
    """The time of the last change of the blob's labels."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """The name of an image, and the digest of its index or manifest.

    A pull creates or updates such a record at its end.
    """

    name: str
    target: str
    updated_at: float
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Observation:
    """The lists that one poll requested.

    Ingests are listed first, then leases, then resources. So the lease of every listed ingest is listed too, except
    when the pull ended in between.
    """

    ingests: list[Ingest]
    leases: list[Lease]
    resources: dict[str, Resources]
    received: dict[str, int] | None = None
    """The number of bytes that SOCI has written so far, by layer digest; None if the agent cannot see this."""


@dataclass(frozen=True, slots=True)
class BlobQuestion:
    """Is this blob committed? If so, when was it committed, and which registry does it come from?"""

    digest: str


@dataclass(frozen=True, slots=True)
class DocumentQuestion:
    """What does this index, manifest or config contain?"""

    digest: str


@dataclass(frozen=True, slots=True)
class SnapshotQuestion:
    """When was the layer with this chain id unpacked, and how was it delivered?"""

    chain_id: str
    snapshotter: str


@dataclass(frozen=True, slots=True)
class ImageQuestion:
    """Which image records point to this index or manifest? An empty ``target`` means all records."""

    target: str


Question = BlobQuestion | DocumentQuestion | SnapshotQuestion | ImageQuestion


@dataclass(slots=True)
class Facts:
    """Data from earlier responses that live pulls still need. A blob or snapshot that does not exist has no entry."""

    documents: dict[str, Document | None] = field(default_factory=dict)
    blobs: dict[str, Blob] = field(default_factory=dict)
    snapshots: dict[tuple[str, str], Snapshot] = field(default_factory=dict)
    """The committed snapshots, by snapshotter and chain id."""
    images: dict[str, list[ImageRecord]] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    """The digests of the blobs that this poll did not find in containerd."""
    containers: list[float] = field(default_factory=list)
    """The times at which containers were created since the oldest live pull began."""

    def forget(self, digests: set[str], chains: set[str]) -> None:
        """Keep only what live pulls need, and the newest documents, which the next pull often needs too."""
        self.blobs = {digest: blob for digest, blob in self.blobs.items() if digest in digests}
        self.snapshots = {key: snapshot for key, snapshot in self.snapshots.items() if key[1] in chains}
        for digest in [digest for digest in self.documents if digest not in digests][:-MAX_SPARE_DOCUMENTS]:
            del self.documents[digest]
