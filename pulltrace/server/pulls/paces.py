"""The recent download rates of each node from each registry. The server compares slow downloads with these rates.
Sans-I/O.

Rates per connection and total rates are kept for half an hour. Only the best rates matter, because they show the
capacity of the node and the registry. For each node, the rates of at most eight registries are kept. For each registry,
the rates of all nodes are kept.
"""

from dataclasses import dataclass
from itertools import islice
from statistics import median

from pulltrace.server.pulls.rates import Unpacking

MEMORY = 1800.0
"""How long, in seconds, a measured rate is kept."""
MAX_REGISTRIES = 8
SLOW = 2.0
"""A node counts as slow if other nodes fetch at least this many times as fast from the same registry."""
_PEERS = 32
_PEERS_EVERY = 10.0


@dataclass(slots=True)
class Pace:
    """The best rates at which one node has fetched from one registry, in bytes per second."""

    per_connection: float
    total: float
    is_sustained: bool
    """True if at least one download has lasted long enough to measure the node's speed."""
    at: float
    """When the node last came close to its best rate."""


@dataclass(frozen=True, slots=True)
class Peers:
    """How many nodes fetch from a registry, and their median rate per connection."""

    nodes: int
    per_connection: float


class Paces:
    """The download rates of all nodes. ``record`` adds a rate, and the other methods compare rates."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, Pace]] = {}
        self._registries: dict[str, dict[str, Pace]] = {}
        self._peers: dict[str, tuple[float, Peers]] = {}
        self.unpacking: dict[str, Unpacking] = {}
        """Each node's unpacking speed."""

    def record(
        self, node: str, registry: str, per_connection: float, total: float, now: float, *, is_sustained: bool = True
    ) -> None:
        """Record the current rates at which a node fetches from a registry. ``is_sustained`` is false at the beginning
        of a download, while the rate is still rising.
        """
        known = self._nodes.setdefault(node, {})
        pace = known.get(registry)
        if pace is None:
            if len(known) >= MAX_REGISTRIES:
                oldest = min(known, key=lambda name: known[name].at)
                del known[oldest], self._registries[oldest][node]
            pace = known[registry] = Pace(per_connection, total, is_sustained, now)
            self._registries.setdefault(registry, {})[node] = pace
            return
        if now - pace.at > MEMORY:
            pace.per_connection = pace.total = 0.0
        if per_connection >= 0.8 * pace.per_connection or total >= 0.8 * pace.total:
            pace.at = now
        pace.per_connection = max(pace.per_connection, per_connection)
        pace.total = max(pace.total, total)
        pace.is_sustained |= is_sustained

    def forget(self, node: str) -> None:
        """Drop a node that the server no longer knows."""
        self.unpacking.pop(node, None)
        for registry in self._nodes.pop(node, ()):
            del self._registries[registry][node]

    def of(self, node: str, registry: str, now: float) -> Pace | None:
        """Return the best rates at which a node has fetched from a registry, or None if there is no recent rate."""
        pace = self._nodes.get(node, {}).get(registry)
        return pace if pace and now - pace.at <= MEMORY else None

    def best(self, node: str) -> float:
        """Return the highest total download rate that a node has reached with any single registry, or zero if no rate
        is known.
        """
        return max((pace.total for pace in self._nodes.get(node, {}).values()), default=0.0)

    def slow_node(self, node: str) -> float | None:
        """Return how many seconds a slow node needs to download and unpack a byte. A node is slow if other nodes fetch
        at least twice as fast from the same registry. Return None if the node is not known to be slow.
        """
        rates = self._nodes.get(node, {})
        if not any(
            pace.is_sustained and other.total >= SLOW * pace.total
            for registry, pace in rates.items()
            for other in islice(self._registries[registry].values(), _PEERS)
        ):
            return None
        unpacking = self.unpacking.get(node)
        return 1 / self.best(node) + (1 / unpacking.rate if unpacking and unpacking.rate else 0.0)

    def best_other(self, node: str, registry: str, now: float) -> tuple[str, Pace] | None:
        """Return the registry with the node's highest rate per connection, excluding ``registry`` itself. Return
        None if there is no recent rate.
        """
        best: tuple[str, Pace] | None = None
        for name, pace in self._nodes.get(node, {}).items():
            is_valid = name != registry and now - pace.at <= MEMORY
            if is_valid and (best is None or pace.per_connection > best[1].per_connection):
                best = name, pace
        return best

    def peers(self, registry: str, now: float) -> Peers:
        """Return statistics on how fast nodes fetch from a registry. The result is cached for ten seconds."""
        cached = self._peers.get(registry)
        if cached and now - cached[0] < _PEERS_EVERY:
            return cached[1]
        paces = islice(self._registries.get(registry, {}).values(), _PEERS)
        rates = [pace.per_connection for pace in paces if now - pace.at <= MEMORY]
        peers = Peers(len(rates), median(rates) if rates else 0.0)
        self._peers[registry] = now, peers
        return peers
