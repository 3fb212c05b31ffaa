"""A simulated node's snapshotter: its snapshots, and the way in which it delivers layers. Sans-I/O.

The modes reproduce the observed behaviour of overlayfs, erofs, soci-snapshotter, stargz-snapshotter and
nydus-snapshotter.
"""

from dataclasses import dataclass, field
from enum import Enum


class Mode(Enum):
    """The ways in which an image's layers can be fetched. ``LABELS`` contains the labels of the resulting snapshots."""

    UNPACK = "containerd fetches the blobs and unpacks them"
    PARALLEL = "the snapshotter fetches and unpacks all layers concurrently, and keeps no blobs"
    PARALLEL_KEEP = "the snapshotter fetches and unpacks all layers concurrently, and copies every blob into containerd"
    STREAM = "the snapshotter mounts the layers and fetches them while the container reads them"
    GUEST = "a virtual machine will fetch the layers itself"


SOCI = {"containerd.io/snapshot/remote/namespace": "k8s.io"}
LABELS: dict[Mode, dict[str, str]] = {
    Mode.UNPACK: {},
    Mode.PARALLEL: SOCI,
    Mode.PARALLEL_KEEP: SOCI,
    Mode.STREAM: {"containerd.io/snapshot/remote": "remote snapshot"},
    Mode.GUEST: {"containerd.io/snapshot/nydus-proxy-mode": "true"},
}


@dataclass(slots=True)
class Snapshot:
    """A snapshot, which is either committed or still being prepared. A committed snapshot's key is its chain id."""

    key: str
    parent: str
    committed: bool
    created_at: float
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class Snapshotter:
    """A snapshotter that declines the images whose manifest digests are in ``declines``. containerd fetches and unpacks
    the declined images itself.

    ``cache`` contains the digests of layers that the snapshotter has even though no image uses them. ``files`` maps the
    digest of each layer that is being fetched to the number of bytes received.
    """

    name: str
    mode: Mode = Mode.UNPACK
    declines: set[str] = field(default_factory=set)
    cache: set[str] = field(default_factory=set)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    files: dict[str, float] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """The root directory that the snapshotter reports to containerd."""
        return f"/var/lib/containerd/io.containerd.snapshotter.v1.{self.name}"

    @property
    def resource_type(self) -> str:
        """The resource type under which leases list this snapshotter's snapshots."""
        return f"snapshots/{self.name}"

    def prepare(self, key: str, parent: str, now: float) -> None:
        """Prepare a snapshot into which a layer will be unpacked."""
        self.snapshots[key] = Snapshot(key, parent, committed=False, created_at=now)

    def commit(self, key: str, chain_id: str, now: float) -> None:
        """Commit a prepared snapshot."""
        parent = self.snapshots.pop(key).parent
        self.snapshots[chain_id] = Snapshot(chain_id, parent, committed=True, created_at=now)

    def deliver(self, chain_id: str, parent: str, now: float) -> None:
        """Add a committed snapshot without preparing it first."""
        self.snapshots[chain_id] = Snapshot(
            chain_id, parent, committed=True, created_at=now, labels=dict(LABELS[self.mode])
        )

    def keep(self, keys: set[str]) -> None:
        """Delete all snapshots except the given ones and their ancestors, as garbage collection does."""
        parents = list(keys)
        while parents:
            snapshot = self.snapshots.get(parents.pop())
            if snapshot and snapshot.parent and snapshot.parent not in keys:
                keys.add(snapshot.parent)
                parents.append(snapshot.parent)
        self.snapshots = {key: item for key, item in self.snapshots.items() if key in keys}
