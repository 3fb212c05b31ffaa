"""A server with several nodes and an API server, for a test that causes one fault after another."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec
import yaml
from aiohttp import web

from pulltrace.wire import AgentReport, ErrorReason, LayerPhase, LayerState, PullPhase, PullState, to_time
from tests.real.process import Process, free_port

LARGE = 200_000_000
EVERY = 0.7
"""Seconds between reports. The server rejects a report that arrives within half a second of the node's previous report.
"""


@dataclass
class Troubles:
    """A server and its nodes: ``n1`` has the pulls in ``pulls``, ``n2`` has no pulls, and the nodes in ``others`` have
    completed pulls.
    """

    url: str
    metrics: str
    process: Process
    pulls: dict[str, PullState] = field(default_factory=dict)
    others: dict[str, list[PullState]] = field(default_factory=dict)
    n2_lives: bool = True
    refused: asyncio.Event = field(default_factory=asyncio.Event)
    """Once ``refused`` is set, the API server returns 403 and ends its watches."""
    moves: bool = True
    _reported: asyncio.Condition = field(default_factory=asyncio.Condition)
    _ids: itertools.count = field(default_factory=itertools.count)  # type: ignore[type-arg]

    async def next_report(self) -> None:
        """Wait until the server has accepted a report that was created after this call."""
        async with self._reported:
            await self._reported.wait()
            await self._reported.wait()

    async def fetch(self, registry: str, size: int, seconds: float) -> None:
        """Report a pull on ``n1`` that took this many seconds, and wait until the server shows it as completed."""
        pull = self._pull(registry, size, seconds)
        await self.next_report()
        layer = LayerState(digest="sha256:a", total_bytes=size, downloaded_bytes=size, state=LayerPhase.DOWNLOADED)
        self.pulls[pull.id] = msgspec.structs.replace(pull, layers=[layer])
        await self.next_report()
        self.pulls[pull.id] = msgspec.structs.replace(
            self.pulls[pull.id], status=PullPhase.COMPLETED, completed_at=to_time(time.time())
        )
        await self.next_report()

    def fail(self, registry: str, reason: ErrorReason) -> None:
        """Report a pull on ``n1`` that has just failed."""
        pull = self._pull(registry, LARGE, 1)
        self.pulls[pull.id] = msgspec.structs.replace(
            pull, status=PullPhase.FAILED, completed_at=to_time(time.time()), error="no", error_reason=reason
        )

    def pulled_elsewhere(self, registry: str, seconds: float, *, times: int = 1) -> None:
        """Report completed pulls of the same image on each of three other nodes."""
        now = time.time()
        layer = LayerState(digest="sha256:a", total_bytes=LARGE, downloaded_bytes=LARGE, state=LayerPhase.EXTRACTED)
        for node in ("n3", "n4", "n5") * times:
            pull = PullState(
                id=f"{node}-{next(self._ids)}",
                image_ref=f"{registry}/image:1",
                registry=registry,
                repository="image",
                status=PullPhase.COMPLETED,
                started_at=to_time(now - seconds),
                completed_at=to_time(now),
                total_known=True,
                layers=[layer],
            )
            self.others.setdefault(node, []).append(pull)

    def _pull(self, registry: str, size: int, seconds: float) -> PullState:
        name = f"pull-{next(self._ids)}"
        self.pulls[name] = PullState(
            id=name,
            image_ref=f"{registry}/{name}:1",
            registry=registry,
            repository=name,
            status=PullPhase.DOWNLOADING,
            started_at=to_time(time.time() - seconds),
            total_known=True,
            layers=[LayerState(digest="sha256:a", total_bytes=size, state=LayerPhase.DOWNLOADING)],
        )
        return self.pulls[name]

    async def report(self, session: aiohttp.ClientSession) -> None:
        """Send reports until cancelled. While ``moves`` is true, each report increases the number of downloaded bytes
        for one of the pulls on ``n1``.
        """
        steady = self._pull("steady.example.org", 2**40, 1)
        arrived = 0
        while True:
            arrived += 1_000_000 * self.moves
            layer = LayerState(
                digest="sha256:a", total_bytes=2**40, downloaded_bytes=arrived, state=LayerPhase.DOWNLOADING
            )
            self.pulls[steady.id] = msgspec.structs.replace(steady, layers=[layer])
            reports = [AgentReport(node_name="n1", timestamp=to_time(time.time()), pulls=list(self.pulls.values()))]
            if self.n2_lives:
                reports.append(AgentReport(node_name="n2", timestamp=to_time(time.time())))
            reports += [AgentReport(node_name=node, pulls=pulls) for node, pulls in self.others.items()]
            for report in reports:
                async with session.post(f"{self.url}/api/v1/report", data=msgspec.json.encode(report)) as response:
                    assert response.status == 200, await response.text()
            async with self._reported:
                self._reported.notify_all()
            await asyncio.sleep(EVERY)


@contextlib.asynccontextmanager
async def troubles(folder: Path) -> AsyncIterator[Troubles]:
    """Start a server and an API server that both work correctly at first. The test may stop the server."""
    refused = asyncio.Event()
    async with _api_server(refused) as kubernetes:
        cluster = {"name": "c", "cluster": {"server": kubernetes}}
        context = {"name": "c", "context": {"cluster": "c", "user": ""}}
        kubeconfig = {"clusters": [cluster], "contexts": [context], "current-context": "c", "users": []}
        (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
        http, metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
        variables = {
            "PULLTRACE_HTTP_ADDR": http,
            "PULLTRACE_METRICS_ADDR": metrics,
            "PULLTRACE_STALL_TIMEOUT": "3s",
            "KUBECONFIG": str(folder / "kubeconfig"),
        }
        assignments = [f"{name}={value}" for name, value in variables.items()]
        assert "KUBERNETES_SERVICE_HOST" not in os.environ
        process = Process(["env", *assignments, sys.executable, "-m", "pulltrace", "server"], folder / "server.log")
        try:
            yield Troubles(f"http://{http}", metrics, process, refused=refused)
        finally:
            refused.set()
            await process.end(signal.SIGTERM)


@contextlib.asynccontextmanager
async def _api_server(refused: asyncio.Event) -> AsyncIterator[str]:
    """Start an API server that has no objects and whose watches last until ``refused`` is set."""

    async def respond(request: web.Request) -> web.StreamResponse:
        if refused.is_set():
            return web.json_response({"kind": "Status", "message": "no right", "code": 403}, status=403)
        if "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})
        response = web.StreamResponse()
        await response.prepare(request)
        await refused.wait()
        return response

    app = web.Application()
    app.router.add_get("/api/v1/{resource}", respond)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
