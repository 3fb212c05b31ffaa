"""``ctr image import`` on a simulated node, step by step."""

from collections.abc import Iterable

from pulltrace.demo.images import Blob, Image
from pulltrace.demo.store import Ingest
from pulltrace.demo.virtual_containerd import VirtualContainerd


class ArchiveImport:
    """An archive import. In Docker archives (``docker``), file names do not contain layer digests."""

    def __init__(self, node: VirtualContainerd, *, docker: bool = False) -> None:
        self.node = node
        self.lease = node.new_lease()
        self._docker = docker

    def begin(self, blob: Blob, received: int = 0) -> str:
        """Start writing a file from the archive. ``received`` bytes of the file have already arrived. Return the
        ingest's ref.
        """
        algorithm, _, encoded = blob.digest.partition(":")
        ref = f"tar-{encoded[:20]}/layer.tar" if self._docker else f"tar-blobs/{algorithm}/{encoded}"
        now = self.node.now
        self.node.store.ingests[ref] = Ingest(blob, now, now, float(received))
        self.lease.resources["ingests", ref] = None
        return ref

    def grow(self, ref: str, received: int) -> None:
        """Set how many bytes of a file have been received so far."""
        ingest = self.node.store.ingests[ref]
        ingest.received, ingest.updated_at = float(received), self.node.now

    def commit(self, blob: Blob) -> None:
        """Mark a file as complete, even if ``begin`` was never called for it."""
        store = self.node.store
        for ref in [ref for ref, item in store.ingests.items() if item.blob is blob]:
            del store.ingests[ref]
            self.lease.resources.pop(("ingests", ref), None)
        if blob.digest not in store.content:
            store.commit(blob, self.node.now)
        self.lease.resources["content", blob.digest] = None

    def end(self, images: dict[str, Image]) -> None:
        """Write the manifests and the image records, then delete the lease."""
        for image in images.values():
            for blob in image.documents:
                self.commit(blob)
            for blob in {image.target, image.manifest}:  # containerd adds labels to blobs that refer to other blobs
                self.node.store.content[blob.digest].updated_at = self.node.now
        self.node.advance(0.05)
        for name, image in images.items():
            self.node.store.record(name, image, self.node.now, by_cri=False)
        self.node.release(self.lease)

    def abort(self) -> None:
        """Delete the lease, as an interrupted client does."""
        self.node.release(self.lease)

    def unpack(self, image: Image) -> "Unpacking":
        """Start unpacking an image under its own lease, as ``ctr`` does after the import."""
        return Unpacking(self.node, image)


class Unpacking:
    """Unpacks an image that is in the content store."""

    def __init__(self, node: VirtualContainerd, image: Image) -> None:
        self.node, self.image = node, image
        self.lease = node.new_lease()
        self._key = f"extract-1-abcd {image.chain_ids[0]}"
        node.store.snapshotter.prepare(self._key, "", node.now)
        self.lease.resources[node.store.snapshotter.resource_type, self._key] = None

    def commit(self) -> None:
        """Commit the snapshots. The lease holds the snapshots until the lease is deleted."""
        self.node.store.content[self.image.config.digest].updated_at = self.node.now
        snapshotter = self.node.store.snapshotter
        snapshotter.commit(self._key, self.image.chain_ids[0], self.node.now)
        for below, chain in zip(self.image.chain_ids, self.image.chain_ids[1:], strict=False):
            snapshotter.prepare("next", below, self.node.now)
            snapshotter.commit("next", chain, self.node.now)
        self.lease.resources = {(snapshotter.resource_type, chain): None for chain in self.image.chain_ids}


def write_layers(importing: ArchiveImport, image: Image, poll: Iterable[object]) -> None:
    """Write all of an image's layers, calling ``next(poll)`` twice per layer."""
    steps = iter(poll)
    for layer in image.layers:
        ref = importing.begin(layer.blob)
        importing.grow(ref, layer.blob.size // 2)
        next(steps)
        importing.grow(ref, layer.blob.size)
        importing.commit(layer.blob)
        next(steps)
