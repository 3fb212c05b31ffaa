"""The demo's cluster, with the server and the agents as separate processes, and a record of what actually happened to
each pull.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pulltrace.demo.apiserver import ApiServer
from pulltrace.demo.grpc_server import SimulatedContainerd
from pulltrace.demo.pull import Pull
from pulltrace.demo.scenario import Crashed, Scenario
from pulltrace.wire import PullPhase
from tests.e2e.programs import Api
from tests.faults.lab import AGENT_ENVIRONMENT, SERVER_ENVIRONMENT, Process
from tests.real.process import free_port
from tests.soak.wire import Wire

TICK = 0.2
"""The time between two simulation steps, in seconds."""
SEEN_AFTER = 2.0
"""How long, in seconds, a healthy agent that polls twice per second may take to observe a new pull."""
HISTORY = 60.0
RECONNECTS = 3.0
"""How long, in seconds, an agent that tries once per poll may take to reconnect to a restarted containerd."""


@dataclass(slots=True, eq=False)
class Truth:
    """A record of what actually happened to one pull."""

    node: str
    pull: Pull
    began: float
    watched: float = 0.0
    """How long, in seconds, the node's current agent has been able to observe the pull."""
    ended: float | None = None
    told: bool = False
    only_told: bool = False
    """True if only the server has a record of the pull, because the node's agent was restarted."""

    @property
    def reference(self) -> str:
        return str(self.pull.reference)

    @property
    def seen(self) -> bool:
        """Return whether an agent ran for long enough to observe the pull."""
        return self.watched >= SEEN_AFTER

    @property
    def completed(self) -> bool:
        return self.pull.state is PullPhase.COMPLETED


class Site:
    """One node: its containerd, its agent, and the connection between agent and server."""

    def __init__(self, name: str, containerd: SimulatedContainerd, wire: Wire) -> None:
        self.name, self.containerd, self.wire = name, containerd, wire
        self.ails = True
        """True if the agent is unable to reach its containerd."""
        self.agent = Process(
            "agent",
            environment=AGENT_ENVIRONMENT,
            NODE_NAME=name,
            SERVER_URL=f"http://127.0.0.1:{wire.port}",
            CONTAINERD_SOCKET=str(containerd.socket),
            REPORT_INTERVAL="500ms",
            HEARTBEAT_INTERVAL="1s",
        )


class SoakCluster:
    """The demo's cluster with real processes, as an async context manager."""

    def __init__(self, nodes: int, speed: float, seed: int) -> None:
        self._begun = time.time()
        self.scenario = Scenario(nodes, now=self._begun, speed=speed, seed=seed)
        self.api_server = ApiServer()
        self.port, self.metrics_port = free_port(), free_port()
        self.sites: list[Site] = []
        self.pulls: list[Truth] = []
        self.began = self.completed = self.failed = 0
        self._living: dict[Pull, Truth] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _start(self) -> None:
        enter = self._stack.enter_async_context
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pulltrace-")))
        await enter(self.api_server)
        for number, (name, node) in enumerate(self.scenario.nodes.items()):
            containerd = await enter(SimulatedContainerd(node, folder / f"{number}.sock"))
            self.sites.append(Site(name, containerd, await enter(Wire(self.port))))
        living = asyncio.create_task(self._live())
        self._stack.push_async_callback(_ended, living)
        self.server = await enter(
            Process(
                "server",
                environment=SERVER_ENVIRONMENT | {"KUBECONFIG": str(_kubeconfig(folder, self.api_server.url))},
                HTTP_ADDR=f"127.0.0.1:{self.port}",
                METRICS_ADDR=f"127.0.0.1:{self.metrics_port}",
                HISTORY_TTL=f"{HISTORY:g}s",
                STALL_TIMEOUT="3s",
            )
        )
        self.api = await enter(Api(self.port))
        await self.api.ready()
        for site in self.sites:
            await enter(site.agent)
            site.ails = False

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def agent_died(self, site: Site) -> None:
        """Record that an agent has lost its state. The next agent has to observe the live pulls from the beginning, and
        the server has the only record of the finished pulls.
        """
        for truth in self.pulls:
            if truth.node == site.name and not truth.told:
                truth.watched = 0.0
            truth.only_told |= truth.node == site.name and truth.ended is not None

    def server_died(self) -> None:
        """Forget the pulls that only the server had recorded."""
        self.pulls = [truth for truth in self.pulls if not truth.only_told]

    def running(self, node: str) -> Iterator[Truth]:
        """Return a node's live pulls."""
        return (truth for truth in self._living.values() if truth.node == node)

    def forget(self, before: float) -> None:
        """Forget pulls that ended before this time."""
        self.pulls = [truth for truth in self.pulls if truth.ended is None or truth.ended >= before]

    async def _live(self) -> None:
        # The scenario's clock must not lag behind the machine's clock. If it did, a lease could be older than its
        # containerd.
        then = self._begun
        async with asyncio.TaskGroup() as restarts:
            while True:
                await asyncio.sleep(TICK)
                now = time.time()
                for happened in self.scenario.advance(max(0.0, now - then)):
                    if isinstance(happened, Crashed):
                        restarts.create_task(self._restart(happened.node))
                    elif happened.gone:
                        self.api_server.delete(happened.resource, happened.object)
                    else:
                        self.api_server.put(happened.resource, happened.object)
                self._look(now, now - then)
                then = now

    def _look(self, now: float, passed: float) -> None:
        for site in self.sites:
            for pull in site.containerd.node.pulls:
                if pull not in self._living:
                    self._living[pull] = Truth(site.name, pull, now)
                    self.pulls.append(self._living[pull])
                    self.began += 1
                if not site.ails:
                    # If a step is late, the simulated containerd is late too, so the agent cannot observe the pull
                    # during the delay.
                    self._living[pull].watched += min(passed, 2 * TICK)
        for pull in [pull for pull in self._living if pull.state]:
            truth = self._living.pop(pull)
            truth.ended = now
            self.completed += truth.completed
            self.failed += not truth.completed

    async def _restart(self, node: str) -> None:
        """Stop and restart a node's containerd, as the scenario requires."""
        site = next(site for site in self.sites if site.name == node)
        if site.ails:
            return  # another fault has already stopped this containerd and will restart it
        site.ails = True
        await site.containerd.close()
        await asyncio.sleep(1.0)
        await start(site)
        site.ails = False


async def start(site: Site) -> None:
    """Start containerd again. Pulls that the kubelet requested while containerd was stopped are lost."""
    site.containerd.node.crash()
    await site.containerd.start()
    await asyncio.sleep(RECONNECTS)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _kubeconfig(folder: Path, url: str) -> Path:
    named, path = {"name": "soak"}, folder / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [named | {"cluster": {"server": url}}],
                "users": [named | {"user": {}}],
                "contexts": [named | {"context": {"cluster": "soak", "user": "soak"}}],
                "current-context": "soak",
            }
        )
    )
    return path
