"""The state and the resources that all pulls of one simulated node share. Sans-I/O.

The version of containerd determines how many blobs are downloaded at the same time. Up to containerd 2.0, each pull
downloads three blobs at a time, and its other blobs have no ingest yet. From containerd 2.1 on, the whole node
downloads three blobs at a time, manifests included. The other blobs wait, and have an ingest at offset 0.
"""

import math
from dataclasses import KW_ONLY, dataclass, field
from random import Random

from pulltrace.demo.registries import Registries
from pulltrace.demo.store import Lease, Store

CONTAINERD_1 = "1.7.27"
CONTAINERD_2 = "v2.2.1"
COLLECT_AFTER = 0.2
"""Seconds from the deletion of a lease until its content is garbage-collected."""

SLOTS = 3
"""The number of blobs downloaded at the same time: containerd's default for ``max_concurrent_downloads``."""


class Slots:
    """A counting semaphore: at most ``free`` holders at a time."""

    def __init__(self, free: float) -> None:
        self.free = free

    def take(self) -> bool:
        """Take a slot. Return False if no slot is free."""
        if self.free <= 0:
            return False
        self.free -= 1
        return True

    def give(self) -> None:
        """Return a slot."""
        self.free += 1


class Locks:
    """Names that only one holder may have at a time."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str) -> bool:
        """Take a name. Return False if the name is already taken."""
        if name in self._taken:
            return False
        self._taken.add(name)
        return True

    def give(self, name: str) -> None:
        """Release a name, so that somebody else can take it."""
        self._taken.discard(name)


@dataclass(eq=False)
class Machine:
    """One node: its registries, its store, its slots and locks, and its clock.

    ``bandwidth`` and ``disk`` (for unpacking) are in bytes per second. All pulls on the node share them. If ``speed``
    is 10, each second of ``VirtualContainerd.advance`` does ten seconds of work. This does not affect the clock,
    ``now``.
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
        """Refs of the ingests that are receiving bytes."""
        self.unpacking: set[str] = set()
        """Chain ids of the layers being unpacked."""
        self.blobs = Locks()
        """Allows only one pull at a time to fetch a given blob."""
        self.chains = Locks()
        """Allows only one pull at a time to unpack a given layer."""
        self.elapsed = 0.0
        """How many seconds of work are done in the current step."""
        self._collect_at = math.inf
        """The time of the next garbage collection of content without a lease."""
        self.use(self.version)

    def use(self, version: str) -> None:
        """Switch to the behaviour of this version of containerd."""
        self.version = version
        major, minor = version.removeprefix("v").split(".")[:2]
        self.slots_per_node = (int(major), int(minor)) >= (2, 1)
        # From containerd 1.7 on, a pull's lease also lists the snapshots of layers that were unpacked earlier.
        self.leases_snapshots = (int(major), int(minor)) >= (1, 7)
        self.slots = Slots(SLOTS if self.slots_per_node else math.inf)

    def release(self, lease: Lease) -> None:
        """Delete the lease of a pull that has ended. The lease's content is garbage-collected shortly afterwards."""
        self.store.leases.pop(lease.id, None)
        self._collect_at = min(self._collect_at, self.now + COLLECT_AFTER)
