"""An agent that observes a real containerd, the server that receives its reports, and the rows that the server
publishes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pulltrace.agent.soci_root import SociRoot
from pulltrace.server.models import PullStatus
from pulltrace.wire import PullState
from tests.agent.follow import Follow
from tests.server.build import NOW, SimulatedHub, shifted


@dataclass(frozen=True)
class Seen:
    """A row state, as published by the server.

    ``at`` is the server's time in seconds. ``sent`` is the number of bytes that the registry had sent by that time;
    ``sent_before`` is the number that it had sent before the agent's poll.
    """

    row: PullStatus
    at: float
    sent: int
    sent_before: int


class Observer:
    """Collects the rows published after each report. ``rows`` contains all rows so far, and ``counts`` contains the
    number of rows that existed after each report.
    """

    def __init__(
        self,
        socket: str | Path,
        sent: Callable[[], int],
        *,
        every: float,
        stall: float,
        soci_root: SociRoot | None = None,
        ahead: float = 0.0,
    ) -> None:
        """``every`` is the minimum time between reports, in seconds.

        The agent's clock is ``ahead`` seconds ahead of this machine's clock.
        """
        self.server = SimulatedHub(STALL_TIMEOUT=f"{stall}s")
        self.rows: list[Seen] = []
        self.counts: list[int] = []
        self._socket, self._sent, self._every, self._soci_root, self._ahead = socket, sent, every, soci_root, ahead
        self._begun = time.time()
        self._reported_at = 0.0
        self._sent_before = 0
        self._boots = 0
        self._unreported: list[PullState] = []

    async def __aenter__(self) -> Self:
        self._boots += 1
        self.follow = Follow(self._socket, soci_root=self._soci_root, ahead=self._ahead, on_poll=self._report)
        await self.follow.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.follow.__aexit__()

    async def restart(self) -> None:
        """Stop the agent and start another one."""
        await self.__aexit__()
        await self.__aenter__()

    def _report(self, live: list[PullState], ended: list[PullState]) -> None:
        self._unreported += ended
        sent_before, self._sent_before = self._sent_before, self._sent()
        now = time.time()
        if now - self._reported_at < self._every:
            return
        self._reported_at = now
        pulls = [shifted(pull, NOW - self._begun) for pull in (*self._unreported, *live)]
        self._unreported.clear()
        snapshotter = self.follow.tracker.serving.name
        self.server.report(*pulls, at=now - self._begun, boot=f"boot-{self._boots}", snapshotter=snapshotter)
        shown = self.server.shown
        self.counts.append(len(shown))
        self.rows += [Seen(row, self.server.now, self._sent(), sent_before) for row in shown]

    async def completed(self) -> Seen:
        """Wait until the newest row shows that the pull has ended, and return the row."""
        await self.follow.until(lambda: self.rows and self.rows[-1].row.status.ended)
        return self.rows[-1]

    def metric(self, name: str, registry: str) -> float:
        """Return the value of a byte counter for a registry."""
        return self.server.metric(f"pull_{name}_total", registry=registry)


def outcome(row: PullStatus) -> object:
    """Return the parts of a row that must be the same no matter which agent reports the pull."""
    layers = [(layer.digest, layer.state, layer.downloaded_bytes, layer.cached_bytes) for layer in row.layers or ()]
    return row.status, row.image_ref, row.snapshotter, row.downloaded_bytes, row.cached_bytes, row.remote_bytes, layers
