"""``GET /api/v1/events``: who may read, and writing to each reader without waiting for any. Plain ASGI.

A frame goes to hundreds of readers four times a second, so nothing stands between it and the socket but uvicorn.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from pulltrace.logs import fields
from pulltrace.server import query
from pulltrace.server.hub import Hub
from pulltrace.server.stream import Reader

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold back what is for now
]

_log = logging.getLogger(__name__)


class EventsRoute:
    """The route. It counts its readers itself: there are so many and no more."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._readers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            asked = query.parse(request.query_params.multi_items(), others=("lastEventId",))
        except query.QueryError as error:
            await JSONResponse({"error": str(error)}, 400)(scope, receive, send)
            return
        if self._readers >= self._hub.limits.readers:
            await JSONResponse({"error": "too many readers"}, 503, {"Retry-After": "5"})(scope, receive, send)
            return
        last = request.headers.get("last-event-id") or request.query_params.get("lastEventId")
        writing = _Writing(Reader(self._hub, asked, last or None).follow(), send, self._hub.limits.reader_timeout)
        self._count(+1)
        try:
            await writing.until_gone(receive)
        finally:
            self._count(-1)
        if writing.dropped:
            self._hub.metrics.readers_dropped.inc()
            _log.info("reader.dropped", extra=fields(client=scope["client"] and scope["client"][0]))
            # What is under way cannot be recalled, and uvicorn would call it our fault to end here. The kernel closes
            # the connection (TCP_USER_TIMEOUT, see run.py).
            await receive()

    def _count(self, change: int) -> None:
        self._readers += change
        self._hub.metrics.readers.set(self._readers)


class _Writing:
    """One reader's answer, chunk by chunk."""

    def __init__(self, chunks: AsyncIterator[bytes], send: Send, timeout: float) -> None:
        self._chunks, self._send, self._timeout = chunks, send, timeout
        self.dropped = False
        """It took nothing for too long."""

    async def until_gone(self, receive: Receive) -> None:
        """Write until there is nothing more to write, the reader goes, or is dropped."""
        self._task = asyncio.create_task(self._write())
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait((self._task, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._task.cancel()
            leaving.cancel()
            await asyncio.wait((self._task, leaving))
        if not self._task.cancelled():
            self._task.result()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        # A cancellation that left would keep this frame, the last chunk in it, until the collector comes.
        with contextlib.suppress(asyncio.CancelledError):
            async for chunk in self._chunks:
                # A timer costs less than a timeout's scope, and it is set for each reader and each frame.
                timer = loop.call_later(self._timeout, self._drop)
                try:
                    await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
                finally:
                    timer.cancel()
            await self._send({"type": "http.response.body", "body": b""})

    def _drop(self) -> None:
        self.dropped = True
        self._task.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
