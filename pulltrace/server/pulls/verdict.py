"""Name the factor that limits a pull, in one word and in a sentence with figures. Sans-I/O.

``limiting`` judges one moment of a pull; a ``Verdict`` accumulates these moments. The factor of a live pull is the one
that has held for the last few seconds; the factor of an ended pull is the one that held for most of its duration. If
the measurements do not identify one factor, the result is ``unknown``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from pulltrace.server.models import Bound, Factor

HOLDS = 5.0
"""How long a factor must limit a pull before it is published, in seconds. The factor is withdrawn when it has been
absent for as long.
"""
SHORT = 5.0
"""The duration, in seconds, of the shortest pull that gets a verdict."""
SHARE = 0.4
"""A factor of an ended pull is named only if it limited the pull for at least this share of the duration."""
EVERY = 1.5
"""Minimum seconds between two moments at which a pull is judged."""
LONGEST_STEP = 10.0
"""The maximum number of seconds that one moment represents: the rest of a longer gap between reports is unknown."""


class Moment(msgspec.Struct, frozen=True):
    """The factor that limits a pull now.

    ``sentence`` is a format string with one positional field for each of ``names``, and one named field for each of
    ``figures``.
    """

    by: Factor
    sentence: str = ""
    names: tuple[str, ...] = ()
    figures: Mapping[str, float] = {}


NOTHING = Moment(Factor.UNKNOWN)


@dataclass(slots=True)
class _Held:
    """How long a factor has held, and the time-weighted means of its figures."""

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


class Verdict:
    """The factors that have limited one pull so far."""

    __slots__ = ("_at", "_held", "_moment", "best_rate", "progress", "progress_at", "published", "waits")

    def __init__(self) -> None:
        self.progress: tuple[object, ...] | None = None
        """The pull's bytes, layers and phase; the pull makes progress whenever any of these changes."""
        self.progress_at = 0.0
        """When the pull last made progress."""
        self.published: Bound | None = None
        """The verdict that was reached when the pull was last judged."""
        self.waits: list[float] = []
        """The lengths, in seconds, of the waits that match containerd's timeout for a dead mirror."""
        self.best_rate = 0.0
        """The best rate so far with several connections, in bytes per second."""
        self._at: float | None = None
        self._moment = NOTHING
        self._held: dict[Factor, _Held] = {}

    def is_due(self, now: float) -> bool:
        """Return whether it is time to judge the pull again; judging every other report is enough."""
        return self._at is None or now - self._at >= EVERY

    def add(self, moment: Moment, now: float) -> None:
        """Attribute the time since the previous moment to the factor that holds at this moment."""
        before, self._at, self._moment = self._at, now, moment
        seconds = 0.0 if before is None else min(max(now - before, 0.0), LONGEST_STEP)
        if not seconds:
            return
        for factor, held in self._held.items():
            if factor is not moment.by:
                held.score = max(held.score - seconds, 0.0)
        self._hold(moment, seconds)

    def credit(self, moment: Moment, seconds: float) -> None:
        """Add time that was ``unknown`` to a factor that has only now been identified."""
        self._hold(moment, seconds)
        if unknown := self._held.get(Factor.UNKNOWN):
            unknown.seconds, unknown.score = max(unknown.seconds - seconds, 0.0), 0.0

    def _hold(self, moment: Moment, seconds: float) -> None:
        if moment.by not in self._held:
            self._held[moment.by] = _Held()
        self._held[moment.by].add(moment, seconds)

    @property
    def seconds(self) -> dict[Factor, float]:
        """The number of seconds for which each factor has limited the pull."""
        return {factor: held.seconds for factor, held in self._held.items()}

    def live(self, elapsed: float, reason: Callable[[], str]) -> Bound | None:
        """Return the factor that limits the pull now; None if the pull has only just begun.

        ``reason`` explains why no factor is known.
        """
        factor, held = max(self._held.items(), key=_by_score, default=(Factor.UNKNOWN, _Held()))
        if held.score < HOLDS or factor is Factor.UNKNOWN:
            return Bound(by=Factor.UNKNOWN, why=reason()) if elapsed >= 2 * HOLDS else None
        figures = self._moment.figures if self._moment.by is factor else held.means()
        return Bound(by=factor, why=_sentence(held.moment, figures), figures=_rounded(figures))

    def ended(self, took: float, queued: float, ahead: Sequence[str]) -> Bound:
        """Return the factor that limited the pull for most of its duration, including the ``queued`` seconds before it
        began.
        """
        total = took + queued
        if total < SHORT:
            return Bound(by=Factor.UNKNOWN, why=f"Took less than {SHORT:g} s, which is too short for a verdict.")
        seconds = self.seconds
        seconds.pop(Factor.UNKNOWN, None)
        seconds[Factor.QUEUE] = seconds.get(Factor.QUEUE, 0.0) + queued
        factor = max(seconds, key=seconds.__getitem__)
        if seconds[factor] < max(SHARE * total, SHORT / 2):
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


def queued(ahead: Sequence[str]) -> Bound:
    """Return the verdict on an image that is queued behind others."""
    if not ahead:
        return Bound(by=Factor.UNKNOWN, why="The kubelet has announced the pull; containerd has not started it.")
    why, figures = f"Queued behind {_others(ahead)} on this node.", {"pullsAhead": float(len(ahead))}
    return Bound(by=Factor.QUEUE, why=why, figures=figures)


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
    """Format a figure for use in a sentence; the suffix of ``name`` determines the unit."""
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
