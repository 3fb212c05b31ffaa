"""``pulltrace demo`` runs the server, the agents and a simulated cluster in a single process, on loopback only.

Each node's containerd is a real gRPC server on a Unix socket. The agents and the server are the real programs, and the
simulated API server speaks real HTTP. Only the work of containerd, the kubelets and the registries is simulated.
"""

import asyncio
import json
import logging
import os
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from pulltrace.agent.run import watch
from pulltrace.demo.apiserver import ApiServer
from pulltrace.demo.grpc_server import SimulatedContainerd
from pulltrace.demo.scenario import Crashed, Scenario
from pulltrace.logs import fields
from pulltrace.server.run import ListenError, serve
from pulltrace.settings import Address, AgentSettings, ServerSettings, load

HOST = "127.0.0.1"
METRICS_PORT = 9090
TICK = 0.2
"""The interval between simulation steps, in seconds."""
DOWN = 3.0
"""A killed containerd is restarted after this many seconds."""
NO_PROC = os.devnull
"""The simulated nodes have no load: the load of this machine would appear on all of them."""

_log = logging.getLogger(__name__)


class DemoError(Exception):
    """The demo cannot start. The message gives the reason and suggests a solution."""


async def demo(*, nodes: int, speed: float, port: int) -> None:
    """Run the demo until it is cancelled. If ``port`` is 0, use any free port. Raise ``DemoError`` if the port is in
    use.
    """
    # Keep gRPC from writing a line to stderr whenever a containerd is killed during a call.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Hide the agents' and the server's routine log lines, so that the dashboard's URL stands out.
    for name, level in (("pulltrace.agent", logging.ERROR), ("pulltrace.server", logging.WARNING)):
        logging.getLogger(name).setLevel(level)
    settings = _server_settings(port, speed)
    scenario = Scenario(nodes, now=time.time(), speed=speed)
    listening: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    async with _apiserver() as cluster, _containerds(scenario) as containerds, asyncio.TaskGroup() as tasks:
        tasks.create_task(_serve(settings, lambda *ports: listening.set_result(ports)))
        tasks.create_task(_live(scenario, cluster, containerds))
        port, metrics_port = await listening
        _log.info(
            "demo: the dashboard is at http://%s:%d/ (Ctrl-C ends it)",
            *(HOST, port),
            extra=fields(nodes=nodes, speed=speed, metrics=f"http://{HOST}:{metrics_port}/metrics"),
        )
        for number, (name, containerd) in enumerate(containerds.items()):
            # Spread the agents' polls over each second, as in a real cluster.
            tasks.create_task(_agent(name, containerd, port, delay=number / nodes))


def _server_settings(port: int, speed: float) -> ServerSettings:
    if not _free(port):
        raise DemoError(
            f"port {port} of {HOST} is in use, perhaps by another demo: "
            "choose another port with --port, or any free port with --port 0"
        )
    environ = {
        "PULLTRACE_HTTP_ADDR": f"{HOST}:{port}",
        "PULLTRACE_METRICS_ADDR": f"{HOST}:{METRICS_PORT}",
        # At ten times the normal speed, the stall timeout and the history TTL are a tenth of their normal length.
        "PULLTRACE_STALL_TIMEOUT": f"{max(1.0, 30 / speed):.3f}s",
        "PULLTRACE_HISTORY_TTL": f"{max(60.0, 900 / speed):.0f}s",
    }
    return load(ServerSettings, environ)


async def _serve(settings: ServerSettings, on_ready: Callable[[int, int], None]) -> None:
    try:
        await serve(settings, on_ready=on_ready)
    except ListenError:
        _log.info("port %d is in use, so metrics are on another port", METRICS_PORT)
        await serve(replace(settings, metrics_addr=Address(HOST, 0)), on_ready=on_ready)


def _free(port: int) -> bool:
    """Return whether the port is free."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


async def _agent(name: str, containerd: SimulatedContainerd, port: int, delay: float) -> None:
    await asyncio.sleep(delay)
    environ = {
        "PULLTRACE_NODE_NAME": name,
        "PULLTRACE_CONTAINERD_SOCKET": str(containerd.socket),
        "PULLTRACE_SERVER_URL": f"http://{HOST}:{port}",
    }
    await watch(load(AgentSettings, environ), proc=NO_PROC)


@asynccontextmanager
async def _apiserver() -> AsyncIterator[ApiServer]:
    """Run the API server, and point this process's KUBECONFIG at it."""
    async with ApiServer() as cluster:
        with tempfile.NamedTemporaryFile("w", prefix="pulltrace-demo-", suffix=".json") as kubeconfig:
            named = {"name": "demo"}
            json.dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [named | {"cluster": {"server": cluster.url}}],
                    "users": [named | {"user": {}}],
                    "contexts": [named | {"context": {"cluster": "demo", "user": "demo"}}],
                    "current-context": "demo",
                },
                kubeconfig,
            )
            kubeconfig.flush()
            # use the simulated cluster, even if the demo runs inside a real cluster
            os.environ.pop("KUBERNETES_SERVICE_HOST", None)
            os.environ["KUBECONFIG"] = kubeconfig.name
            yield cluster


@asynccontextmanager
async def _containerds(scenario: Scenario) -> AsyncIterator[dict[str, SimulatedContainerd]]:
    """Yield the containerd of each node, keyed by node name. The file name of each socket is a number rather than the
    node's name, because a socket's path can be at most 107 bytes long.
    """
    with tempfile.TemporaryDirectory(prefix="pulltrace-demo-") as folder:
        async with AsyncExitStack() as stack:
            containerds = {}
            for number, (name, node) in enumerate(scenario.nodes.items()):
                containerd = SimulatedContainerd(node, Path(folder) / f"{number}.sock")
                containerds[name] = await stack.enter_async_context(containerd)
            yield containerds


async def _live(scenario: Scenario, cluster: ApiServer, containerds: dict[str, SimulatedContainerd]) -> None:
    """Advance the scenario in step with the real clock."""
    then = time.time()
    for node in scenario.nodes.values():
        node.now = then  # otherwise, leases would be older than the socket, as if containerd had restarted
    async with asyncio.TaskGroup() as restarts:
        while True:
            now = time.time()
            for happened in scenario.advance(max(0.0, now - then)):
                if isinstance(happened, Crashed):
                    restarts.create_task(_restart(containerds[happened.node]))
                elif happened.gone:
                    cluster.delete(happened.resource, happened.object)
                else:
                    cluster.put(happened.resource, happened.object)
            then = now
            await asyncio.sleep(TICK)


async def _restart(containerd: SimulatedContainerd) -> None:
    await containerd.close()
    await asyncio.sleep(DOWN)
    await containerd.start()
