"""EDGE: HTTP/1.1 POST over one kept connection. h11 knows the protocol, asyncio the socket.

Of a whole HTTP client the agent needs this much; aiohttp would cost every node 10 MiB (``docs/adr``).
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import h11

_TIMEOUT = 10.0  # seconds one exchange may take, with connecting
_MAX_BODY = 64 << 10  # bytes of an answer worth reading


class HttpError(Exception):
    """No answer of HTTP came: ``kind`` of the error, and the message that says why."""

    def __init__(self, cause: Exception, hint: str = "") -> None:
        super().__init__(f"{cause}{hint}")
        self.kind = type(cause).__name__


class Answer(NamedTuple):
    """Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Poster:
    """Posts to one URL. An async context manager; redirects are answers like any other.

    ``ca_file`` has the certificates to verify an HTTPS server with, None: the system's. It is read at each connection.
    """

    def __init__(self, url: str, headers: Mapping[str, str], ca_file: str | None = None) -> None:
        parts = urlsplit(url)
        self._host, self._tls = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._target = parts.path or "/"
        self._ca_file = ca_file
        self._headers = {"Host": parts.netloc, **headers}
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._protocol = h11.Connection(h11.CLIENT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._hang_up()

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send it and read the answer. Raises ``HttpError``."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                if self._streams and not self._streams[0].at_eof():
                    try:
                        return await self._exchange(self._streams, body, headers)
                    except (OSError, h11.RemoteProtocolError):
                        pass  # the server hung up on a connection that had been idle: once more, on a new one
                return await self._exchange(await self._connect(), body, headers)
        except (OSError, TimeoutError, UnicodeError, h11.ProtocolError) as error:
            self._hang_up()
            wrong_ca = isinstance(error, ssl.SSLCertVerificationError)
            raise HttpError(error, "; does PULLTRACE_SERVER_CA_FILE name the server's CA?" * wrong_ca) from error

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._hang_up()
        context = self._context() if self._tls else None
        self._streams = await asyncio.open_connection(self._host, self._port, ssl=context)
        self._protocol = h11.Connection(h11.CLIENT)
        return self._streams

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            raise OSError(f"PULLTRACE_SERVER_CA_FILE={self._ca_file}: {error}") from error
        # Python 3.13 began to refuse authorities without every extension of RFC 5280: those of most private ones.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def _hang_up(self) -> None:
        if self._streams:
            self._streams[1].close()
        self._streams = None

    async def _exchange(
        self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        protocol = self._protocol
        lines = [*self._headers.items(), *headers.items(), ("Content-Length", str(len(body)))]
        request = h11.Request(method="POST", target=self._target, headers=lines)
        events = (request, h11.Data(data=body), h11.EndOfMessage())
        streams[1].write(b"".join(protocol.send(event) or b"" for event in events))
        status, found, data = 0, dict[str, str](), b""
        while type(event := await self._next_event(streams[0])) is not h11.EndOfMessage:
            if isinstance(event, h11.Response):
                status = event.status_code
                found = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                data += event.data
            if len(data) > _MAX_BODY:
                break
        if protocol.our_state is h11.DONE and protocol.their_state is h11.DONE:
            protocol.start_next_cycle()
        else:
            self._hang_up()
        return Answer(status, found, data[:_MAX_BODY])

    async def _next_event(self, reader: asyncio.StreamReader) -> object:
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            self._protocol.receive_data(await reader.read(_MAX_BODY))
        return event
