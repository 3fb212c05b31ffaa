"""The snapshotters of a node, and how a layer was delivered, according to its labels. Sans-I/O.

Labels are compared by their full key. ``containerd.io/snapshot/remote`` marks a streamed layer. A layer that SOCI
fetched in full has ``containerd.io/snapshot/remote/namespace`` instead.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum

LOCAL = frozenset({"overlayfs", "native", "btrfs", "zfs", "devmapper", "blockfile", "erofs", "windows"})
"""The snapshotters that are part of containerd, which unpack blobs that containerd has fetched."""

DEFAULT = "overlayfs"
"""containerd's own default, assumed until another one is found."""

_STREAMED_LABELS = frozenset(
    {
        "containerd.io/snapshot/remote",  # stargz, SOCI with an index, overlaybd
        "containerd.io/snapshot/nydus-blob",
    }
)
_GUEST_LABELS = frozenset({"containerd.io/snapshot/nydus-proxy-mode"})
_FETCHED_LABELS = frozenset({"containerd.io/snapshot/remote/namespace"})  # on all snapshots of SOCI
_ROOT_OF = "io.containerd.snapshotter.v1."


class Delivery(Enum):
    """How the content of a snapshot reached the node, as far as its labels show."""

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
    """The snapshotters that containerd has loaded, with their root folders, and the name of the default one."""

    roots: Mapping[str, str] = field(default_factory=dict)
    default: str = ""

    @property
    def remote(self) -> list[str]:
        """Return the loaded snapshotters that may fetch content themselves."""
        return sorted(name for name in self.roots if name not in LOCAL)


def delivery_of(snapshotter: str, labels: Collection[str]) -> Delivery:
    """Return how the layer was delivered.

    With a local snapshotter, a label proves nothing, because an image's annotations become labels too.
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
    """Return the snapshotter whose root is the CRI plugin's image folder; an empty string if there is none."""
    for name, root in roots.items():
        if image_folder and (root == image_folder or image_folder.endswith(f"/{_ROOT_OF}{name}")):
            return name
    return ""
