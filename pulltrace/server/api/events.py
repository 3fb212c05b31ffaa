"""``GET /api/v1/events``: admit a limited number of clients, and stream events to them through sse-starlette."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from sse_starlette import EventSourceResponse
from sse_starlette.sse import SendTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from pulltrace.logs import fields
from pulltrace.server.api import query
from pulltrace.server.api.fair_share import FairShare
from pulltrace.server.api.guard import Guard
from pulltrace.server.api.responses import accepts_gzip
from pulltrace.server.api.subscription import Subscription
from pulltrace.server.pulls.hub import Hub

COLLECT_AFTER = 10.0
"""How long, in seconds, to wait after dropping a client before garbage-collecting its data."""

_log = logging.getLogger(__name__)


class EventsRoute:
    """The route for the event stream: a plain ASGI application that also counts the clients."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._collection: asyncio.TimerHandle | None = None
        self._share = FairShare(hub.limits.readers, hub.limits.readers_per_address)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        selection = query.parse(request.query_params.multi_items(), others=("lastEventId",))
        last = request.headers.get("last-event-id") or request.query_params.get("lastEventId")
        gzip = accepts_gzip(request)
        encoding = {"Content-Encoding": "gzip"} if gzip else {}
        response = EventSourceResponse(
            self._follow(Subscription(self._hub, selection, last or None, gzip=gzip)),
            headers=encoding | {"Vary": "Accept-Encoding"},
            ping=0,  # off, because the subscription sends keep-alive comments that contain an id
            send_timeout=self._hub.limits.client_timeout,
        )
        guard = Guard.of(scope)
        with self._slot(guard):
            try:
                await response(scope, guard.receive_disconnect, send)
            except SendTimeoutError as error:
                # The error and its exception group refer to each other. This reference cycle would keep the
                # connection's unsent data in memory.
                error.__context__ = error.__traceback__ = None
                self._hub.metrics.readers_dropped.inc()
                _log.info("reader.dropped", extra=fields(client=request.client and request.client.host))
                await guard.abort()
                self._collect_later()

    async def _follow(self, subscription: Subscription) -> AsyncIterator[bytes]:
        for chunk in subscription.follow():
            if chunk:
                yield chunk
            else:
                await self._hub.next_frame()

    @contextmanager
    def _slot(self, guard: Guard) -> Iterator[None]:
        """Reserve one of the server's stream slots until the ``with`` block ends.

        A connection that carries a stream must not carry any other requests. If the client sent a second request, the
        server would not notice the connection being closed.
        """
        if guard.is_pipelined:
            raise HTTPException(400, "another request follows on this connection, but a stream never ends")
        if not self._share.take(guard.address):
            raise HTTPException(503, self._refusal(), {"Retry-After": "5"})
        guard.begin_stream()
        self._hub.metrics.readers.set(self._share.count)
        try:
            yield
        finally:
            self._share.release(guard.address)
            self._hub.metrics.readers.set(self._share.count)

    def _collect_later(self) -> None:
        """Schedule a garbage collection, unless one is already scheduled. The scheduled collection will also free this
        client's data.

        A failed task group is part of a reference cycle, which keeps unsent data in memory. Only the garbage
        collector can free such a reference cycle.
        """
        if self._collection is None:
            self._collection = asyncio.get_running_loop().call_later(COLLECT_AFTER, self._collect)

    def _collect(self) -> None:
        self._collection = None
        gc.collect()

    def _refusal(self) -> str:
        limits = self._hub.limits
        if self._share.count >= limits.readers:
            return f"all {limits.readers} streams of this server are in use"
        share = f"your address has used its share of {limits.readers_per_address} streams"
        return f"{share}, and over half of all streams are in use"
