"""Poll a containerd with the agent's own poller, and keep the results."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Self

from pulltrace.agent.containerd import Containerd, ContainerdError
from pulltrace.agent.poller import Poller
from pulltrace.agent.soci_root import SociRoot
from pulltrace.agent.tracker import Tracker
from pulltrace.wire import LayerState, PullState
from tests.patience import PATIENCE

TICK = 0.2


class Follow:
    """The pulls on a node, as the agent reports them after each poll."""

    def __init__(
        self,
        socket: str | Path,
        *,
        soci_root: SociRoot | None = None,
        ahead: float = 0.0,
        on_poll: Callable[[list[PullState], list[PullState]], None] = lambda live, ended: None,
    ) -> None:
        """The agent's clock is ``ahead`` seconds fast. ``on_poll`` receives the live and the finished pulls."""
        self.live: list[PullState] = []
        self.ended: dict[str, PullState] = {}
        self.history: dict[str, list[PullState]] = {}
        self.polls = 0
        """The number of successful polls."""
        self._socket = str(socket)
        self._soci_root = soci_root
        self._ahead = ahead
        self._on_poll = on_poll
        self._polling = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._containerd = Containerd(self._socket)
        self._poller = Poller(self._containerd, self._soci_root)
        self._task = asyncio.create_task(self._run())
        return self

    @property
    def tracker(self) -> Tracker:
        """The agent's tracker."""
        return self._poller.tracker

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._containerd.__aexit__()

    async def _run(self) -> None:
        while True:
            with suppress(ContainerdError):
                async with self._polling:
                    await self._poller.poll(time.time() + self._ahead)
                tracker = self._poller.tracker
                self.live = tracker.pulls()
                ended = tracker.ended()
                for pull in ended:
                    self.ended[pull.id] = pull
                    self.history.setdefault(pull.id, []).append(pull)
                for pull in self.live:
                    self.history.setdefault(pull.id, []).append(pull)
                self._on_poll(self.live, ended)
                self.polls += 1
            await asyncio.sleep(TICK)

    async def until(self, true: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait until the condition holds. If polling fails first, raise that error."""
        async with asyncio.timeout(seconds):
            while not true():
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(TICK / 4)

    async def after_polls(self, count: int) -> None:
        """Wait until this many more polls are complete."""
        target = self.polls + count + 1
        await self.until(lambda: self.polls >= target)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Suspend polling while the ``async with`` block runs."""
        async with self._polling:
            yield

    def named(self, text: str) -> list[PullState]:
        """Return the live pulls whose references contain this text."""
        return [pull for pull in self.live if text in pull.image_ref]

    def ended_as(self, image_ref: str) -> PullState:
        """Return the only finished pull with this reference."""
        (pull,) = [pull for pull in self.ended.values() if pull.image_ref == image_ref]
        return pull


def downloaded(pull: PullState) -> int:
    """Return how many bytes this pull has downloaded so far."""
    return sum(layer.downloaded_bytes for layer in pull.layers or [])


def to_fetch(pull: PullState) -> int:
    """Return the total number of bytes that this pull has to download."""
    return sum(layer.total_bytes - layer.cached_bytes for layer in pull.layers or [])


def layers(pull: PullState) -> dict[str, LayerState]:
    """Return the layers of a pull, keyed by digest."""
    return {layer.digest: layer for layer in pull.layers or []}
