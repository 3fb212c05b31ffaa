"""A simulated containerd with a known state, a real agent and a real server. The connection between the agent and the
server can be interrupted.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import aiohttp

from pulltrace.demo.grpc_server import SimulatedContainerd
from pulltrace.demo.images import make_image, make_layer
from pulltrace.demo.pull import Pull
from pulltrace.demo.registries import Manner, Registries
from pulltrace.demo.virtual_containerd import CONTAINERD_1, VirtualContainerd
from pulltrace.images import parse
from pulltrace.server.run import GIVE_BACK_EVERY
from pulltrace.wire import UNKNOWN_IMAGE, PullPhase
from tests.e2e.programs import Api, Program
from tests.faults.network import ApiInside, Network
from tests.patience import PATIENCE
from tests.real.process import free_port

MIB = 1 << 20
HOST = "registry.test"
TICK = 0.05
AGENT_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}
SERVER_ENVIRONMENT = AGENT_ENVIRONMENT | {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
"""The container images set the same environment variables. Without these variables, glibc would keep the memory used
for clients and lists instead of returning it to the operating system.
"""


class Process(Program):
    """A pulltrace process. ``before`` is a command prefix, and ``environment`` contains additional environment
    variables.
    """

    def __init__(
        self, command: str, *, before: tuple[str, ...] = (), environment: dict[str, str] | None = None, **variables: str
    ) -> None:
        super().__init__(command, **variables)
        self._command = [*before, *self._command]
        self._environment = self._environment | (environment or {})

    @property
    def rss(self) -> float:
        """Return the resident memory in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def signal(self, how: int) -> None:
        """Send a signal without waiting for it to take effect."""
        self.process.send_signal(how)

    async def kill(self) -> None:
        """Send SIGKILL."""
        await self.stop(signal.SIGKILL)


class Lab:
    """A lab with one node. Each of the node's connections downloads at ``speed``, and the node's clock is ``ahead``
    seconds fast.

    If a ``network`` is given, the agent and the server run on two hosts. If no network is given, both use the loopback
    interface.
    """

    def __init__(
        self,
        folder: Path,
        *,
        version: str = CONTAINERD_1,
        speed: float = 4 * MIB,
        ahead: float = 0.0,
        network: Network | None = None,
    ) -> None:
        self.registries = Registries(manners={HOST: Manner(speed=speed, latency=0.05)})
        now = time.time() + ahead
        self.node = VirtualContainerd(self.registries, now=now, version=version, bandwidth=100 * MIB, disk=100 * MIB)
        self._network = network
        self.containerd = SimulatedContainerd(self.node, folder / "containerd.sock")
        self.port = free_port()
        self.metrics_port = free_port()
        self.pulls: list[tuple[str, Pull]] = []
        self.stack = AsyncExitStack()

    async def start(
        self,
        *,
        server: dict[str, Any] | None = None,
        agent: dict[str, Any] | None = None,
    ) -> Self:
        """Start all processes in the order in which a booting cluster would start them."""
        network = self._network
        enter = self.stack.enter_async_context
        settings = {
            "HTTP_ADDR": f":{self.port}" if network else f"127.0.0.1:{self.port}",
            "METRICS_ADDR": f"127.0.0.1:{self.metrics_port}",
        }
        there = {"before": network.inside(network.server)} if network else {}
        here = {"before": network.inside(network.agent)} if network else {}
        await enter(self.containerd)
        self._living = asyncio.create_task(self._live())
        server = dict(server or {})
        environment = SERVER_ENVIRONMENT | server.pop("environment", {})
        self.server = await enter(Process("server", environment=environment, **(settings | there | server)))
        self.api = await enter(ApiInside(self.port, network.server) if network else Api(self.port))
        await self.api.ready()
        self.agent_settings = {
            "NODE_NAME": "worker-1",
            "SERVER_URL": f"http://{network.address if network else '127.0.0.1'}:{self.port}",
            "CONTAINERD_SOCKET": str(self.containerd.socket),
            "REPORT_INTERVAL": "500ms",
            "HEARTBEAT_INTERVAL": "1s",
            "environment": AGENT_ENVIRONMENT,
        } | (here | (agent or {}))
        self.agent = await enter(Process("agent", **self.agent_settings))
        await self.until(lambda: self._reporting(time.time() - 5))
        return self

    async def close(self) -> None:
        """Stop everything, including frozen processes."""
        for process in (self.server, self.agent):
            if process.process.returncode is None:
                process.signal(signal.SIGCONT)
        self._living.cancel()
        await asyncio.gather(self._living, return_exceptions=True)
        await self.stack.aclose()

    async def _live(self) -> None:
        then = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            self.node.advance(now - then)
            then = now

    # The following methods start, stop and change pulls on the node.

    def held(self, name: str, *sizes: float) -> Pull:
        """Start a pull that cannot end until ``release`` is called."""
        return self.pull(name, *sizes, is_held=True)

    def pull(self, name: str, *sizes: float, is_held: bool = False) -> Pull:
        """Start pulling an image with layers of these sizes in MiB."""
        layers = [make_layer(f"{name}-{number}", int(size * MIB)) for number, size in enumerate(sizes)]
        if is_held:
            self.registries.holds[layers[-1].blob.digest] = layers[-1].blob.size - MIB
        reference = self.registries.push(f"{HOST}/{name}:1", make_image(name, *layers))
        return self.again(reference)

    def again(self, reference: str) -> Pull:
        """Pull the image again, like a kubelet that retries a pull."""
        started = self.node.pull(reference)
        self.pulls.append((reference, started))
        return started

    def hold(self, pull: Pull) -> None:
        """Make the registry hold back the last MiB of the pull's last layer."""
        blob = pull.image.layers[-1].blob
        self.registries.holds[blob.digest] = blob.size - MIB

    def release(self, pull: Pull) -> None:
        """Let the registry send the data that it is holding back."""
        del self.registries.holds[pull.image.layers[-1].blob.digest]

    async def pulled(self, name: str, *sizes: float) -> Pull:
        """Pull an image and wait until the server reports it as completed."""
        pull = self.pull(name, *sizes)
        await self.until(lambda: self.row(pull, "completed"))
        return pull

    async def running(self, name: str, *sizes: float) -> Pull:
        """Start a pull and wait until the server shows downloaded bytes."""
        pull = self.pull(name, *sizes)

        async def flows() -> bool:
            row = await self.row_of(pull)
            return bool(row and row["downloadedBytes"])

        await self.until(flows)
        return pull

    async def over(self, *pulls: Pull) -> bool:
        """Return whether all of these pulls have ended on the node."""
        return all(pull.state for pull in pulls)

    # What the server publishes.

    async def row_of(self, pull: Pull) -> dict[str, Any] | None:
        """Return the pull's row, or None. A pull must have at most one row."""
        rows = [row for row in await self.api.pulls() if _image(row["imageRef"]) == pull.reference.name]
        assert len(rows) <= 1, rows
        return rows[0] if rows else None

    async def row(self, pull: Pull, status: str) -> bool:
        """Return whether the server publishes this status for the pull."""
        row = await self.row_of(pull)
        return bool(row) and row["status"] == status

    async def said(self, words: str) -> bool:
        """Return whether the server has logged this text."""
        return words in self.server.output

    async def _reporting(self, since: float) -> bool:
        nodes = (await self.api.get("/api/v1/nodes"))["nodes"]
        return any(node["state"] == "reporting" and seconds(node["lastSeen"]) > since for node in nodes)

    async def wrong(self, since: float) -> str:
        """Return one difference between the server's state and the node's, or an empty string if there is none."""
        if not await self._reporting(since):
            return "the node does not report"
        rows = {_image(row["imageRef"]): row for row in await self.api.pulls()}
        last = {_image(reference): pull for reference, pull in self.pulls}
        if extra := [name for name in rows if name not in last]:
            return f"unknown rows: {extra}"
        for reference, pull in last.items():
            row = rows.get(reference)
            if row is None:
                return f"{reference} is lost"
            status, truth = row["status"], pull.state.value if pull.state else "running"
            shown = status if status in ("completed", "failed") else "running"
            if shown != truth:
                return f"{reference} is {truth}, but published as {status}"
            if status == "completed" and (row["downloadedBytes"] != row["totalBytes"] or row["percent"] != 100):
                return f"{reference} does not add up: {row['downloadedBytes']} of {row['totalBytes']}"
        return ""

    async def metrics(self) -> dict[str, float]:
        """Return the value of each sample, keyed by its metric name and labels."""
        async with self.api._session.get(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            lines = [line for line in (await answer.text()).splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    async def measured(self, name: str, value: float) -> bool:
        """Return whether the metric has this value."""
        return (await self.metrics()).get(name) == value

    async def ends(self) -> float:
        """Return how many finished pulls the server has counted."""
        return sum(value for name, value in (await self.metrics()).items() if name.startswith("pulltrace_pulls_total{"))

    async def until(self, true: Callable[[], Any], within: float = PATIENCE) -> None:
        """Wait until the condition holds. Failed requests to the server are ignored."""
        async with asyncio.timeout(within):
            while True:
                with suppress(aiohttp.ClientError, TimeoutError, json.JSONDecodeError):
                    if await true():
                        return
                await asyncio.sleep(TICK)

    async def recovered(self, within: float = PATIENCE) -> None:
        """Wait until the server's published state matches the node's state."""
        since, why = time.time(), "no response"

        async def well() -> bool:
            nonlocal why
            why = await self.wrong(since)
            return not why

        try:
            await self.until(well, within)
        except TimeoutError:
            tail = (self.agent.output + self.server.output)[-1500:]
            raise AssertionError(f"still wrong after {within:g} s: {why}\n{tail}") from None

    async def finished(self) -> None:
        """Wait until every pull on the node has ended and the server has published the outcomes."""

        async def over() -> bool:
            return all(pull.state for _, pull in self.pulls)

        await self.until(over)
        await self.recovered()

    async def lost(self) -> int:
        """Return the number of images whose pulls have completed but which are missing from the server's list."""
        rows = {row["imageRef"] for row in await self.api.pulls()}
        return len({reference for reference, pull in self.pulls if pull.state is PullPhase.COMPLETED} - rows)


def _image(reference: str) -> str:
    """Return the image's name without its tag, because the tag is unknown until the pull has ended."""
    return parse(reference).name if reference != UNKNOWN_IMAGE else reference


def seconds(time_: str) -> float:
    return datetime.fromisoformat(time_).timestamp()


FINDINGS = os.environ.get("FAULTS_JSON", "")


class Fault:
    """Record a fault: ``async with fault(...) as seen: … seen.over()``. At the end of the block, wait until everything
    has recovered.
    """

    WITHIN = 10.0 if FINDINGS else PATIENCE
    """The maximum recovery time in seconds. Recovery takes longer on a busy machine, so only `make reliability`, which
    publishes the recovery times, limits them to 10 s.
    """
    GROWTH = 12.0
    """The maximum growth of the server's memory in MiB. Python's allocator keeps some memory even if there is no leak.
    """
    AGENT = 48.0
    """The maximum memory of an agent in MiB, equal to the agent's memory request in the chart. The chart's memory limit
    is nearly three times this value.
    """

    def __init__(self, lab: Any, what: str, expected: str) -> None:
        self.lab, self.what, self.expected = lab, what, expected
        self._over = 0.0

    async def __aenter__(self) -> Self:
        self.before = self._memory()
        return self

    def over(self) -> None:
        """Record that the fault has ended, and start measuring the recovery time."""
        self._over = time.monotonic()

    async def __aexit__(self, kind: type | None, *_: object) -> None:
        if kind:
            return
        await self.lab.recovered(self.WITHIN + 5)
        recovered = time.monotonic() - self._over
        await self.lab.finished()
        async with asyncio.timeout(GIVE_BACK_EVERY + PATIENCE):
            while not self._is_back(after := self._memory()):  # noqa: ASYNC110  # there is no event to wait for
                await asyncio.sleep(1)
        lost = await self.lab.lost()
        found = {
            "fault": self.what,
            "expected": self.expected,
            "recovered": round(recovered, 1),
            "lost": lost,
            "before": self.before,
            "after": after,
        }
        if FINDINGS:
            with Path(FINDINGS).open("a") as file:  # noqa: ASYNC230  # only one line is written, after the test
                file.write(json.dumps(found) + "\n")
        assert recovered <= self.WITHIN, found
        assert not lost, found

    def _is_back(self, now: dict[str, float]) -> bool:
        """Return whether the memory use of both processes is back to normal. The server returns freed memory to the
        operating system every 30 seconds.
        """
        return now["agent"] <= self.AGENT and now["server"] <= self.before["server"] + self.GROWTH

    def _memory(self) -> dict[str, float]:
        return {"agent": round(self.lab.agent.rss, 1), "server": round(self.lab.server.rss, 1)}
