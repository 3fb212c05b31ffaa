"""Estimate how long a pull usually takes: the median and the 90th percentile of similar earlier pulls. Sans-I/O.

The most similar pulls are used, in this order of preference:

- pulls of this image on this node,
- pulls of this image on other nodes,
- pulls of its repository on this node, if there are enough of similar size,
- pulls of its repository on all nodes,
- pulls of similar size from this registry,
- other pulls from this registry,
- pulls from other registries on this node.

If the known pulls of the repository are too few to tell whether a pull is slow, pulls of similar size are preferred.
Pulls without bytes to fetch are not recorded.

A pull's duration is modelled as a fixed cost plus a cost per byte. Both costs are fitted to each node's most recent
pulls from a registry. These costs are used to adjust the durations of pulls that had a different size or ran on a
different node. If a slow node has not completed a pull of similar size, the cost per byte is derived from the node's
download and unpacking rates.

Memory is limited: only the most recent pulls of each image, each repository, and each pair of registry and node are
kept. If there are too many keys, the least recently used key is dropped.
"""

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter
from statistics import median
from typing import NamedTuple

from pulltrace.server.models import UsualBasis
from pulltrace.server.pulls.paces import Paces

MAX_IMAGES = 2000
MAX_REPOSITORIES = 1000
MAX_PACES = 5000
KEPT = 16
"""Maximum number of pulls to keep for each image, each repository, and each pair of registry and node."""

OVERHEAD = 1.5
"""The assumed fixed cost of a pull, in seconds, until the actual cost can be derived from pulls of different sizes."""
DIFFERENT_SIZE = 2.0
"""The sizes of two pulls must differ by at least this factor for the cost per byte to be derived from them."""
SAME_SIZE = 1.15
"""Two pulls count as equally large if their sizes differ by at most this factor."""
SIMILAR_SIZE = 4.0
LEAST = 2
"""Minimum number of pulls for an estimate that is not based on the same image or repository."""
ENOUGH = 3
"""A pull can be called slower than usual only if at least this many pulls of similar size are known."""
MANY = 10
"""Minimum number of pulls for a 90th percentile. With fewer pulls, it would be the longest of them, which may have
stalled.
"""
ROUGH = frozenset({UsualBasis.REGISTRY, UsualBasis.NODE, UsualBasis.OTHER_NODES})
"""An estimate with one of these bases may differ greatly from the actual duration."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The usual duration in seconds, based on ``count`` earlier pulls."""

    median: float
    p90: float | None
    """The 90th percentile, or None if there are fewer than ``MANY`` pulls."""
    count: int
    basis: UsualBasis
    is_firm: bool
    """True if enough of these pulls are similar for a pull to be called slower than usual."""


@dataclass(frozen=True, slots=True)
class _Sample:
    node: str
    registry: str
    size: int
    """The number of bytes that had to be fetched."""
    seconds: float


@dataclass(frozen=True, slots=True)
class _Cost:
    """The estimated cost of a pull: ``fixed`` seconds, plus ``per_byte`` seconds per byte."""

    fixed: float
    per_byte: float
    largest: int
    """The size of the largest pull from which the cost was derived."""
    count: int
    """How many pulls the cost was derived from."""

    def of(self, size: int) -> float:
        return self.fixed + size * self.per_byte + 0.01  # never zero

    def reaches(self, size: int) -> bool:
        """Return whether any of the pulls was large enough to estimate the cost of a pull of ``size`` bytes."""
        return self.largest * SIMILAR_SIZE >= size

    @classmethod
    def fit(cls, samples: Sequence[_Sample]) -> "_Cost":
        """Derive the cost from earlier pulls. The pulls are sorted by size, and each pull in the smaller half is
        compared with one in the larger half. The cost per byte is the median of the results, weighted by the difference
        in size. A few small pulls or a single stalled pull therefore have little influence on the result.
        """
        by_size = sorted(samples, key=attrgetter("size"))
        pairs: list[tuple[float, float]] = [
            ((large.seconds - small.seconds) / (large.size - small.size), large.size - small.size)
            for small, large in zip(by_size, by_size[len(by_size) // 2 :], strict=False)
            if large.size >= DIFFERENT_SIZE * small.size
        ]
        if not pairs:
            pairs = [(max(item.seconds - OVERHEAD, item.seconds / 2) / item.size, item.size) for item in samples]
        per_byte = max(_weighted_median(pairs), 0.0)
        fixed = max(median(item.seconds - item.size * per_byte for item in samples), 0.0)
        return cls(fixed, per_byte, by_size[-1].size, len(by_size))


class _Scaled(NamedTuple):
    """A pull's duration, scaled to a different node and size."""

    seconds: float
    is_compared: bool
    """True if the speeds of the two nodes could be compared, or if the pull ran on this node."""
    is_firm: bool
    """True if enough pulls of similar size are known to determine the node's speed."""


class _Samples(deque[_Sample]):
    """The latest pulls that share a key."""

    cost: _Cost | None = None
    """The cost of these pulls, or None until the cost has been calculated."""


_NO_SAMPLES = _Samples(maxlen=0)


class _Recent:
    """The most recent pulls for each key. The least recently used key is dropped first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._samples: OrderedDict[Hashable, _Samples] = OrderedDict()

    def add(self, key: Hashable, sample: _Sample) -> None:
        samples = self._samples.setdefault(key, _Samples(maxlen=KEPT))
        samples.append(sample)
        samples.cost = None
        self._samples.move_to_end(key)
        if len(self._samples) > self._limit:
            self._samples.popitem(last=False)

    def get(self, key: Hashable) -> _Samples:
        return self._samples.get(key, _NO_SAMPLES)

    def cost(self, key: Hashable) -> _Cost | None:
        samples = self.get(key)
        if samples and samples.cost is None:
            samples.cost = _Cost.fit(samples)
        return samples.cost

    def costs(self, one: Hashable, other: Hashable) -> tuple[_Cost, _Cost] | None:
        """Return the costs for two keys, or None if they cannot be compared. Leave out each pull that is larger than
        every pull with the other key. Otherwise, a large image that only one node has pulled would make that node look
        slow, for example because one large layer is fetched over a single connection.
        """
        limit = SAME_SIZE * min(max((item.size for item in self.get(key)), default=0) for key in (one, other))
        found = [self._cost_below(key, limit) for key in (one, other)]
        return (found[0], found[1]) if found[0] and found[1] else None

    def _cost_below(self, key: Hashable, limit: float) -> _Cost | None:
        samples = self.get(key)
        below = [item for item in samples if item.size <= limit]
        if len(below) == len(samples):
            return self.cost(key)
        return _Cost.fit(below) if below else None


class Usual:
    """The earlier pulls. ``record`` adds a pull, and ``estimate`` derives a pull's usual duration."""

    def __init__(self, paces: Paces | None = None) -> None:
        self._rates = paces or Paces()
        self._images = _Recent(MAX_IMAGES)
        self._repositories = _Recent(MAX_REPOSITORIES)
        self._paces = _Recent(MAX_PACES)

    def record(self, *, image: str, repository: str, registry: str, node: str, size: int, seconds: float) -> None:
        """Add a completed pull that had to fetch ``size`` bytes."""
        sample = _Sample(node, registry, max(size, 1), max(seconds, 0.1))
        self._images.add(image, sample)
        self._repositories.add((registry, repository), sample)
        for pace in ((registry, node), registry, (None, node)):
            self._paces.add(pace, sample)

    def estimate(self, *, image: str, repository: str, registry: str, node: str, size: int | None) -> Estimate | None:
        """Return the usual duration. ``size`` is None if the number of bytes to fetch is not known yet."""
        same = self._images.get(image)
        alike = same if size is None else [item for item in same if _ratio(item.size, size) <= SAME_SIZE]
        here = [item for item in alike if item.node == node]
        if alike:
            return self._estimate(here or alike, node, None, UsualBasis.IMAGE)
        siblings = self._repositories.get((registry, repository))
        here = [item for item in siblings if item.node == node and _ratio(item.size, size or item.size) <= SIMILAR_SIZE]
        found = self._estimate(here if len(here) >= ENOUGH else siblings, node, size, UsualBasis.REPOSITORY)
        if size is None or (found and found.is_firm):
            return found
        by_size = self._by_size(registry, node, size)
        return by_size if by_size and by_size.is_firm else found or by_size

    def _by_size(self, registry: str, node: str, size: int) -> Estimate | None:
        for place in ((registry, node), registry):
            similar = [item for item in self._paces.get(place) if _ratio(item.size, size) <= SIMILAR_SIZE]
            if found := self._of_others(similar, node, size, UsualBasis.SIZE):
                return found
        is_slow = self._rates.slow_node(node) is not None
        for key, basis in (
            ((registry, node), UsualBasis.REGISTRY),
            (registry, UsualBasis.REGISTRY),
            ((None, node), UsualBasis.NODE),
        ):
            # The duration of a small pull consists mostly of fixed costs. The estimate for a large pull is therefore
            # never based on a small one.
            large = [item for item in self._paces.get(key) if is_slow or item.size * SIMILAR_SIZE >= size]
            nearest = sorted(large, key=lambda item: _ratio(item.size, size))
            if found := self._of_others(nearest[: max(len(nearest) // 2, LEAST)], node, size, basis):
                return found
        return None

    def _of_others(self, samples: Sequence[_Sample], node: str, size: int, basis: UsualBasis) -> Estimate | None:
        """Estimate the duration from pulls of other images. The speed of this node must be known."""
        found = self._estimate(samples, node, size, basis) if len(samples) >= LEAST else None
        return None if found and found.basis is UsualBasis.OTHER_NODES else found

    def _estimate(self, samples: Sequence[_Sample], node: str, size: int | None, basis: UsualBasis) -> Estimate | None:
        """Return the usual duration of these pulls, scaled to this node. If the size is known, the duration is also
        scaled to the size.
        """
        if not samples:
            return None
        scaled = [self._scale(item, node, size or item.size) for item in samples]
        compared = [item for item in scaled if item.is_compared]
        seconds = sorted(item.seconds for item in compared or scaled)
        usual = median(seconds)
        if basis not in ROUGH:
            usual = max(usual, self._shortest(samples, size))
        return Estimate(
            median=round(usual, 1),
            p90=round(seconds[int(0.9 * len(seconds))], 1) if len(seconds) >= MANY else None,
            count=len(seconds),
            basis=basis if compared else UsualBasis.OTHER_NODES,
            is_firm=basis not in ROUGH and sum(item.is_firm for item in compared) >= ENOUGH,
        )

    def _shortest(self, samples: Sequence[_Sample], size: int | None) -> float:
        """Return the shortest of these durations, or zero if too few of the pulls ran on nodes that are not slow. The
        adjustment to this node may be wrong, so a pull is not expected to be faster than all earlier pulls.
        """
        found = [self._resize(item, size or item.size) for item in samples if self._rates.slow_node(item.node) is None]
        return min(found) if len(found) >= ENOUGH else 0.0

    def _resize(self, sample: _Sample, size: int) -> float:
        """Return how long an earlier pull would have taken on its own node if it had fetched ``size`` bytes."""
        if sample.size == size:
            return sample.seconds
        there = self._cost_of(sample)
        return sample.seconds * there.of(size) / there.of(sample.size)

    def _cost_of(self, sample: _Sample) -> _Cost:
        """Return the cost of pulls from the sample's registry on the sample's node."""
        return self._paces.cost((sample.registry, sample.node)) or _Cost.fit([sample])

    def _scale(self, sample: _Sample, node: str, size: int) -> _Scaled:
        """Return how long an earlier pull would have taken on this node if it had fetched ``size`` bytes."""
        if sample.node == node and sample.size == size:
            return _Scaled(sample.seconds, is_compared=True, is_firm=True)
        is_similar = size <= SIMILAR_SIZE * sample.size and sample.size <= SIMILAR_SIZE * size
        seconds = self._resize(sample, size)
        if sample.node == node and is_similar:
            return _Scaled(seconds, is_compared=True, is_firm=True)
        # Nodes are compared by their pulls from this registry, so a slow registry does not make a node look slow. If
        # one of the nodes has not used this registry yet, the comparison covers the two nodes' pulls from all
        # registries.
        for registry in (sample.registry, None):
            here, other = self._paces.costs((registry, node), (registry, sample.node)) or (None, None)
            if here and other and here.reaches(size) and other.reaches(size):
                seconds = _moved(seconds, here.of(size), other.of(size))
                is_proven = registry is not None and here.count >= ENOUGH and other.count >= ENOUGH
                return _Scaled(seconds, is_compared=True, is_firm=is_similar and is_proven)
        if per_byte := self._rates.slow_node(node):
            least = OVERHEAD + size * per_byte
            there = self._cost_of(sample).of(size)
            seconds = max(_moved(seconds, least, there), least) if is_similar else least
            return _Scaled(seconds, is_compared=True, is_firm=False)
        return _Scaled(seconds, is_compared=sample.node == node, is_firm=False)


def _moved(seconds: float, here: float, there: float) -> float:
    """Return how long a pull would take on this node if it took ``seconds`` on a different node. ``here`` and ``there``
    are the usual durations, in seconds, of a pull of this size on this node and on the other node.

    If the pull took longer than ``there``, the excess is not scaled up, because the registry may have caused it.
    """
    return max(seconds + here - there, seconds * min(here / there, 1.0))


def _weighted_median(pairs: list[tuple[float, float]]) -> float:
    """Return the weighted median of (value, weight) pairs."""
    pairs.sort()
    half = sum(weight for _, weight in pairs) / 2
    below = list(accumulate(weight for _, weight in pairs))
    return pairs[bisect_left(below, half)][0]


def _ratio(one: int, other: int) -> float:
    return max(one, other, 1) / max(min(one, other), 1)
