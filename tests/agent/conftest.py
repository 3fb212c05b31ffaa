"""Fixtures: a simulated node, an agent that watches it, a reporter, and a server that receives the reports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pulltrace.agent.reporter import Reporter
from pulltrace.demo.images import Image, make_image, make_layer
from pulltrace.demo.registries import Manner, Registries
from pulltrace.demo.store import Store
from pulltrace.demo.virtual_containerd import CONTAINERD_1, CONTAINERD_2, VirtualContainerd
from pulltrace.settings import AgentSettings, load
from tests.agent.receiver import INTERVAL, Server, serving
from tests.agent.virtual import Watched
from tests.real.process import free_port

MIB = 1 << 20
NOON = 1_800_000_000.0
HOST = "registry.test"
CONTAINERD_16 = "1.6.20"


@pytest.fixture
def registries() -> Registries:
    """Registries that serve 10 MiB/s per connection and respond after 0.1 s."""
    return Registries(manners={HOST: Manner(speed=10 * MIB, latency=0.1)})


@pytest.fixture
def push(registries):
    """Return a function that pushes images:

    ``push("app:1", ("base", 2), ("app", 3))`` adds an image to the registry, with layers of these names and sizes (in
    MiB). It returns the image's reference and the image.
    """

    def push(name: str, *layers: tuple[str, int], **options: bool) -> tuple[str, Image]:
        image = make_image(name, *(make_layer(layer, size * MIB) for layer, size in layers), **options)
        return registries.push(f"{HOST}/{name}", image), image

    return push


@pytest.fixture
def start_simulated(registries):
    """Return a function that creates nodes. Each node has a clock that starts at ``NOON``, a 100 MiB/s network and a 50
    MiB/s disk.
    """

    def start(version: str = CONTAINERD_1, **store: object) -> VirtualContainerd:
        return VirtualContainerd(
            registries, now=NOON, version=version, store=Store(**store), bandwidth=100 * MIB, disk=50 * MIB
        )

    return start


@pytest.fixture(params=[CONTAINERD_16, CONTAINERD_1, CONTAINERD_2])
def simulated(request, start_simulated) -> VirtualContainerd:
    """A simulated node. A test with this fixture runs once per containerd version."""
    return start_simulated(request.param)


@pytest.fixture
def watched(simulated) -> Watched:
    """An agent that started before the first pull."""
    watched = Watched(simulated)
    watched.poll()
    return watched


@pytest.fixture
def unused_tcp_port() -> int:
    """Return a free port on loopback."""
    return free_port()


@pytest.fixture
async def server(unused_tcp_port: int) -> AsyncIterator[Server]:
    """A server that receives reports."""
    server = Server()
    async with serving(server, unused_tcp_port):
        yield server


@pytest.fixture
def make(unused_tcp_port: int):
    """Return a function that runs reporters."""

    @asynccontextmanager
    async def make(
        heartbeat: float = 60.0, token: str | None = None, token_file: Path | None = None, *, run: bool = True
    ) -> AsyncIterator[Reporter]:
        settings = replace(
            load(AgentSettings, {"PULLTRACE_NODE_NAME": "worker-1"}),
            server_url=f"http://127.0.0.1:{unused_tcp_port}/base",
            report_interval=INTERVAL,
            heartbeat_interval=heartbeat,
            agent_token=token,
            agent_token_file=token_file and str(token_file),
        )
        async with Reporter(settings) as reporter:
            running = asyncio.create_task(reporter.run() if run else asyncio.sleep(0))
            yield reporter
            running.cancel()
            await asyncio.wait([running])

    return make
