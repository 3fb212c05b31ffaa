"""Model a node's snapshotters, and derive from a snapshot's labels how the layer was delivered. Sans-I/O.

Labels must match in full: ``containerd.io/snapshot/remote`` marks a streamed layer, but
``containerd.io/snapshot/remote/namespace`` marks a layer that SOCI fetched in full.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum

LOCAL = frozenset({"overlayfs", "native", "btrfs", "zfs", "devmapper", "blockfile", "erofs", "windows"})
"""containerd's built-in snapshotters, which unpack the blobs that containerd has fetched."""

DEFAULT = "overlayfs"
"""containerd's default snapshotter, assumed until containerd reports a different default."""

_STREAMED_LABELS = frozenset(
    {
        "containerd.io/snapshot/remote",  # set by stargz, by overlaybd, and by SOCI if the image has a SOCI index
        "containerd.io/snapshot/nydus-blob",
    }
)
_GUEST_LABELS = frozenset({"containerd.io/snapshot/nydus-proxy-mode"})
_FETCHED_LABELS = frozenset({"containerd.io/snapshot/remote/namespace"})  # SOCI sets this label on all of its snapshots
_ROOT_OF = "io.containerd.snapshotter.v1."


class Delivery(Enum):
    """The ways in which a snapshot's content may have reached the node, according to the snapshot's labels."""

    UNKNOWN = "unknown"
    STREAMED = "streamed"
    GUEST = "guest"
    FETCHED = "fetched"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A committed snapshot: one unpacked or mounted layer."""

    created_at: float
    delivery: Delivery = Delivery.UNKNOWN


@dataclass(frozen=True, slots=True)
class Snapshotters:
    """The snapshotters that containerd has loaded, with their root directories, and the name of the default
    snapshotter.
    """

    roots: Mapping[str, str] = field(default_factory=dict)
    default: str = ""

    @property
    def remote(self) -> list[str]:
        """Return the loaded snapshotters that may fetch content themselves."""
        return sorted(name for name in self.roots if name not in LOCAL)


def delivery_of(snapshotter: str, labels: Collection[str]) -> Delivery:
    """Return how the layer was delivered, according to its snapshot's labels.

    A local snapshotter's labels prove nothing: an image's annotations also become labels, so an image can imitate them.
    """
    if snapshotter in LOCAL:
        return Delivery.UNKNOWN
    for keys, delivery in (
        (_GUEST_LABELS, Delivery.GUEST),
        (_STREAMED_LABELS, Delivery.STREAMED),
        (_FETCHED_LABELS, Delivery.FETCHED),
    ):
        if not keys.isdisjoint(labels):
            return delivery
    return Delivery.UNKNOWN


def default_of(roots: Mapping[str, str], image_folder: str) -> str:
    """Return the snapshotter whose root is the CRI plugin's image directory, or an empty string if there is none."""
    for name, root in roots.items():
        if image_folder and (root == image_folder or image_folder.endswith(f"/{_ROOT_OF}{name}")):
            return name
    return ""
