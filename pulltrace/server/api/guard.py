"""The connection guard: an asyncio protocol that sits between the socket and uvicorn's HTTP protocol.

uvicorn accepts any protocol factory through its ``http`` option. The guard rejects requests that are too large, arrive
too slowly, or exceed the limits on the number of requests. Data that causes a rejection is not passed to uvicorn.
The guard responds with 431, 413, 408 or 503. If a response is already being sent, the guard just closes the connection.
HTTP/1.1 connections are passed to uvicorn's httptools protocol. HTTP/1.0 connections are passed to uvicorn's h11
protocol, because HTTP/1.0 clients do not understand chunked responses.

Routes find a request's guard in ``scope["state"]``. The guard offers two operations that ASGI lacks: waiting until the
connection is closed, and aborting the connection.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pulltrace.server.api.fair_share import FairShare, address_of
from pulltrace.server.api.request_meter import Part, RefusedRequestError, RequestMeter
from pulltrace.server.limits import Limits

UNSENT = 16 << 10
"""Maximum number of bytes that this process buffers for a slow client. The kernel buffers about the same number of
unsent bytes (``TCP_NOTSENT_LOWAT``).

With larger buffers, the data would be outdated by the time the client received it.
"""
_KEY = "guard"


class Listener:
    """The state shared by the guards of one listening socket.

    ``refused`` is called for each refused request or connection, with the reason for the refusal.
    """

    def __init__(self, limits: Limits, share: FairShare, refused: Callable[[str], None]) -> None:
        self.limits = limits
        self.share = share
        self.refused = refused
        self.open_bytes = 0
        """The total size, in bytes, of all unfinished requests, excluding their bodies."""
        self.guards: set[Guard] = set()

    def protocol(self, *, app_state: dict[str, Any], **uvicorn: Any) -> "Guard":
        """Create the protocol for a new connection. uvicorn uses this method as its protocol factory."""
        return Guard(self, app_state, uvicorn)

    def close_idle(self) -> None:
        """Close the connections on which no complete request head has arrived. uvicorn does not know about these
        connections yet.
        """
        for guard in list(self.guards):
            guard.close_idle()


class Guard(asyncio.Protocol):
    """The guard for one connection."""

    def __init__(self, listener: Listener, app_state: dict[str, Any], uvicorn: dict[str, Any]) -> None:
        self._listener = listener
        self._options = {"app_state": {**app_state, _KEY: self}, **uvicorn}
        self._meter = RequestMeter(listener.limits)
        self._http: HttpToolsProtocol | H11Protocol | None = None
        self._first: list[bytes] = []
        """The head of the first request, buffered until it is complete. The HTTP version in this head determines which
        of uvicorn's protocols handles the connection.
        """
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._deadline: asyncio.TimerHandle | None = None
        self._timed = (Part.NONE, -1)
        self._admitted = self._refused = self._streaming = False
        self.address = ""
        """The client's address, in the form that ``FairShare`` uses."""

    @staticmethod
    def of(scope: Scope) -> "Guard":
        """Return the guard of a request's connection."""
        guard: Guard = scope["state"][_KEY]
        return guard

    @property
    def is_closed(self) -> bool:
        """Return whether the connection is closed."""
        return self._closed.done()

    @property
    def is_pipelined(self) -> bool:
        """Return whether several requests on this connection are waiting for a response."""
        return self._meter.pending > 1

    @property
    def has_whole_request(self) -> bool:
        """Return whether every request on this connection has been received completely."""
        return self._meter.part is Part.NONE

    def begin_stream(self) -> None:
        """Record that a stream has started on this connection. While the stream is open, the connection is closed if
        the client sends any data.
        """
        self._streaming = True

    def end_request(self) -> None:
        """Record that a response is complete."""
        self._meter.finished += 1
        self._streaming = False

    async def receive_disconnect(self) -> Message:
        """Wait until the connection is closed. For requests whose body is not needed, this method serves as the ASGI
        ``receive``.

        uvicorn notifies only the newest request on a connection. Older requests on a pipelined connection would
        therefore wait forever.
        """
        await asyncio.shield(self._closed)
        return {"type": "http.disconnect"}

    async def abort(self) -> None:
        """Close the connection now, and discard unsent data."""
        self._transport.abort()
        await asyncio.shield(self._closed)

    def close_idle(self) -> None:
        """Close the connection if no complete request head has arrived."""
        if self._http is None:
            self._transport.abort()

    def admit(self, address: str) -> bool:
        """Count the connection. Return False if the limit on the number of connections has been reached."""
        self.address = address
        self._admitted = self._listener.share.take(address)
        return self._admitted

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See ``asyncio.Protocol``."""
        self._transport = transport
        transport.set_write_buffer_limits(high=UNSENT)
        self._listener.guards.add(self)
        peer = transport.get_extra_info("peername")
        if self._admitted or self.admit(address_of(peer[0]) if peer else ""):
            self._deadline = self._loop.call_later(self._listener.limits.idle_timeout, self._late)
        else:
            self._refuse(503, "too_many_connections")

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        if self.is_closed:
            return
        if self._http:
            self._http.connection_lost(exc)
        self._listener.guards.discard(self)
        self._listener.open_bytes -= self._meter.open_bytes
        if self._admitted:
            self._listener.share.release(self.address)
        self._cancel_deadline()
        self._meter.open_bytes = 0
        self._meter.close()
        self._refused = True
        # The options and uvicorn's protocol form a reference cycle with the guard. If it were not broken here, only the
        # garbage collector could free these objects.
        self._options.clear()
        self._first.clear()
        self._http = None
        self._closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        if self._refused:
            return
        if self._streaming:
            self._refuse(400, "pipelined")
            return
        listener, meter = self._listener, self._meter
        before = meter.open_bytes
        try:
            meter.feed(data)
        except RefusedRequestError as error:
            self._refuse(error.status, error.reason)
            return
        finally:
            listener.open_bytes += meter.open_bytes - before
        if meter.open_bytes and listener.open_bytes > listener.limits.open_requests:
            self._refuse(503, "too_many_open_requests")
            return
        self._forward(data)
        if meter.part is Part.NONE:
            self._cancel_deadline()
        elif (meter.part, meter.begun) != self._timed:
            self._time(meter.part)

    def eof_received(self) -> None:
        """See ``asyncio.Protocol``."""
        if self._http:
            self._http.eof_received()

    def pause_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        if self._http:
            self._http.pause_writing()

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        if self._http:
            self._http.resume_writing()

    def _forward(self, data: bytes) -> None:
        if self._http:
            self._http.data_received(data)
            return
        self._first.append(data)
        if not self._meter.begun:
            return
        self._http = (H11Protocol if self._meter.version == "1.0" else HttpToolsProtocol)(**self._options)
        self._http.connection_made(self._transport)
        data, self._first = b"".join(self._first), []
        self._http.data_received(data)

    def _time(self, part: Part) -> None:
        """Start the timer for the part of the request that is currently being received.

        Between requests, uvicorn's keep-alive timeout applies.
        """
        self._timed = (part, self._meter.begun)
        self._cancel_deadline()
        limits = self._listener.limits
        if part is Part.HEAD:
            self._deadline = self._loop.call_later(limits.head_timeout, self._late)
        elif part is Part.BODY:
            # The route for reports responds with 408 before this timer expires.
            self._deadline = self._loop.call_later(1.5 * limits.body_timeout, self._late)

    def _cancel_deadline(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        part = self._meter.part
        reason = "body_too_slow" if part is Part.BODY else "head_too_slow" if part is Part.HEAD else "idle"
        self._refuse(408, reason)

    def _refuse(self, status: int, reason: str) -> None:
        """Send a response, unless another response is already being sent. Close the connection afterwards."""
        self._refused = True
        self._listener.refused(reason)
        if self._meter.pending or (status == 408 and not self._meter.begun and not self._first):
            self._transport.abort()
            return
        body = b'{"error":"%s"}' % reason.replace("_", " ").encode()
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        head += "retry-after: 5\r\n" if status == 503 else ""
        head += f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self._transport.write(head.encode() + body)
        self._transport.close()


class Counting:
    """Wraps an ASGI application, and notifies the connection's guard when a response is complete."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            Guard.of(scope).end_request()
