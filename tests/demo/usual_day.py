"""Compare ``usualSeconds`` with the actual durations of pulls, over one day of virtual time in the demo.

The demo's nodes, the agent's tracker and the server's hub run without sockets or waiting. For each pull, only the first
estimate made after the pull's size became known is counted.

Usage:

python -m tests.demo.usual_day --hours 24 --nodes 8
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

from pulltrace.server.models import PullStatus, UsualBasis
from pulltrace.server.pulls.analysis import SLOWER
from pulltrace.server.pulls.usual import SAME_SIZE
from pulltrace.wire import PullPhase
from tests.demo.virtual_world import STEP, VirtualWorld

SLOW_NODE = "edge-1"


@dataclass(frozen=True)
class Pulled:
    """A completed pull."""

    node: str
    repository: str
    size: int
    took: float
    usual: float | None
    basis: UsualBasis | None
    is_known: bool
    """True if any node had pulled the image before."""
    is_flagged: bool
    """True if the server published ``slowerThanUsual`` at any time during the pull."""

    @property
    def error(self) -> float:
        """The estimate's error as a fraction of the actual duration."""
        return abs((self.usual or 0.0) - self.took) / self.took

    def is_like(self, other: "Pulled") -> bool:
        """Return whether both pulls were on the same node and fetched roughly the same number of bytes from the same
        repository.
        """
        is_same = (self.node, self.repository) == (other.node, other.repository)
        return is_same and max(self.size, other.size) <= SAME_SIZE * min(self.size, other.size)


@dataclass
class Comparison:
    """The completed pulls, compared with their estimates."""

    pulls: list[Pulled] = field(default_factory=list)

    @property
    def known(self) -> list[float]:
        """The estimation errors for images that had been pulled before."""
        return [pull.error for pull in self.pulls if pull.usual is not None and pull.is_known]

    @property
    def new(self) -> list[float]:
        """The estimation errors for images that had never been pulled before."""
        return [pull.error for pull in self.pulls if pull.usual is not None and not pull.is_known]

    @property
    def flagged(self) -> list[Pulled]:
        """The pulls for which the server published ``slowerThanUsual``."""
        return [pull for pull in self.pulls if pull.is_flagged]

    @property
    def falsely_flagged(self) -> list[Pulled]:
        """The pulls that the server reported as slower than usual, although similar pulls before and after them took
        about as long.
        """
        likes = [
            (pull, [other.took for other in self.pulls if other is not pull and other.is_like(pull)])
            for pull in self.flagged
        ]
        return [pull for pull, others in likes if others and pull.took < SLOWER * median(others)]

    def __str__(self) -> str:
        groups = defaultdict[tuple[str, str], list[float]](list)
        for pull in self.pulls:
            node = SLOW_NODE if pull.node == SLOW_NODE else "other nodes"
            if pull.usual is not None:
                groups[node, pull.basis or ""].append(pull.error)
        lines = [_summary("known images", self.known), _summary("new images", self.new)]
        lines += [_summary(", ".join(group), errors) for group, errors in sorted(groups.items())]
        lines.append(f"without an estimate: {sum(pull.usual is None for pull in self.pulls)}")
        lines.append(f"slower than usual: {len(self.flagged)}, falsely: {len(self.falsely_flagged)}")
        return "\n  ".join(lines)


def _summary(name: str, errors: list[float]) -> str:
    if not errors:
        return f"{name}: no pulls"
    ninetieth = sorted(errors)[int(0.9 * len(errors))]
    return f"{name}: {len(errors)} pulls, median error {median(errors):.1%}, nine of ten below {ninetieth:.1%}"


def compare(*, hours: float, nodes: int, seed: int = 20261123) -> Comparison:
    """Run the demo for the given number of virtual hours and return the comparison."""
    *_, last = hourly(hours=hours, nodes=nodes, seed=seed)
    return last


def hourly(*, hours: float, nodes: int, seed: int = 20261123) -> Iterator[Comparison]:
    """Yield the comparison so far after each virtual hour, and again at the end."""
    day = _Day(nodes, seed)
    for number in range(int(hours * 3600 / STEP)):
        if number and number % 3600 == 0:
            yield day.found
        day.step()
    yield day.found


class _Day(VirtualWorld):
    def __init__(self, nodes: int, seed: int) -> None:
        super().__init__(nodes, seed)
        self.found = Comparison()
        self._first: dict[str, tuple[float | None, UsualBasis | None, bool]] = {}
        self._flagged: set[str] = set()
        self._images: set[str] = set()
        self._done: set[str] = set()

    def step(self) -> None:
        super().step()
        for pull in [pull for pull in self.pulls if pull.id not in self._done]:
            self._compare(pull)

    def _compare(self, pull: PullStatus) -> None:
        key = f"{pull.id} {pull.attempt}"
        if pull.total_known:
            self._first.setdefault(key, (pull.usual_seconds, pull.usual_basis, pull.image_ref in self._images))
        if pull.slower_than_usual:
            self._flagged.add(key)
        if not pull.status.ended:
            return
        self._done.add(pull.id)
        if pull.status is not PullPhase.COMPLETED or not pull.total_bytes or not pull.completed_at:
            return
        usual, basis, is_known = self._first.get(key, (None, None, False))
        self.found.pulls.append(
            Pulled(
                node=pull.node_name,
                repository=f"{pull.registry}/{pull.repository}",
                size=pull.total_bytes,
                took=max((pull.completed_at - pull.started_at).total_seconds(), 0.1),
                usual=usual,
                basis=basis,
                is_known=is_known,
                is_flagged=key in self._flagged,
            )
        )
        self._images.add(pull.image_ref)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=20261123)
    args = parser.parse_args()
    for hour, found in enumerate(hourly(hours=args.hours, nodes=args.nodes, seed=args.seed), 1):
        print(f"{hour} h: {found}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
