"""Compare times that different machines have reported. Sans-I/O.

An agent's report contains the node's current time. If that time differs from the server's time by more than the usual
delay of a report, ``Clock`` corrects all times in the node's reports. The constants ``WHOLE_SECONDS`` and
``REPORT_LATE`` are the tolerances for comparing an agent's times with the kubelet's.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeGuard

from pulltrace.wire import to_time

WHOLE_SECONDS = 2.0
"""Two times that differ by at most this many seconds may be equal, because kubelets report times in whole seconds."""

REPORT_LATE = 8.0
"""Maximum delay of a report, in seconds. If a pull is still reported as live after this delay, it really is running."""

SKEW_TOLERATED = 2.0
"""A node's clock is corrected only if it is wrong by more than this many seconds. Smaller differences are assumed to be
report delays.
"""
LATE_REPORTS = 8
"""How many consecutive reports must appear to be late before the server concludes that the node's clock has been set
back.
"""
OLDEST = 7 * 24 * 3600.0
"""Maximum age, in seconds, of a running pull. No running pull is older than this, because containerd's leases expire
after a day.

An earlier start time can only come from a wrong clock.
"""


@dataclass(slots=True)
class Clock:
    """One node's clock, compared with the server's clock. Server times are in Unix seconds."""

    skew: float | None = None
    """How many seconds the node's clock is ahead of the server's clock. None until the first report that contains the
    node's current time.
    """
    late_reports: int = 0
    """How many consecutive reports were late, assuming that ``skew`` is correct."""

    def set(self, measured: float) -> None:
        """Update ``skew`` from one report. ``measured`` is how many seconds the report's time is ahead of the server's.

        A single late report makes the node's clock appear to be slow. The clock is therefore considered slow only after
        ``LATE_REPORTS`` consecutive late reports.
        """
        behind = self.skew is not None and measured < self.skew - SKEW_TOLERATED
        self.late_reports = self.late_reports + 1 if behind else 0
        if behind and self.late_reports < LATE_REPORTS:
            return
        # Ignore small changes. Otherwise, the same time would be converted to a slightly different time in each report.
        if self.skew is None or abs(measured - self.skew) > SKEW_TOLERATED:
            self.skew = measured if abs(measured) > SKEW_TOLERATED else 0.0

    def to_server(self, time: datetime | None, now: float) -> float:
        """Convert a time from this node's clock to the server's clock. Return ``now`` if the time is missing or
        impossible.
        """
        if not is_set(time):
            return now
        seconds = time.timestamp() - (self.skew or 0.0)
        return min(seconds, now) if seconds > now - OLDEST else now

    def wire_time(self, time: datetime | None, now: float) -> datetime | None:
        """Like ``to_server``, but return the time in the wire format. If the node's clock is correct, the time is
        returned unchanged.
        """
        if time is None or not is_set(time):
            return None
        if not self.skew and time.tzinfo is UTC:
            return time
        return to_time(self.to_server(time, now))


def is_set(time: datetime | None) -> TypeGuard[datetime]:
    """Return whether a time is set. Go writes the year 1 for unset times."""
    return time is not None and time.year >= 1970
