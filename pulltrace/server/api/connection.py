"""uvicorn's connection, and what our streams need beyond ASGI: to be written to without waiting."""

import asyncio
from collections.abc import Callable

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

UNSENT = 16 << 10
"""Bytes that wait for a slow reader in this process, and as many in the kernel."""
_KEY = "pulltrace.connection"


class Connection(HttpToolsProtocol):
    """One connection. A request finds its own in its scope.

    What a reader has not taken yet is little, so that a slow one is soon told the newest state. What it had not taken
    when it went is freed at once: connection and request hold each other, and the collector, which we have calmed,
    may come an hour later.
    """

    on_room: Callable[[], None] | None = None
    """Called when a full connection has room again."""

    @staticmethod
    def of(scope: Scope) -> "Connection":
        """The one that a request came by."""
        connection: Connection = scope[_KEY]
        return connection

    @property
    def is_gone(self) -> bool:
        """Nothing may be written any more."""
        return self.transport.is_closing()

    @property
    def is_full(self) -> bool:
        """The other side has taken too little lately."""
        return self.flow.write_paused

    def write(self, chunk: bytes) -> None:
        """Write one chunk of an answer whose head was sent. uvicorn would copy it, and await what never waits."""
        self.transport.writelines((b"%x\r\n" % len(chunk), chunk, b"\r\n"))

    def end(self) -> None:
        """End the answer, and with it the connection, once all is sent."""
        self.transport.write(b"0\r\n\r\n")
        self.transport.close()

    def abort(self) -> None:
        """End it now, whatever was not sent yet."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=UNSENT)

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        super().connection_lost(exc)
        self.cycle = self.scope = self.on_room = None  # type: ignore[assignment]

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        super().resume_writing()
        if self.on_room:
            self.on_room()

    def on_message_begin(self) -> None:
        """See ``httptools``."""
        super().on_message_begin()
        self.scope[_KEY] = self  # type: ignore[literal-required]
