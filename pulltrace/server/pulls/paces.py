"""The download rates that nodes recently reached, by registry: slow downloads are compared with them. Sans-I/O.

Rates are kept for half an hour, per connection and in total. Only the best rate matters, because it shows what the node
and the registry are capable of. For each node, the rates of eight registries are kept; for each registry, the rates of
all nodes.
"""

from dataclasses import dataclass
from itertools import islice
from statistics import median

MEMORY = 1800.0
"""Seconds for which a rate serves as evidence."""
MAX_REGISTRIES = 8
_PEERS = 32
_PEERS_EVERY = 10.0


@dataclass(slots=True)
class Pace:
    """The best rates at which one node has fetched from one registry, in bytes per second."""

    per_connection: float
    total: float
    at: float
    """When a rate close to the best one was last reached."""


@dataclass(frozen=True, slots=True)
class Peers:
    """The number of nodes that fetch from a registry, and the median of their rates per connection."""

    nodes: int
    per_connection: float


class Paces:
    """The rates of all nodes. ``record`` adds a rate; the other methods compare rates."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, Pace]] = {}
        self._registries: dict[str, dict[str, Pace]] = {}
        self._peers: dict[str, tuple[float, Peers]] = {}

    def record(self, node: str, registry: str, per_connection: float, total: float, now: float) -> None:
        """Add the current rates at which a node fetches from a registry."""
        known = self._nodes.setdefault(node, {})
        pace = known.get(registry)
        if pace is None:
            if len(known) >= MAX_REGISTRIES:
                oldest = min(known, key=lambda name: known[name].at)
                del known[oldest], self._registries[oldest][node]
            pace = known[registry] = Pace(per_connection, total, now)
            self._registries.setdefault(registry, {})[node] = pace
            return
        if now - pace.at > MEMORY:
            pace.per_connection = pace.total = 0.0
        if per_connection >= 0.8 * pace.per_connection or total >= 0.8 * pace.total:
            pace.at = now
        pace.per_connection = max(pace.per_connection, per_connection)
        pace.total = max(pace.total, total)

    def forget(self, node: str) -> None:
        """Drop a node that the server no longer knows."""
        for registry in self._nodes.pop(node, ()):
            del self._registries[registry][node]

    def of(self, node: str, registry: str, now: float) -> Pace | None:
        """Return the best rates at which this node fetched from this registry."""
        pace = self._nodes.get(node, {}).get(registry)
        return pace if pace and now - pace.at <= MEMORY else None

    def best_other(self, node: str, registry: str, now: float) -> tuple[str, Pace] | None:
        """Return the other registry from which this node fetches at the highest rate per connection."""
        best: tuple[str, Pace] | None = None
        for name, pace in self._nodes.get(node, {}).items():
            is_valid = name != registry and now - pace.at <= MEMORY
            if is_valid and (best is None or pace.per_connection > best[1].per_connection):
                best = name, pace
        return best

    def peers(self, registry: str, now: float) -> Peers:
        """Return how fast nodes fetch from this registry. The result is calculated at most once every ten seconds."""
        cached = self._peers.get(registry)
        if cached and now - cached[0] < _PEERS_EVERY:
            return cached[1]
        paces = islice(self._registries.get(registry, {}).values(), _PEERS)
        rates = [pace.per_connection for pace in paces if now - pace.at <= MEMORY]
        peers = Peers(len(rates), median(rates) if rates else 0.0)
        self._peers[registry] = now, peers
        return peers
