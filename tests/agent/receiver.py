"""A server that receives reports and responds as the test requires."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from pulltrace.wire import LayerState, PullPhase, PullState
from tests.patience import PATIENCE

INTERVAL = 0.02


class Server:
    """A server that stores valid reports. ``answers`` contains the server's first responses, one per request."""

    def __init__(self) -> None:
        self.boot = "first"
        self.answers: list[web.Response] = []
        self.reports: list[dict] = []
        self.requests: list[web.Request] = []
        self.connections: list[object] = []
        self.largest = 1 << 20
        self.malformed = b"\0"
        """Reports that contain these bytes are rejected as invalid."""
        self.delays: list[float] = []
        """How long, in seconds, the server delays its next responses, with one entry per request."""
        self.arrived: list[float] = []
        self._changed = asyncio.Condition()

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.delays:
            await asyncio.sleep(self.delays.pop(0))
        self.arrived.append(asyncio.get_running_loop().time())
        self.connections.append(request.transport and request.transport.get_extra_info("peername"))
        async with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            if self.answers:
                return self.answers.pop(0)
            if len(body) > self.largest:
                return web.Response(status=413, text="too large")
            if self.malformed in body:
                return web.Response(status=400, text="$.pulls[0].id: no")
            self.reports.append(json.loads(body))
        return web.json_response({"bootId": self.boot})

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(true)

    def acknowledged(self) -> list[str]:
        """Return the ids of the completed pulls in the order in which they were acknowledged."""
        return [
            pull["id"] for report in self.reports for pull in report.get("pulls") or [] if pull["status"] == "completed"
        ]


@asynccontextmanager
async def serving(server: Server, port: int) -> AsyncIterator[None]:
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/base/api/v1/report", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


def pull(name: str, status: PullPhase = PullPhase.COMPLETED, *, layers: int = 1) -> PullState:
    """Return a pull with this many layers. By default, the status of the pull is ``COMPLETED``."""
    made = [LayerState(digest=f"sha256:{number:064x}", total_bytes=number) for number in range(layers)]
    return PullState(id=name, status=status, layers=made)
