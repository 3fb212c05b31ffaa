"""``GET /api/v1/events``: admit up to a number of clients, and stream a subscription to each through sse-starlette."""

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
from pulltrace.server.api.guard import Guard
from pulltrace.server.api.subscription import Subscription
from pulltrace.server.pulls.hub import Hub

_log = logging.getLogger(__name__)


class EventsRoute:
    """The route, as a plain ASGI application. It counts its clients."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._clients = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        selection = query.parse(request.query_params.multi_items(), others=("lastEventId",))
        if self._clients >= self._hub.limits.readers:
            raise HTTPException(503, "too many clients", {"Retry-After": "5"})
        last = request.headers.get("last-event-id") or request.query_params.get("lastEventId")
        response = EventSourceResponse(
            self._follow(Subscription(self._hub, selection, last or None)),
            ping=0,  # the subscription has a keep-alive of its own, which carries an id
            send_timeout=self._hub.limits.client_timeout,
        )
        guard = Guard.of(scope)
        with self._counted():
            try:
                await response(scope, guard.receive_disconnect, send)
            except SendTimeoutError:
                self._hub.metrics.readers_dropped.inc()
                _log.info("reader.dropped", extra=fields(client=request.client and request.client.host))
                await guard.abort()

    async def _follow(self, subscription: Subscription) -> AsyncIterator[bytes]:
        for chunk in subscription.follow():
            if chunk:
                yield chunk
            else:
                await self._hub.next_frame()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._count(+1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        self._clients += change
        self._hub.metrics.readers.set(self._clients)
