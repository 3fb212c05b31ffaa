"""Compare ``usualSeconds`` with the actual duration of pulls, over a day of the demo in virtual time.

python -m tests.demo.usual_day --hours 24 --nodes 8

The demo's nodes, the agent's tracker and the server's hub run without sockets and without waiting. For each pull, the
program uses the first estimate that was made after the size of the pull was known and before the pull ended.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from pulltrace.server.models import PullStatus
from pulltrace.wire import PullPhase
from tests.demo.virtual_world import STEP, VirtualWorld


@dataclass
class Comparison:
    """The errors of all estimates, as fractions of the actual duration."""

    known: list[float]
    new: list[float]
    without: int

    def __str__(self) -> str:
        named = (("known images", self.known), ("new images", self.new))
        parts = [f"{name}: {len(errors)} pulls, median error {median(errors):.1%}" for name, errors in named if errors]
        parts += [f"nine of ten known images below {_ninetieth(self.known):.1%}"] if self.known else []
        return "; ".join([*parts, f"without an estimate: {self.without}"])


def _ninetieth(errors: list[float]) -> float:
    return sorted(errors)[int(0.9 * len(errors))]


def compare(*, hours: float, nodes: int, seed: int = 20261123) -> Comparison:
    """Run the demo for this many virtual hours, and return the comparison."""
    *_, last = hourly(hours=hours, nodes=nodes, seed=seed)
    return last


def hourly(*, hours: float, nodes: int, seed: int = 20261123) -> Iterator[Comparison]:
    """Yield the comparison after each virtual hour and at the end."""
    day = _Day(nodes, seed)
    for number in range(int(hours * 3600 / STEP)):
        if number and number % 3600 == 0:
            yield day.found
        day.step()
    yield day.found


class _Day(VirtualWorld):
    def __init__(self, nodes: int, seed: int) -> None:
        super().__init__(nodes, seed)
        self.found = Comparison([], [], 0)
        self._first: dict[str, tuple[float | None, bool]] = {}
        self._images: set[str] = set()
        self._done: set[str] = set()

    def step(self) -> None:
        super().step()
        for pull in [pull for pull in self.pulls if pull.id not in self._done]:
            self._compare(pull)

    def _compare(self, pull: PullStatus) -> None:
        key = f"{pull.id} {pull.attempt}"
        if pull.total_known:
            self._first.setdefault(key, (pull.usual_seconds, pull.image_ref in self._images))
        if not pull.status.ended:
            return
        self._done.add(pull.id)
        if pull.status is not PullPhase.COMPLETED or not pull.total_bytes or not pull.completed_at:
            return
        usual, known = self._first.get(key, (None, False))
        took = (pull.completed_at - pull.started_at).total_seconds()
        if usual is None:
            self.found.without += 1
        else:
            (self.found.known if known else self.found.new).append(abs(usual - took) / took)
        self._images.add(pull.image_ref)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--nodes", type=int, default=8)
    args = parser.parse_args()
    for hour, found in enumerate(hourly(hours=args.hours, nodes=args.nodes), 1):
        print(f"{hour} h: {found}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
