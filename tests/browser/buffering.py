"""A proxy that holds back each response until it is complete, as some proxies do regardless of the response's headers.

Unlike such proxies, nginx passes data on immediately, even if it is configured to buffer responses
(tests/faults/test_clients.py).
"""

import asyncio
from typing import Self

from aiohttp import ClientSession, web


class BufferingProxy:
    """A buffering proxy in front of a server on this machine, as an async context manager. ``let_through`` turns off
    the buffering.
    """

    def __init__(self, target: str) -> None:
        self._target, self._free, self.port = target.rstrip("/"), asyncio.Event(), 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def __aenter__(self) -> Self:
        self._client = ClientSession()
        app = web.Application()
        app.router.add_get("/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._client.close()

    def let_through(self) -> None:
        self._free.set()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        async with self._client.get(self._target + request.path_qs) as answer:
            kept = ("Content-Type", "Content-Security-Policy", "ETag")
            headers = {name: answer.headers[name] for name in kept if name in answer.headers}
            if not self._free.is_set():
                return web.Response(status=answer.status, headers=headers, body=await answer.read())
            response = web.StreamResponse(status=answer.status, headers=headers)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            return response
