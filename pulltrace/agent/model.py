"""PURE: what containerd says, in our own types; what is asked of it, and what was answered.

Times are unix seconds of the node's clock, sizes bytes.
"""

from dataclasses import dataclass, field

from pulltrace.agent.manifests import Document

MAX_SPARE_DOCUMENTS = 64


@dataclass(frozen=True, slots=True)
class Ingest:
    """A blob being downloaded. ``started_at`` is that of the first attempt when a later one resumed it."""

    ref: str
    digest: str
    offset: int
    total: int
    started_at: float
    updated_at: float

    @property
    def is_layer(self) -> bool:
        """Not an index, manifest, config or attestation: the kind stands in front of the ref."""
        return self.ref.startswith(("layer-", "unknown-"))


@dataclass(frozen=True, slots=True)
class Lease:
    """One lease; ``expires`` is true for those of image pulls, false for sandboxes'."""

    id: str
    created_at: float
    expires: bool = True


@dataclass(frozen=True, slots=True)
class Resources:
    """What one lease holds: committed blobs, ingest refs, and chain ids being unpacked and unpacked.

    ``foreign`` is true when it holds snapshots that are not layers of an image: then it is not a pull.
    """

    content: frozenset[str] = frozenset()
    ingests: frozenset[str] = frozenset()
    unpacking: frozenset[str] = frozenset()
    unpacked: frozenset[str] = frozenset()
    snapshotter: str | None = None
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Blob:
    """A committed blob; ``sources`` are (registry host without port, repository) it is known to come from."""

    size: int
    created_at: float
    sources: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image's name, made or updated at the end of its pull, and the digest of the index or manifest it names."""

    name: str
    target: str
    updated_at: float
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Observation:
    """One poll. Ingests are listed first, then leases, then their resources: so an ingest seen here has its lease here
    too, unless its pull has ended in between.
    """

    ingests: list[Ingest]
    leases: list[Lease]
    resources: dict[str, Resources]


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to ask: a digest's ``blob``, ``document`` or ``image`` records, or a chain id's ``snapshot``."""

    about: str
    key: str
    snapshotter: str = ""


@dataclass(slots=True)
class Facts:
    """Answers worth keeping while a live pull needs them. A blob or snapshot that is absent is not in here."""

    documents: dict[str, Document | None] = field(default_factory=dict)
    blobs: dict[str, Blob] = field(default_factory=dict)
    snapshots: dict[str, float] = field(default_factory=dict)
    images: dict[str, list[ImageRecord]] = field(default_factory=dict)

    def forget(self, digests: set[str], chains: set[str]) -> None:
        """Keep only what live pulls need, and the newest documents: the next pull often shares them."""
        self.blobs = {digest: blob for digest, blob in self.blobs.items() if digest in digests}
        self.snapshots = {chain: time for chain, time in self.snapshots.items() if chain in chains}
        for digest in [digest for digest in self.documents if digest not in digests][:-MAX_SPARE_DOCUMENTS]:
            del self.documents[digest]
