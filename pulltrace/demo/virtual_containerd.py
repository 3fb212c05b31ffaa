"""A node's containerd, simulated in virtual time. ``pull`` starts a pull, and ``advance`` lets time pass. Sans-I/O."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pulltrace.demo.images import Image
from pulltrace.demo.machine import CONTAINERD_1, CONTAINERD_2, Machine
from pulltrace.demo.pull import Pull
from pulltrace.demo.store import Lease

__all__ = ["CONTAINERD_1", "CONTAINERD_2", "LEASE_LIFE", "VirtualContainerd"]

LEASE_LIFE = "containerd.io/gc.expire"
_LEASE_SECONDS = 24 * 3600


@dataclass(eq=False)
class VirtualContainerd(Machine):
    """A simulated node, whose pulls and clock are controlled by tests and the demo."""

    pulls: list[Pull] = field(default_factory=list, init=False)

    def pull(self, reference: str, snapshotter: str = "") -> Pull:
        """Start a pull as the CRI's ``PullImage`` does: create a lease before anything is known about the image.

        ``snapshotter`` selects a snapshotter other than the default one, as a pod's runtime class can.
        """
        chosen = self.store.snapshotters[snapshotter] if snapshotter else self.store.snapshotter
        started = Pull(self, reference, self.new_lease(), chosen)
        self.pulls.append(started)
        return started

    def tag(self, reference: str, other: str) -> None:
        """Give an image an additional name, as ``ctr images tag`` does."""
        self.store.record(other, self.store.records[reference].image, self.now, by_cri=False)

    def import_image(self, reference: str, image: Image) -> None:
        """Import an image from an archive in a single step. None of the image's content comes from a registry."""
        lease = self.new_lease()
        blobs = (*image.documents, *(layer.blob for layer in image.layers))
        for blob in blobs:
            if blob.digest not in self.store.content:
                self.store.commit(blob, self.now)
        self.store.record(reference, image, self.now, by_cri=False)
        for number, chain in enumerate(image.chain_ids):
            self.store.snapshotter.deliver(chain, image.chain_ids[number - 1] if number else "", self.now)
        self.release(lease)

    def new_lease(self, *, expires: bool = True) -> Lease:
        """Create an empty lease. With ``expires=False``, the lease never expires, like a sandbox's lease."""
        name = f"{self.random.randrange(10**9)}-{self.random.randbytes(2).hex()}"
        expires_at = datetime.fromtimestamp(int(self.now + _LEASE_SECONDS), UTC).isoformat()
        labels = {LEASE_LIFE: expires_at} if expires else {}
        lease = self.store.leases[name] = Lease(name, self.now, labels)
        return lease

    def remove(self, *references: str) -> None:
        """Remove images, all their names, and content that no other image uses, as the CRI's ``RemoveImage`` does."""
        targets = {self.store.records[reference].image.target.digest for reference in references}
        self.store.records = {
            name: record for name, record in self.store.records.items() if record.image.target.digest not in targets
        }
        self.store.collect()

    def crash(self) -> None:
        """Kill containerd. All running pulls end, but their leases and ingests remain."""
        for pull in self.pulls:
            pull.abandon("rpc error: code = Unavailable desc = error reading from server: EOF")
        self.pulls.clear()
        self.since = self.now

    def advance(self, seconds: float, *, step: float = 0.05) -> None:
        """Let ``seconds`` pass. Each step simulates at most ``step`` seconds of work."""
        steps = math.ceil(seconds * self.speed / step - 1e-9)
        self.elapsed = seconds * self.speed / max(1, steps)
        for _ in range(steps):
            self.now += seconds / steps
            for pull in self.pulls:
                pull.advance()
            self.pulls = [pull for pull in self.pulls if pull.state is None]
            if self.now >= self._collect_at:
                self._collect_at = math.inf
                self.store.collect()
