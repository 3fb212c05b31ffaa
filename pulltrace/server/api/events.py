"""``GET /api/v1/events``: who may read, and writing to each reader without waiting for any. Plain ASGI.

A frame goes to hundreds of readers four times a second, so it is one loop over those that have everything until then,
and nothing stands between frame and socket. A reader that has not is written to whenever it has room.
"""

import asyncio
import logging

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from pulltrace.logs import fields
from pulltrace.server.api import query
from pulltrace.server.api.connection import Connection
from pulltrace.server.api.subscription import Subscription
from pulltrace.server.pulls.hub import Hub

_HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-accel-buffering", b"no"),  # nginx would hold back what is for now
    ],
}

_log = logging.getLogger(__name__)


class EventsRoute:
    """The route. It counts its readers itself: there are so many and no more."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._readers = 0
        self._waiting: set[_Writing] = set()
        hub.wake = self._wake

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
        await send(_HEAD)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
            return
        last = request.headers.get("last-event-id") or request.query_params.get("lastEventId")
        writing = _Writing(Subscription(self._hub, asked, last or None), Connection.of(scope), self._waiting, self._hub)
        self._count(+1)
        try:
            writing.go_on()
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            writing.stop()
            self._count(-1)

    def _wake(self) -> None:
        waiting = list(self._waiting)
        self._waiting.clear()
        for writing in waiting:
            writing.go_on()

    def _count(self, change: int) -> None:
        self._readers += change
        self._hub.metrics.readers.set(self._readers)


class _Writing:
    """One reader's answer, chunk by chunk. It waits for a frame, for room, or for the loop's next turn."""

    def __init__(self, reader: Subscription, connection: Connection, waiting: "set[_Writing]", hub: Hub) -> None:
        self._reader, self._connection, self._waiting, self._hub = reader, connection, waiting, hub
        self._chunks = reader.follow()
        self._loop = asyncio.get_running_loop()
        self._patience: asyncio.TimerHandle | None = None
        connection.on_room = self._has_room

    def go_on(self) -> None:
        """Write the next chunk. There is room for it, unless the reader has just gone."""
        if self._connection.is_gone:
            return
        try:
            chunk = next(self._chunks, None)
        except Exception:  # noqa: BLE001  # of this reader, and the others are not to miss a frame by it
            _log.exception("reader.failed")
            self._connection.abort()
            return
        if chunk is None:
            self._connection.end()
            return
        if chunk:
            self._connection.write(chunk)
        if self._connection.is_full:
            self._patience = self._loop.call_later(self._hub.limits.client_timeout, self._drop)
        elif not chunk or self._reader.has_everything:
            self._waiting.add(self)
        else:
            self._loop.call_soon(self.go_on)

    def stop(self) -> None:
        """The reader has gone."""
        self._waiting.discard(self)
        if self._patience:
            self._patience.cancel()

    def _has_room(self) -> None:
        if self._patience:
            self._patience.cancel()
            self._patience = None
            self.go_on()

    def _drop(self) -> None:
        self._hub.metrics.readers_dropped.inc()
        _log.info("reader.dropped", extra=fields(client=self._connection.client and self._connection.client[0]))
        self._connection.abort()
