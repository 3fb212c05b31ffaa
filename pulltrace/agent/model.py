"""The agent's own types for containerd's data, and for the queries (``Question``) that the tracker wants containerd to
answer. Sans-I/O.

Times are Unix seconds on the node's clock; sizes are in bytes.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec import Struct

from pulltrace.agent.manifests import Document
from pulltrace.agent.snapshotters import Snapshot

MAX_SPARE_DOCUMENTS = 64

LAYER_REFS = ("layer-", "unknown-")
"""The ref prefixes of layers, and of blobs whose kind containerd does not know."""
ARCHIVE = "tar-"
"""The ref prefix of an ingest that contains a file from an imported archive rather than a download."""


class Ingest(Struct, frozen=True, gc=False):
    """A blob being downloaded. ``started_at`` is the time when the first attempt to download the blob began, even if a
    later attempt resumed the download.
    """

    ref: str
    digest: str
    offset: int
    total: int
    started_at: float
    updated_at: float

    @property
    def is_layer(self) -> bool:
        """Return whether the blob may be a layer. The refs of indexes, manifests, configs and attestations have other
        prefixes.
        """
        if self.ref.startswith(ARCHIVE):
            return not self.ref.endswith(".json")
        return self.ref.startswith(LAYER_REFS)

    @property
    def is_copy(self) -> bool:
        """Return whether this ingest copies a blob that a snapshotter (SOCI) has already fetched. The ref of such an
        ingest is the digest itself.
        """
        return self.ref == self.digest and not self.ref.startswith(ARCHIVE)


class Lease(Struct, frozen=True, gc=False):
    """One lease. ``expires`` is true for leases of image pulls, and false for leases of pod sandboxes.

    ``is_default`` is true if containerd's client chose the id and the lifetime, as it does for every pull by the CRI
    plugin. Image builders choose different ids, lifetimes or labels for their leases.
    """

    id: str
    created_at: float
    expires: bool = True
    is_default: bool = True


@dataclass(frozen=True, slots=True)
class Resources:
    """One lease's resources: committed blobs, ingest refs, and the chain ids of layers that are being or have been
    unpacked.

    ``foreign`` is true if the lease holds snapshots that are not image layers. A foreign lease does not belong to a
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
    """A committed blob. ``sources`` contains the blob's known sources, each as a pair of registry host (without port)
    and repository.
    """

    size: int
    created_at: float
    sources: frozenset[tuple[str, str]] = frozenset()
    updated_at: float = 0.0
    """The time at which the blob's labels last changed."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image's name and the digest of its index or manifest.

    A pull creates or updates an image record when it completes.
    """

    name: str
    target: str
    updated_at: float
    created_at: float = 0.0


class Write(NamedTuple):
    """One write of an image record, as reported by containerd's events.

    ``foreign`` is true if the CRI plugin should have written the record but another client did, for instance ``ctr``.
    """

    at: float
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """The lists received in one poll.

    Ingests are requested first, then leases, then resources. Therefore, the lease of every listed ingest is also
    listed, unless the pull ended between the two requests.
    """

    ingests: list[Ingest]
    leases: list[Lease]
    resources: dict[str, Resources]
    received: dict[str, int] | None = None
    """The number of bytes of each layer that SOCI has written so far, keyed by layer digest; None if the agent cannot
    see SOCI's files.
    """


@dataclass(frozen=True, slots=True)
class BlobQuestion:
    """A request for a blob's commit time and sources, if the blob is committed."""

    digest: str


@dataclass(frozen=True, slots=True)
class DocumentQuestion:
    """A request for the content of this index, manifest or config."""

    digest: str


@dataclass(frozen=True, slots=True)
class SnapshotQuestion:
    """A request for the unpack time and the delivery method of the layer with this chain id."""

    chain_id: str
    snapshotter: str


@dataclass(frozen=True, slots=True)
class ImageQuestion:
    """A request for the image records that point to this index or manifest. An empty ``target`` means all records."""

    target: str


Question = BlobQuestion | DocumentQuestion | SnapshotQuestion | ImageQuestion


@dataclass(slots=True)
class Facts:
    """The data from earlier responses that live pulls still need. Blobs and snapshots that do not exist have no
    entries.
    """

    documents: dict[str, Document | None] = field(default_factory=dict)
    blobs: dict[str, Blob] = field(default_factory=dict)
    snapshots: dict[tuple[str, str], Snapshot] = field(default_factory=dict)
    """The committed snapshots, keyed by snapshotter and chain id."""
    images: dict[str, list[ImageRecord]] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    """The digests of the blobs that were missing from containerd during this poll."""
    asked: set[Question] = field(default_factory=set)
    """The questions that have been asked during this poll."""
    containers: list[float] = field(default_factory=list)
    """The creation times of the containers created since the oldest live pull began."""

    def forget(self, digests: set[str], chains: set[str]) -> None:
        """Keep only the data that live pulls need, and the newest documents, because the next pull often needs the same
        documents.
        """
        self.blobs = {digest: blob for digest, blob in self.blobs.items() if digest in digests}
        self.snapshots = {key: snapshot for key, snapshot in self.snapshots.items() if key[1] in chains}
        for digest in [digest for digest in self.documents if digest not in digests][:-MAX_SPARE_DOCUMENTS]:
            del self.documents[digest]
