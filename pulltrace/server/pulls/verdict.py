"""Identify the factor that limits a pull, and explain it in a sentence with the relevant figures. Sans-I/O.

``limiting`` determines what limits a pull at a given time, and a ``Verdict`` combines these results over time. For a
live pull, the verdict identifies the factor that has limited it for the last few seconds. For a finished pull, the
verdict identifies the factor that limited it for the largest part of its duration. If the measurements do not identify
a single factor, the result is ``unknown``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from pulltrace.server.models import Bound, Factor

HOLDS = 5.0
"""How long, in seconds, a factor must limit a pull before the factor is published. A published factor is withdrawn this
many seconds after it has stopped limiting the pull.
"""
SHORT = 5.0
"""The verdict on a finished pull that took less than this, in seconds, is ``unknown``."""
SHARE = 0.4
"""The verdict on a finished pull identifies a factor only if it limited the pull for at least this fraction of the
duration.
"""
EVERY = 1.5
"""Minimum interval, in seconds, between judgements of a pull."""
LONGEST_STEP = 10.0
"""The maximum time, in seconds, that a single measurement is taken to cover. If the gap between two reports is longer,
the rest of the time counts as unknown.
"""


class Moment(msgspec.Struct, frozen=True):
    """The factor that currently limits a pull.

    ``sentence`` is a format string. Its positional fields are filled from ``names``, and its named fields from
    ``figures``.
    """

    by: Factor
    sentence: str = ""
    names: tuple[str, ...] = ()
    figures: Mapping[str, float] = {}


NOTHING = Moment(Factor.UNKNOWN)
NO_DATA = Moment(Factor.UNKNOWN)
"""No data arrives, and no measured factor explains why."""


@dataclass(slots=True)
class _Held:
    """How long a factor has been limiting the pull, and the time-weighted means of its figures."""

    seconds: float = 0.0
    score: float = 0.0
    moment: Moment = NOTHING
    sums: dict[str, tuple[float, float]] = field(default_factory=dict)

    def add(self, moment: Moment, seconds: float) -> None:
        self.seconds += seconds
        self.score = min(self.score + seconds, 2 * HOLDS)
        self.moment = moment
        for name, value in moment.figures.items():
            total, weight = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = total + value * seconds, weight + seconds

    def means(self) -> dict[str, float]:
        return {name: total / weight for name, (total, weight) in self.sums.items()}


_NEVER_HELD = _Held()


class Verdict:
    """The factors that have limited one pull so far."""

    __slots__ = (
        "_at",
        "_held",
        "_moment",
        "_without_data",
        "best_rate",
        "connections",
        "progress",
        "progress_at",
        "published",
        "waits",
    )

    def __init__(self) -> None:
        self.progress: tuple[object, ...] | None = None
        """The pull's byte counts, layers and phase. A pull counts as making progress whenever one of them changes."""
        self.progress_at = 0.0
        """When the pull last made progress."""
        self.published: Bound | None = None
        """The verdict reached when the pull was last judged."""
        self.waits: list[float] = []
        """The durations, in seconds, of the waits that lasted about as long as containerd's connection timeout."""
        self.best_rate = 0.0
        """The best rate that the pull has reached so far with several connections, in bytes per second."""
        self.connections = 0
        """The highest number of connections that the pull has used so far."""
        self._without_data = 0.0  # how long no data arrived for an unknown reason, in seconds
        self._at: float | None = None
        self._moment = NOTHING
        self._held: dict[Factor, _Held] = {}

    def is_due(self, now: float) -> bool:
        """Return whether it is time to judge the pull again. Judging the pull at every other report is sufficient."""
        return self._at is None or now - self._at >= EVERY

    def add(self, moment: Moment, now: float) -> None:
        """Count the time since the previous call towards the factor of ``moment``."""
        before, self._at, self._moment = self._at, now, moment
        seconds = 0.0 if before is None else min(max(now - before, 0.0), LONGEST_STEP)
        if not seconds:
            return
        for factor, held in self._held.items():
            if factor is not moment.by:
                held.score = max(held.score - seconds, 0.0)
        self._hold(moment, seconds)
        if moment is NO_DATA:
            self._without_data += seconds

    def credit(self, moment: Moment, seconds: float) -> None:
        """Attribute ``seconds`` that were counted as ``unknown`` to a factor that has only now been identified."""
        self._hold(moment, seconds)
        if unknown := self._held.get(Factor.UNKNOWN):
            unknown.seconds, unknown.score = max(unknown.seconds - seconds, 0.0), 0.0

    def _hold(self, moment: Moment, seconds: float) -> None:
        if moment.by not in self._held:
            self._held[moment.by] = _Held()
        self._held[moment.by].add(moment, seconds)

    @property
    def seconds(self) -> dict[Factor, float]:
        """Return how long each factor has limited the pull, in seconds."""
        return {factor: held.seconds for factor, held in self._held.items()}

    def live(self, elapsed: float, reason: Callable[[], str]) -> Bound | None:
        """Return the factor that currently limits the pull, or None if the pull has only just begun.

        ``reason`` explains why no factor is known.
        """
        factor, held = max(self._held.items(), key=_by_score, default=(Factor.UNKNOWN, _NEVER_HELD))
        if held.score < HOLDS or factor is Factor.UNKNOWN:
            return Bound(by=Factor.UNKNOWN, why=reason()) if elapsed >= 2 * HOLDS else None
        figures = self._moment.figures if self._moment.by is factor else held.means()
        return Bound(by=factor, why=_sentence(held.moment, figures), figures=_rounded(figures))

    def ended(self, took: float, queued: float, ahead: Sequence[str]) -> Bound:
        """Return the factor that limited the pull for the largest part of its duration. The duration includes the
        ``queued`` seconds before the start of the pull.
        """
        total = took + queued
        if total < SHORT:
            return Bound(by=Factor.UNKNOWN, why=f"Took less than {SHORT:g} s, which is too short for a verdict.")
        seconds = self.seconds
        seconds.pop(Factor.UNKNOWN, None)
        seconds[Factor.QUEUE] = seconds.get(Factor.QUEUE, 0.0) + queued
        factor = max(seconds, key=seconds.__getitem__)
        if seconds[factor] < max(SHARE * total, SHORT / 2):
            if self._without_data >= SHARE * total:
                share = f"{int(100 * self._without_data / total)} % of {_time(total)}"
                return Bound(by=Factor.UNKNOWN, why=f"No data arrived for {share}; the cause is not known.")
            return Bound(by=Factor.UNKNOWN, why="No measured factor explains most of the time.")
        percent = min(100 * seconds[factor] / total, 100.0)
        if held := self._held.get(factor):
            figures: Mapping[str, float] = held.means()
            why = _sentence(held.moment, figures)
        else:
            figures, why = {}, f"Queued behind {_others(ahead)} on this node."
        why = f"{why} This held for {percent:.0f} % of {_time(total)}."
        return Bound(by=factor, why=why, figures=_rounded(figures) | {"percentOfTime": round(percent, 1)})


def _by_score(item: tuple[Factor, _Held]) -> float:
    return item[1].score


def queued(ahead: Sequence[str], deleted: int = 0) -> Bound:
    """Return the verdict on a queued image. ``ahead`` lists the images that are being pulled, and ``deleted`` is the
    number of pulls ahead in the queue that belong only to deleted pods.
    """
    if not ahead and not deleted:
        return Bound(by=Factor.UNKNOWN, why="The kubelet has announced the pull; containerd has not started it.")
    others = [_others(ahead)] if ahead else []
    figures = {"pullsAhead": float(len(ahead))}
    if deleted:
        others.append("a pull of a deleted pod" if deleted == 1 else f"{deleted} pulls of deleted pods")
        figures["deletedPodsAhead"] = float(deleted)
    return Bound(by=Factor.QUEUE, why=f"Queued behind {', and '.join(others)} on this node.", figures=figures)


def rate_limited(registry: str | None, owner: str = "", pulls: int = 0, total: int = 0) -> Bound:
    """Return the verdict on a pull that the registry refused with status 429."""
    why = f"{registry or 'The registry'} limits how many pulls it serves (429 Too Many Requests)."
    if not total:
        return Bound(by=Factor.RATE_LIMIT, why=why)
    why += f" In the last hour, this cluster pulled from it {total} times, most often for {owner} ({pulls})."
    return Bound(by=Factor.RATE_LIMIT, why=why, figures={"pullsLastHour": float(total), "pullsOfOwner": float(pulls)})


def _sentence(moment: Moment, figures: Mapping[str, float]) -> str:
    return moment.sentence.format(*moment.names, **{name: _word(name, value) for name, value in figures.items()})


def _word(name: str, value: float) -> str:
    """Format a figure for use in a sentence. The suffix of ``name`` determines the unit."""
    if name.endswith("Percent"):
        return f"{value:.0f} %"
    if name.endswith(("Bytes", "BytesPerSec", "PerConnection")) or name == "bytesPerSec":
        return _size(value) + ("" if name.endswith("Bytes") else "/s")
    return f"{value:.0f}"


def _others(images: Sequence[str]) -> str:
    if len(images) < 2:
        return images[0] if images else "another pull"
    return f"{images[0]} and {len(images) - 1} more"


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in figures.items()}


def _size(value: float) -> str:
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{_number(value)} {unit}"
        value /= 1000
    return f"{_number(value)} GB"


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
