"""Accept TLS connections, count them before the handshake, and limit the duration of the handshake. asyncio's own
servers report a connection to the application only after the handshake.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable

from pulltrace.server.api.fair_share import address_of
from pulltrace.server.api.guard import Guard, Listener

_PAUSE = 0.1
"""How long to pause, in seconds, after failing to accept a connection, for example for lack of free file descriptors.
"""


class TlsAcceptor:
    """Accepts TLS connections on one listening socket. ``make`` is a function that creates the protocol for a
    connection.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, listener: Listener, make: Callable[[], Guard]
    ) -> None:
        self._sock = sock
        self._context = context
        self._listener = listener
        self._make = make
        self._handshakes: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Accept connections until cancelled."""
        self._sock.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    connection, peer = await loop.sock_accept(self._sock)
                except OSError:
                    await asyncio.sleep(_PAUSE)
                else:
                    self._accept(connection, address_of(peer[0]))
        finally:
            for task in self._handshakes:
                task.cancel()

    def _accept(self, connection: socket.socket, address: str) -> None:
        guard = self._make()
        if not guard.admit(address):
            self._listener.refused("too_many_connections")
            connection.close()
            guard.connection_lost(None)
            return
        task = asyncio.create_task(self._secure(connection, guard))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _secure(self, connection: socket.socket, guard: Guard) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: guard,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._listener.limits.head_timeout,
            )
        except BaseException as error:
            connection.close()
            guard.connection_lost(None)  # if the handshake fails, nothing else reports that the connection has ended
            if not isinstance(error, OSError):  # a failed or late handshake raises an OSError
                raise
            self._listener.refused("tls_handshake")
