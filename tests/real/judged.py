"""A real containerd node, with an agent and a server in the test's process. Once a second, the server computes a
verdict on each pull.

Example:

async with Observed(node) as observed:
    await node.cri.pull(ref)
    await observed.until(lambda: observed.ended("team/app"))
    observed.verdicts("team/app")      # [(seconds since its start, the verdict), …]
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from pulltrace.agent.containerd import Containerd as Client
from pulltrace.agent.poller import Poller
from pulltrace.agent.pressure import Pressure
from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.kubernetes.objects import Change
from pulltrace.server.metrics import Metrics
from pulltrace.server.models import Bound, Factor, PullStatus
from pulltrace.server.pulls.hub import Hub
from pulltrace.settings import ServerSettings, load
from pulltrace.wire import AgentReport, NodeLoad, PullState
from tests.patience import PATIENCE
from tests.real.containerd import Containerd

INTERVAL = 1.0
APART = 0.6
"""Minimum interval, in seconds, between two reports. The server rejects reports that arrive sooner."""


class Observed:
    """An agent's poller and a server's hub, which receives the poller's reports through function calls."""

    def __init__(self, node: Containerd, name: str = "node-1") -> None:
        self.cluster = Cluster()
        self.hub = Hub(load(ServerSettings, {}), Metrics(), cluster=self.cluster)
        self._socket, self._name = str(node.socket), name
        self.loads: list[NodeLoad | None] = []
        """The node's load, as sent in each report."""
        self._unsent: list[PullState] = []
        self._sequence = 0
        self._seen: dict[str, list[tuple[float, Bound | None]]] = {}

    async def __aenter__(self) -> Self:
        self._client = Client(self._socket)
        self._version = await self._client.version()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._client.__aexit__()

    def apply(self, *changes: Change) -> None:
        """Apply changes to pods and events, as they would arrive from the API server."""
        for change in changes:
            self.hub.touch(self.cluster.apply(change, self.hub.now()))

    async def until(self, true: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait until a condition holds."""
        async with asyncio.timeout(seconds):
            while not true():
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.1)

    def status(self, repository: str) -> PullStatus | None:
        """Return the status of the newest pull from a repository."""
        found = [pull for pull in self.hub.feed.pulls() if pull.repository == repository]
        return max(found, key=lambda pull: pull.started_at, default=None)

    def ended(self, repository: str) -> bool:
        """Return whether the newest pull from a repository has ended."""
        pull = self.status(repository)
        return pull is not None and pull.status.ended

    def verdicts(self, repository: str) -> list[tuple[float, Bound | None]]:
        """Return every verdict on the newest pull from a repository, each with the number of seconds since the pull
        began.
        """
        pull = self.status(repository)
        return self._seen.get(pull.id, []) if pull else []

    def factors(self, repository: str) -> set[Factor]:
        """Return every factor that appears in a verdict, except ``unknown``."""
        return {bound.by for _, bound in self.verdicts(repository) if bound} - {Factor.UNKNOWN}

    def first(self, repository: str, by: Factor) -> float:
        """Return the number of seconds from the start of the pull to the first verdict with the given factor."""
        return next(seconds for seconds, bound in self.verdicts(repository) if bound and bound.by is by)

    async def _run(self) -> None:
        poller, pressure = Poller(self._client), Pressure()
        while True:
            began = time.monotonic()
            await poller.poll(time.time())
            live = poller.tracker.pulls()
            self._unsent += poller.tracker.ended()
            self._sequence += 1
            self.loads.append(pressure.measure(began, pulling=bool(live)))
            self.hub.report(
                AgentReport(
                    node_name=self._name,
                    pulls=[*self._unsent, *live] or None,
                    boot_id="boot",
                    sequence=self._sequence,
                    containerd_version=self._version,
                    load=self.loads[-1],
                )
            )
            self._unsent.clear()
            self.hub.tick(self.hub.now())
            for pull in self.hub.feed.pulls():
                seconds = self.hub.now() - pull.started_at.timestamp()
                self._seen.setdefault(pull.id, []).append((round(seconds, 1), pull.bound))
            await asyncio.sleep(max(APART, began + INTERVAL - time.monotonic()))
