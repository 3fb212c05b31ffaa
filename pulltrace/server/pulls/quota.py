"""Count the cluster's pulls from each registry in the last hour, grouped by owner. Sans-I/O.

Registries' rate limits count pulls rather than bytes, so a pull counts even if every layer is cached. Memory is
limited: only the ``MAX_REGISTRIES`` registries with the newest pulls are kept, each with its last ``MAX_PULLS`` pulls.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

HOUR = 3600.0
MAX_REGISTRIES = 20
MAX_PULLS = 20_000


@dataclass(slots=True)
class _Pulls:
    times: deque[tuple[float, str]] = field(default_factory=deque)
    owners: Counter[str] = field(default_factory=Counter)

    def drop_oldest(self) -> None:
        _, owner = self.times.popleft()
        self.owners[owner] -= 1
        if not self.owners[owner]:
            del self.owners[owner]


class Quota:
    """The pulls of the last hour. ``record`` adds a pull."""

    def __init__(self) -> None:
        self._registries: OrderedDict[str, _Pulls] = OrderedDict()

    def record(self, registry: str, owner: str, at: float) -> None:
        """Add a pull, regardless of its result."""
        pulls = self._registries.setdefault(registry, _Pulls())
        self._registries.move_to_end(registry)
        pulls.times.append((at, owner))
        pulls.owners[owner] += 1
        if len(pulls.times) > MAX_PULLS:
            pulls.drop_oldest()
        if len(self._registries) > MAX_REGISTRIES:
            self._registries.popitem(last=False)

    def owners(self, registry: str, now: float) -> list[tuple[str, int]]:
        """Return each owner with its number of pulls in the last hour. Owners with the most pulls come first."""
        pulls = self._registries.get(registry)
        if pulls is None:
            return []
        while pulls.times and pulls.times[0][0] <= now - HOUR:
            pulls.drop_oldest()
        return sorted(pulls.owners.items(), key=lambda owner: (-owner[1], owner[0]))

    def registries(self) -> Iterator[str]:
        """Yield every registry for which pulls are stored."""
        yield from self._registries
