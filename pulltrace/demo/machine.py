"""The state and resources that are shared by all pulls on a simulated node. Sans-I/O.

The version of containerd determines how many blobs are downloaded at once. Up to containerd 2.0, each pull downloads
three blobs at a time, and its other blobs have no ingest yet. Since containerd 2.1, the limit of three blobs at a time,
including manifests, applies to the whole node. Each of the other blobs already has an ingest, but its offset remains 0
until the download begins.
"""

import math
from dataclasses import KW_ONLY, dataclass, field
from random import Random

from pulltrace.demo.registries import Registries
from pulltrace.demo.store import Lease, Store

CONTAINERD_1 = "1.7.27"
CONTAINERD_2 = "v2.2.1"
COLLECT_AFTER = 0.2
"""The time, in seconds, between the deletion of a lease and the garbage collection of its content."""

SLOTS = 3
"""The maximum number of concurrent blob downloads: containerd's default for ``max_concurrent_downloads``."""


class Slots:
    """A counting semaphore with ``free`` available slots."""

    def __init__(self, free: float) -> None:
        self.free = free

    def take(self) -> bool:
        """Take a slot. Return False if no slot is free."""
        if self.free <= 0:
            return False
        self.free -= 1
        return True

    def give(self) -> None:
        """Give a slot back."""
        self.free += 1


class Locks:
    """Named locks, each with at most one holder."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str) -> bool:
        """Acquire the lock with this name. Return False if the lock is already held."""
        if name in self._taken:
            return False
        self._taken.add(name)
        return True

    def give(self, name: str) -> None:
        """Release the lock with this name."""
        self._taken.discard(name)


@dataclass(eq=False)
class Machine:
    """A simulated node: its registries, store, slots, locks and clock.

    ``bandwidth`` and ``disk`` (the speed of unpacking) are in bytes per second, and are shared by all pulls on the
    node. If ``speed`` is 10, each second of ``VirtualContainerd.advance`` simulates ten seconds of work. ``speed`` does
    not affect the clock, ``now``.
    """

    registries: Registries
    _: KW_ONLY
    now: float
    version: str = CONTAINERD_1
    store: Store = field(default_factory=Store)
    bandwidth: float = 120e6
    disk: float = 200e6
    speed: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.since = self.now
        """When this containerd started."""
        self.random = Random(self.seed)  # noqa: S311  # names, not secrets
        self.transfers: set[str] = set()
        """The downloads in progress. The set contains ingest refs and the names of the snapshotter's downloads."""
        self.unpacking: set[str] = set()
        """The chain ids of the layers that are being unpacked."""
        self.blobs = Locks()
        """Locks keyed by digest, which ensure that only one pull at a time fetches a given blob."""
        self.chains = Locks()
        """Locks keyed by chain id, which ensure that only one pull at a time unpacks a given layer."""
        self.elapsed = 0.0
        """The number of seconds of work simulated by the current step."""
        self._collect_at = math.inf
        """The time of the next garbage collection, or infinity if none is due."""
        self.use(self.version)

    def use(self, version: str) -> None:
        """Start to behave like the given version of containerd."""
        self.version = version
        major, minor = version.removeprefix("v").split(".")[:2]
        self.slots_per_node = (int(major), int(minor)) >= (2, 1)
        # Since containerd 1.7, a pull's lease also lists the snapshots of layers that were already unpacked.
        self.leases_snapshots = (int(major), int(minor)) >= (1, 7)
        self.slots = Slots(SLOTS if self.slots_per_node else math.inf)

    def release(self, lease: Lease) -> None:
        """Delete a finished pull's lease. Content is garbage-collected soon afterwards if no image and no other lease
        uses it.
        """
        self.store.leases.pop(lease.id, None)
        self._collect_at = min(self._collect_at, self.now + COLLECT_AFTER)
