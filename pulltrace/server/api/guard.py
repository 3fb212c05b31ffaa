"""The connection guard: an asyncio protocol between the socket and uvicorn's HTTP protocol.

uvicorn accepts any protocol factory (its option ``http``). The guard creates uvicorn's protocol, passes every callback
on, and offers a request what ASGI does not: to wait for the end of its connection, and to abort it. A request finds its
guard in ``scope["state"]``.
"""

import asyncio
from typing import Any

from starlette.types import Message, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

UNSENT = 16 << 10
"""Bytes that may wait for a slow client in this process; the kernel holds as many. More would be older news."""
_KEY = "guard"


class Guard(asyncio.Protocol):
    """One connection."""

    def __init__(self, app_state: dict[str, Any], **uvicorn: Any) -> None:
        self._http = HttpToolsProtocol(app_state={**app_state, _KEY: self}, **uvicorn)
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @staticmethod
    def of(scope: Scope) -> "Guard":
        """Return the guard of the connection that a request arrived on."""
        guard: Guard = scope["state"][_KEY]
        return guard

    async def receive_disconnect(self) -> Message:
        """Wait for the end of the connection: an ASGI ``receive`` for requests whose body is of no interest.

        uvicorn notifies only the newest request on a connection; a pipelined request would keep an older one waiting.
        """
        await asyncio.shield(self._closed)
        return {"type": "http.disconnect"}

    async def abort(self) -> None:
        """Close the connection now, and discard what has not been sent."""
        self._transport.abort()
        await asyncio.shield(self._closed)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See ``asyncio.Protocol``."""
        self._transport = transport
        transport.set_write_buffer_limits(high=UNSENT)
        self._http.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._http.connection_lost(exc)
        self._closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        self._http.data_received(data)

    def eof_received(self) -> None:
        """See ``asyncio.Protocol``."""
        self._http.eof_received()

    def pause_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._http.resume_writing()
