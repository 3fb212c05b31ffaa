"""A real server that listens on free loopback ports."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from pulltrace.server.limits import Limits
from pulltrace.server.run import serve
from tests.patience import PATIENCE
from tests.server.build import settings


@dataclass
class Served:
    """A running server, and an HTTP client for it."""

    port: int
    metrics_port: int
    client: aiohttp.ClientSession
    task: asyncio.Task[None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def post(self, body: Any, **headers: str) -> aiohttp.ClientResponse:
        answer = await self.client.post(f"{self.url}/api/v1/report", data=body, headers=headers)
        await answer.read()
        return answer

    async def get(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        answer = await self.client.get(self.url + path, headers=headers)
        await answer.read()
        return answer

    async def until_published(self, text: str) -> None:
        """Read the stream until this text arrives. By then, the lists also include the change that the stream
        announced.
        """
        async with self.client.get(f"{self.url}/api/v1/events") as stream:
            async for line in stream.content:
                if text.encode() in line:
                    return

    async def metrics(self) -> str:
        async with self.client.get(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            return await answer.text()

    async def until_measured(self, line: str) -> None:
        """Scrape the metrics until they contain this line."""
        while line not in await self.metrics():
            pass

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def server() -> AsyncIterator[Serve]:
    """Return a function that starts servers: ``await server(TOKEN="…", limits=Limits(…))``."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(limits: Limits | None = None, **environ: str) -> Served:
            ready: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
            serving = serve(settings(**environ), on_ready=lambda *ports: ready.set_result(ports), limits=limits)
            task = asyncio.create_task(serving)
            await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            client = await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=PATIENCE)
                )
            )
            served = Served(*ready.result(), client, task)
            stack.push_async_callback(served.stop)
            return served

        yield start
