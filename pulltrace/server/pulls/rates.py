"""Download rates over a time window, and a node's unpacking speed. Sans-I/O."""

import math
from bisect import bisect_right
from dataclasses import dataclass

WINDOW = 10.0
"""The period over which a rate is measured, in seconds."""
LONGEST_WINDOW = 60.0
SHORTEST = 2.0
"""Minimum period, in seconds, over which a rate is averaged. Over a shorter period, the growth is not a reliable
measure of the speed.
"""


LONGEST_ESTIMATE = 7 * 24 * 3600.0
"""The longest estimate of a remaining time, in seconds, that is published."""


class Speed:
    """The speed at which a byte count grows.

    Only the samples in which the count grew are kept. containerd advances an ingest's offset 1 MiB at a time, so during
    a slow download the offset may not change for many seconds. For a slow download, the window covers the last two
    samples.
    """

    __slots__ = ("_rated", "_since", "_steps", "grew_at", "total")

    def __init__(self, total: int, now: float) -> None:
        self.total = total
        """The newest count."""
        self.grew_at = self._since = now
        """When the count last grew. If the count has not grown yet, this is the time of the first sample.

        The first sample is the baseline, because the download may have been resumed.
        """
        self._steps = [(now, total)]
        self._rated: tuple[float, float] | None = None
        """The time and value of the last calculated rate. The rate is cached because each tick needs it several times.
        """

    def copy(self) -> "Speed":
        """Return a copy of this object, including its history."""
        copy = Speed(self.total, self.grew_at)
        copy._since, copy._steps = self._since, self._steps.copy()
        return copy

    def saw(self, total: int, now: float, before: float = 0.0) -> int:
        """Add a sample, and return how much the count has grown. If the count has decreased, the download was restarted
        from the beginning.

        The caller may omit samples that show no growth. ``before`` is the time of the last omitted sample.
        """
        grown = total - self.total
        waited = len(self._steps) == 1  # no byte has arrived yet: the download was waiting for a slot
        if grown == 0:
            self._since = now if waited else self._since
            return 0
        if waited:
            self._since = max(self._since, before)
        self.total = total
        self._rated = None
        if grown < 0:
            self._steps.clear()
            self._since = now
        self._steps.append((now, total))
        self.grew_at = now
        while len(self._steps) > 2 and self._steps[1][0] <= now - LONGEST_WINDOW:
            del self._steps[0]
        return max(grown, 0)

    def rate(self, now: float) -> float:
        """Return the rate, in bytes per second, over the window that ends now. The result is 0 until there are two
        samples.
        """
        if len(self._steps) < 2:
            return 0.0
        if self._rated is None or self._rated[0] != now:
            self._rated = now, self._rate(now)
        return self._rated[1]

    def is_measured(self, now: float) -> bool:
        """Return whether the rate is reliable enough for an estimate. At the beginning of a download, the rate is too
        low, because only the first bytes have arrived.
        """
        return len(self._steps) > 1 and now - self._since >= SHORTEST

    def _rate(self, now: float) -> float:
        steps = self._steps
        window = min(max(WINDOW, 2 * (steps[-1][0] - steps[-2][0])), LONGEST_WINDOW)
        start = now - window
        base = steps[max(bisect_right(steps, (start, math.inf)) - 1, 0)]  # the last sample before the window
        return (self.total - base[1]) / max(now - max(start, self._since), SHORTEST)


@dataclass(slots=True)
class Unpacking:
    """A node's unpacking speed: compressed bytes per second over its recent layers. Older layers have less weight."""

    _bytes: float = 0.0
    _seconds: float = 0.0

    def saw(self, layer_bytes: int, seconds: float) -> None:
        """Record one more unpacked layer."""
        self._bytes = 0.9 * self._bytes + layer_bytes
        self._seconds = 0.9 * self._seconds + seconds

    @property
    def rate(self) -> float | None:
        """Return the speed in bytes per second, or None until the first layer has been unpacked."""
        return self._bytes / self._seconds if self._seconds > 0 else None


def seconds_left(to_download: int, rate: float, to_unpack: int, unpack_rate: float | None) -> float | None:
    """Return the number of seconds until the image is ready, assuming that the download continues at the current rate
    and that the image is then unpacked at the node's rate.

    Return None if a required rate is zero or unknown. Also return None if the result is implausibly long, for example
    because of a wrong report.
    """
    seconds = 0.0
    if to_download > 0:
        if rate <= 0:
            return None
        seconds += to_download / rate
    if to_unpack > 0:
        if not unpack_rate:
            return None
        seconds += to_unpack / unpack_rate
    return round(seconds, 1) if seconds <= LONGEST_ESTIMATE else None
