"""Each registry's download rate, and the number of finished attempts, in each step of the last ten minutes.
Sans-I/O.
"""

from collections import Counter

STEP = 5.0
"""The length of one step, in seconds."""
STEPS = 120
MOST_REGISTRIES = 50
"""Maximum number of registries to list. Bytes from all other registries count as ``other``."""


class Throughput:
    """Counts downloaded bytes and finished attempts. Keeps a ring buffer of ``STEPS`` sums for each recently used
    registry and for each possible result of an attempt.
    """

    def __init__(self, now: float) -> None:
        self._first = int(now // STEP)
        self._newest = self._first
        self._sums: dict[str, list[int]] = {}
        self._ended: dict[str, list[int]] = {}

    def add(self, registry: str, count: int, now: float) -> None:
        """Add bytes that arrived from a registry."""
        self._advance(now)
        if registry not in self._sums and len(self._sums) >= MOST_REGISTRIES:
            registry = "other"
        self._count(self._sums, registry, count)

    def end(self, result: str, now: float) -> None:
        """Count a finished attempt under its result."""
        self._advance(now)
        self._count(self._ended, result, 1)

    def _count(self, rings: dict[str, list[int]], name: str, count: int) -> None:
        if name not in rings:
            rings[name] = [0] * STEPS
        rings[name][self._newest % STEPS] += count

    def series(self, now: float) -> tuple[float, dict[str, list[float]]]:
        """Return the time of the first step, and each registry's bytes per second in each step, oldest step first.

        The current step is omitted because it is incomplete.
        """
        self._advance(now)
        first = max(self._first, self._newest - STEPS + 1)
        steps = range(first, self._newest)
        rates = {name: [round(sums[step % STEPS] / STEP, 1) for step in steps] for name, sums in self._sums.items()}
        return first * STEP, dict(sorted(rates.items()))

    def totals(self, now: float) -> tuple[Counter[str], Counter[str]]:
        """Return the number of bytes per registry, and the number of finished attempts per result, since the first step
        of the series. The current step is included.
        """
        self._advance(now)
        downloaded, ended = (
            Counter({name: sum(counts) for name, counts in rings.items()}) for rings in (self._sums, self._ended)
        )
        return downloaded, ended

    def _advance(self, now: float) -> None:
        """Begin the step that contains the current time, and drop the steps that no longer fit into the ring buffer."""
        step = int(now // STEP)
        if step <= self._newest:
            return
        for old in range(max(self._newest, step - STEPS) + 1, step + 1):
            for sums in (*self._sums.values(), *self._ended.values()):
                sums[old % STEPS] = 0
        self._newest = step
        self._sums = {name: sums for name, sums in self._sums.items() if any(sums)}
