"""PURE: one node's containerd in virtual time. ``pull`` starts a pull, ``advance`` lets time pass.

How many blobs arrive at once is the flavour of containerd: up to 2.0 at most three per pull, and the others have no
ingest yet; from 2.1 on three on the whole node, manifests included, while the others wait in an ingest at offset 0.
"""

import math
from random import Random

from pulltrace.demo.pull import SLOTS, Locks, Pull, Slots
from pulltrace.demo.registries import Registries
from pulltrace.demo.store import Lease, Store

CONTAINERD_1 = "1.7.27"
CONTAINERD_2 = "v2.2.1"
COLLECT_AFTER = 0.2
"""Seconds from a lease's end until its content is collected."""

LEASE_LIFE = "containerd.io/gc.expire"


class VirtualContainerd:
    """A node. ``bandwidth`` and ``disk`` (unpacking) are bytes per second for all its pulls together.

    With ``speed`` 10, ten seconds' work is done in each second of ``advance``; its clock, ``now``, stays right.
    """

    def __init__(
        self,
        registries: Registries,
        *,
        now: float,
        version: str = CONTAINERD_1,
        store: Store | None = None,
        bandwidth: float = 120e6,
        disk: float = 200e6,
        speed: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.registries = registries
        self.now = now
        self.since = now
        """When this containerd began."""
        self.store = store or Store()
        self.bandwidth = bandwidth
        self.disk = disk
        self.speed = speed
        self.random = Random(seed)  # noqa: S311  # names, not secrets
        self.pulls: list[Pull] = []
        self.transfers: set[str] = set()
        """Refs of the ingests that bytes are flowing into."""
        self.unpacking: set[str] = set()
        """Chain ids of the layers being unpacked."""
        self.blobs = Locks()
        """One at a time fetches a blob."""
        self.chains = Locks()
        """One pull at a time unpacks a layer."""
        self.elapsed = 0.0
        """Seconds of work in this step."""
        self.use(version)
        self._collect_at = math.inf

    def use(self, version: str) -> None:
        """Which containerd this is."""
        self.version = version
        major, minor = version.removeprefix("v").split(".")[:2]
        self.slots_per_node = (int(major), int(minor)) >= (2, 1)
        # A layer that is unpacked already appears in the pull's lease as its snapshot, from 1.7 on.
        self.leases_snapshots = (int(major), int(minor)) >= (1, 7)
        self.slots = Slots(SLOTS if self.slots_per_node else math.inf)

    def pull(self, reference: str) -> Pull:
        """What the CRI's ``PullImage`` begins: a lease, before anything is known of the image."""
        started = Pull(self, reference, self.new_lease())
        self.pulls.append(started)
        return started

    def new_lease(self, *, expires: bool = True) -> Lease:
        """A lease with nothing in it; those of sandboxes never expire."""
        name = f"{self.random.randrange(10**9)}-{self.random.randbytes(2).hex()}"
        labels = {LEASE_LIFE: "2030-01-01T00:00:00Z"} if expires else {}
        lease = self.store.leases[name] = Lease(name, self.now, labels)
        return lease

    def remove(self, *references: str) -> None:
        """What the CRI's ``RemoveImage`` does: every name of these images goes, and what only they held."""
        targets = {self.store.records[reference].image.target.digest for reference in references}
        self.store.records = {
            name: record for name, record in self.store.records.items() if record.image.target.digest not in targets
        }
        self.store.collect()

    def crash(self) -> None:
        """containerd is killed: its pulls are over, their leases and ingests stay."""
        for pull in self.pulls:
            pull.abandon("rpc error: code = Unavailable desc = error reading from server: EOF")
        self.pulls.clear()
        self.since = self.now

    def advance(self, seconds: float, *, step: float = 0.05) -> None:
        """Let time pass, in steps of at most ``step`` seconds of work: what follows begins a step later."""
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

    def release(self, lease: Lease) -> None:
        """A pull is over, however it ended."""
        self.store.leases.pop(lease.id, None)
        self._collect_at = min(self._collect_at, self.now + COLLECT_AFTER)
