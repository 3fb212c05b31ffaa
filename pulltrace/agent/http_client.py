"""An HTTP/1.1 client that posts to one URL, on one kept connection. h11 implements HTTP, asyncio the socket.

The agent needs little of HTTP: a POST and the response. aiohttp would cost every node 10 MiB (ADR 3).

This module is the only one that imports h11, which is limited to versions below 1 in ``pyproject.toml``. To return to
aiohttp, replace ``Poster`` by one ``aiohttp.ClientSession``:

- ``post``: ``session.post(url, data=body, headers=headers, allow_redirects=False, timeout=ClientTimeout(_TIMEOUT))``,
  then ``Response(response.status, {name.lower(): value …}, await response.content.read(_MAX_BODY))``;
- ``HttpError``: translate ``aiohttp.ClientError``, ``OSError`` and ``TimeoutError``;
- TLS: pass ``_context()`` to ``aiohttp.TCPConnector(ssl=…)``, and a new one whenever the CA file has changed;
- leave ``trust_env`` at False, so that no proxy of the environment is used.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlsplit

import h11

if TYPE_CHECKING:
    import ssl

_TIMEOUT = 10.0  # seconds one request may take, including connecting
_MAX_BODY = 64 << 10  # maximum bytes of a response body

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class HttpError(Exception):
    """No HTTP response arrived. ``kind`` is the name of the underlying exception."""

    def __init__(self, cause: Exception, hint: str = "") -> None:
        super().__init__(f"{cause}{hint}")
        self.kind = type(cause).__name__


class Response(NamedTuple):
    """A response. The names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Poster:
    """Posts to one URL. An async context manager; it does not follow redirects.

    ``ca_file`` contains the certificates for verifying an HTTPS server; None means the system's. It is read each time a
    connection is made.
    """

    def __init__(self, url: str, headers: Mapping[str, str], ca_file: str | None = None) -> None:
        parts = urlsplit(url)
        self._host, self._tls = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._target = parts.path or "/"
        self._ca_file = ca_file
        self._headers = {"Host": parts.netloc, **headers}
        self._streams: _Streams | None = None
        self._protocol = h11.Connection(h11.CLIENT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Response:
        """Send the body and read the response. Raises ``HttpError``."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await self._post(body, headers)
        except (OSError, TimeoutError, UnicodeError, h11.ProtocolError) as error:
            self._close()
            hint = ""
            if type(error).__name__ == "SSLCertVerificationError":
                hint = "; does PULLTRACE_SERVER_CA_FILE name the server's CA?"
            raise HttpError(error, hint) from error

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> Response:
        if self._streams and not self._streams[0].at_eof():
            try:
                return await self._exchange(self._streams, body, headers)
            except (OSError, h11.RemoteProtocolError):
                # The server may have closed the idle connection at that moment. Posting the report again is safe even
                # if the server has already received it: its sequence number identifies the duplicate.
                pass
        return await self._exchange(await self._connect(), body, headers)

    async def _connect(self) -> _Streams:
        self._close()
        context = self._context() if self._tls else None
        self._streams = await asyncio.open_connection(self._host, self._port, ssl=context)
        self._protocol = h11.Connection(h11.CLIENT)
        return self._streams

    def _context(self) -> "ssl.SSLContext":
        import ssl  # noqa: PLC0415  # a node that posts plain HTTP needs no TLS

        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            raise OSError(f"PULLTRACE_SERVER_CA_FILE={self._ca_file}: {error}") from error
        # Since 3.13, Python rejects certificate authorities that lack any extension of RFC 5280. Most private ones lack
        # at least one.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def _close(self) -> None:
        if self._streams:
            self._streams[1].close()
        self._streams = None

    async def _exchange(self, streams: _Streams, body: bytes, headers: Mapping[str, str]) -> Response:
        protocol = self._protocol
        lines = [*self._headers.items(), *headers.items(), ("Content-Length", str(len(body)))]
        request = h11.Request(method="POST", target=self._target, headers=lines)
        events = (request, h11.Data(data=body), h11.EndOfMessage())
        streams[1].write(b"".join(protocol.send(event) or b"" for event in events))
        response = await self._response(streams[0])
        if protocol.our_state is h11.DONE and protocol.their_state is h11.DONE:
            protocol.start_next_cycle()
        else:
            self._close()
        return response

    async def _response(self, reader: asyncio.StreamReader) -> Response:
        """Read a response, but no more than ``_MAX_BODY`` bytes of its body."""
        status, headers, body = 0, dict[str, str](), b""
        while len(body) <= _MAX_BODY:
            event = await self._next_event(reader)
            if isinstance(event, h11.EndOfMessage):
                break
            if isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
        return Response(status, headers, body[:_MAX_BODY])

    async def _next_event(self, reader: asyncio.StreamReader) -> object:
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            self._protocol.receive_data(await reader.read(_MAX_BODY))
        return event
