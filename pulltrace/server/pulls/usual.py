"""Estimate how long a similar pull usually takes: the median and the 90th percentile of earlier pulls. Sans-I/O.

The most similar pulls are used. Pulls of this image on this node come first. Pulls of this image on other nodes follow,
then pulls of its repository, then pulls of similar size from this registry. Durations from other nodes or of other
sizes are scaled by the usual ratio between the two nodes or sizes. A pull that had nothing to fetch is not recorded.

Memory is bounded: the last pulls of each image, each repository, and each pair of registry and node are kept. The least
recently used key is dropped first.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

MAX_IMAGES = 2000
MAX_REPOSITORIES = 1000
MAX_PACES = 5000
KEPT = 16
"""The number of pulls that are kept for each image, each repository, and each pair of registry and node."""

OVERHEAD = 1.5
RATE = 40e6
"""A typical pull takes ``OVERHEAD`` seconds plus its size divided by ``RATE``; only ratios of such times matter."""
SAME_SIZE = 1.15
"""Pulls are similar if their sizes differ by less than this factor."""
SIMILAR_SIZE = 4.0
LEAST = 2
"""The minimum number of pulls for an estimate that is based on similar sizes instead of the same image or repository.
"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The usual duration in seconds, derived from ``count`` earlier pulls."""

    median: float
    p90: float
    count: int
    basis: str
    """What the earlier pulls have in common with this pull: ``image``, ``repository`` or ``size``."""


@dataclass(frozen=True, slots=True)
class _Sample:
    node: str
    registry: str
    size: int
    """The number of bytes that had to be fetched."""
    seconds: float


class _Samples(deque[_Sample]):
    """The latest pulls that have the same key."""

    slowness: float | None = None
    """The median duration of these pulls, relative to typical pulls; None until it has been calculated."""


class _Recent:
    """The last pulls by key; the least recently used key is dropped first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._samples: OrderedDict[Hashable, _Samples] = OrderedDict()

    def add(self, key: Hashable, sample: _Sample) -> None:
        samples = self._samples.setdefault(key, _Samples(maxlen=KEPT))
        samples.append(sample)
        samples.slowness = None
        self._samples.move_to_end(key)
        if len(self._samples) > self._limit:
            self._samples.popitem(last=False)

    def get(self, key: Hashable) -> _Samples:
        return self._samples.get(key) or _Samples()


class Usual:
    """The earlier pulls. ``record`` adds a pull; ``estimate`` derives the usual duration of a pull from the earlier
    ones.
    """

    def __init__(self) -> None:
        self._images = _Recent(MAX_IMAGES)
        self._repositories = _Recent(MAX_REPOSITORIES)
        self._paces = _Recent(MAX_PACES)

    def record(self, *, image: str, repository: str, registry: str, node: str, size: int, seconds: float) -> None:
        """Add a completed pull that had to fetch ``size`` bytes."""
        sample = _Sample(node, registry, size, max(seconds, 0.1))
        self._images.add(image, sample)
        self._repositories.add((registry, repository), sample)
        for pace in ((registry, node), registry, (None, node)):
            self._paces.add(pace, sample)

    def estimate(self, *, image: str, repository: str, registry: str, node: str, size: int | None) -> Estimate | None:
        """Return the usual duration. ``size`` is None if the number of bytes to fetch is not known yet."""
        same = self._images.get(image)
        here = [item for item in same if item.node == node]
        if size is None:
            return _estimate([item.seconds for item in here] or self._moved(same, node), "image")
        alike = [item.seconds for item in here if _ratio(item.size, size) <= SAME_SIZE]
        return (
            _estimate(alike, "image")
            or _estimate(self._moved([item for item in same if _ratio(item.size, size) <= SAME_SIZE], node), "image")
            or _estimate(self._scaled(self._repositories.get((registry, repository)), node, size), "repository")
            or self._by_size(registry, node, size)
        )

    def _by_size(self, registry: str, node: str, size: int) -> Estimate | None:
        for pace in ((registry, node), registry):
            similar = [item for item in self._paces.get(pace) if _ratio(item.size, size) <= SIMILAR_SIZE]
            if len(similar) >= LEAST:
                return _estimate(self._scaled(similar, node, size), "size")
        return None

    def _moved(self, samples: Iterable[_Sample], node: str) -> list[float]:
        """Return the durations of these pulls, scaled from their nodes to this node."""
        return [item.seconds * self._compare(item, node) for item in samples]

    def _scaled(self, samples: Iterable[_Sample], node: str, size: int) -> list[float]:
        """Return the durations of these pulls, scaled from their nodes and sizes to this node and size."""
        return [item.seconds * self._compare(item, node) * _generic(size) / _generic(item.size) for item in samples]

    def _compare(self, sample: _Sample, node: str) -> float:
        """Return the factor by which pulls take longer on this node than on the sample's node."""
        if sample.node == node:
            return 1.0
        # Nodes are compared by their pulls from this registry, so that a slow registry does not make a node look slow.
        # If one of the nodes has not used this registry yet, all their pulls are compared.
        for registry in (sample.registry, None):
            there, here = self._slowness(registry, sample.node), self._slowness(registry, node)
            if here and there:
                return here / there
        return 1.0

    def _slowness(self, registry: str | None, node: str) -> float | None:
        samples = self._paces.get((registry, node))
        if samples and samples.slowness is None:
            samples.slowness = median(item.seconds / _generic(item.size) for item in samples)
        return samples.slowness


def _estimate(seconds: Sequence[float], basis: str) -> Estimate | None:
    if not seconds:
        return None
    ordered = sorted(seconds)
    p90 = ordered[min(int(0.9 * len(ordered)), len(ordered) - 1)]
    return Estimate(round(median(ordered), 1), round(p90, 1), len(ordered), basis)


def _generic(size: int) -> float:
    return OVERHEAD + size / RATE


def _ratio(one: int, other: int) -> float:
    return max(one, other, 1) / max(min(one, other), 1)
