"""The snapshotter of a simulated node: its snapshots, and how it delivers layers. Sans-I/O.

The modes correspond to the observed behaviour of overlayfs, erofs, soci-snapshotter, stargz-snapshotter and
nydus-snapshotter.
"""

from dataclasses import dataclass, field
from enum import Enum


class Mode(Enum):
    """The program that fetches the layers of an image, and the labels of the resulting snapshots."""

    UNPACK = "containerd fetches the blobs and unpacks them"
    PARALLEL = "the snapshotter fetches and unpacks all layers concurrently, and keeps no blobs"
    PARALLEL_KEEP = "the same, but every blob is copied into containerd"
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
    """A committed snapshot, whose key is a chain id, or one that is being prepared."""

    key: str
    parent: str
    committed: bool
    created_at: float
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class Snapshotter:
    """One snapshotter. Images whose manifests are in ``declines`` are left to containerd, which then fetches and
    unpacks them.

    ``cache`` contains the digests of layers that the snapshotter already has and no image uses. ``files`` maps each
    layer that is being fetched to the number of bytes received.
    """

    name: str
    mode: Mode = Mode.UNPACK
    declines: set[str] = field(default_factory=set)
    cache: set[str] = field(default_factory=set)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    files: dict[str, float] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """Return the root folder that the snapshotter reports to containerd."""
        return f"/var/lib/containerd/io.containerd.snapshotter.v1.{self.name}"

    @property
    def resource_type(self) -> str:
        """Return the resource type under which leases list this snapshotter's snapshots."""
        return f"snapshots/{self.name}"

    def prepare(self, key: str, parent: str, now: float) -> None:
        """Prepare the snapshot into which a layer is to be unpacked."""
        self.snapshots[key] = Snapshot(key, parent, committed=False, created_at=now)

    def commit(self, key: str, chain_id: str, now: float) -> None:
        """Commit a snapshot that was prepared."""
        parent = self.snapshots.pop(key).parent
        self.snapshots[chain_id] = Snapshot(chain_id, parent, committed=True, created_at=now)

    def deliver(self, chain_id: str, parent: str, now: float) -> None:
        """Commit the snapshot of a layer that the snapshotter has prepared itself."""
        self.snapshots[chain_id] = Snapshot(
            chain_id, parent, committed=True, created_at=now, labels=dict(LABELS[self.mode])
        )

    def keep(self, keys: set[str]) -> None:
        """Garbage-collect every snapshot except these and their parents."""
        parents = list(keys)
        while parents:
            snapshot = self.snapshots.get(parents.pop())
            if snapshot and snapshot.parent and snapshot.parent not in keys:
                keys.add(snapshot.parent)
                parents.append(snapshot.parent)
        self.snapshots = {key: item for key, item in self.snapshots.items() if key in keys}
