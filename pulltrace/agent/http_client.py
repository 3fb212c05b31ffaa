"""An HTTP/1.1 client that posts to one URL over one persistent connection. h11 implements the protocol.

The agent needs only a small part of HTTP, because it only posts a body and reads the response. With aiohttp, the agent
would use 10 MiB more memory on every node (ADR 3).

Only this module imports h11. ``pyproject.toml`` requires an h11 version below 1. To return to aiohttp, replace
``Poster`` with one ``aiohttp.ClientSession``:

- ``post``: ``session.post(url, data=body, headers=headers, allow_redirects=False, timeout=ClientTimeout(_TIMEOUT))``,
  then ``Response(response.status, {name.lower(): value …}, await response.content.read(_MAX_BODY))``;
- ``HttpError``: translate ``aiohttp.ClientError``, ``OSError`` and ``TimeoutError``;
- TLS: pass ``_context()`` to ``aiohttp.TCPConnector(ssl=…)``, and a new one whenever the CA file has changed;
- leave ``trust_env`` at False, so that proxies configured in the environment are ignored.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlsplit

import h11

if TYPE_CHECKING:
    import ssl

_TIMEOUT = 10.0  # maximum number of seconds for one request, including connecting
_MAX_BODY = 64 << 10  # maximum size of a response body, in bytes


class HttpError(Exception):
    """No HTTP response arrived. ``kind`` is the name of the underlying exception class."""

    def __init__(self, cause: Exception, hint: str = "") -> None:
        super().__init__(f"{cause}{hint}")
        self.kind = type(cause).__name__


class Response(NamedTuple):
    """A response. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Poster:
    """An async context manager that posts to one URL and does not follow redirects.

    ``ca_file`` is the path of a file with the CA certificates for verifying an HTTPS server. The CA file is read for
    each new connection. If ``ca_file`` is None, the system's CA certificates are used.
    """

    def __init__(self, url: str, headers: Mapping[str, str], ca_file: str | None = None) -> None:
        parts = urlsplit(url)
        self._host, self._tls = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._target = parts.path or "/"
        self._ca_file = ca_file
        self._headers = {"Host": parts.netloc, **headers}
        self._connection: _Connection | None = None

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
        lines = [*self._headers.items(), *headers.items(), ("Content-Length", str(len(body)))]
        request = h11.Request(method="POST", target=self._target, headers=lines)
        if self._connection and self._connection.is_open:
            try:
                return await self._connection.exchange(request, body)
            except (OSError, h11.RemoteProtocolError):
                # The server may have just closed the idle connection. The report can safely be posted again, because
                # the server recognises a duplicate by its sequence number.
                pass
        return await (await self._connect()).exchange(request, body)

    async def _connect(self) -> "_Connection":
        self._close()
        context = self._context() if self._tls else None
        loop = asyncio.get_running_loop()
        _, self._connection = await loop.create_connection(_Connection, self._host, self._port, ssl=context)
        return self._connection

    def _context(self) -> "ssl.SSLContext":
        import ssl  # noqa: PLC0415  # a node that posts plain HTTP needs no TLS

        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            raise OSError(f"PULLTRACE_SERVER_CA_FILE={self._ca_file}: {error}") from error
        # Since 3.13, Python rejects CA certificates that lack an extension required by RFC 5280. Most private CA
        # certificates lack this extension.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def _close(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None


class _Connection(asyncio.Protocol):
    """One connection, which handles one request and its response at a time."""

    def __init__(self) -> None:
        self._protocol = h11.Connection(h11.CLIENT)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Response] | None = None
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body = b""

    @property
    def is_open(self) -> bool:
        """Return whether the connection can be used for another request."""
        return self._transport is not None

    async def exchange(self, request: h11.Request, body: bytes) -> Response:
        """Send a request and return the response, with at most ``_MAX_BODY`` bytes of its body."""
        events = (request, h11.Data(data=body), h11.EndOfMessage())
        data = b"".join(self._protocol.send(event) or b"" for event in events)
        self._waiter = asyncio.get_running_loop().create_future()
        self._body = b""
        if self._transport:
            self._transport.write(data)
        return await self._waiter

    def close(self) -> None:
        """Close the connection."""
        transport, self._transport = self._transport, None
        if transport:
            transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # for mypy: create_connection passes no other kind
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if exc and self._waiter and not self._waiter.done():
            self._waiter.set_exception(exc)
        self.data_received(b"")
        self.close()

    def data_received(self, data: bytes) -> None:
        """Process the next bytes of the response. Empty ``data`` means that the server has closed the connection."""
        if self._waiter is None or self._waiter.done():
            self.close()  # these bytes do not belong to any request
            return
        try:
            self._protocol.receive_data(data)
            while (event := self._protocol.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if self._is_last(event):
                    self._waiter.set_result(Response(self._status, self._headers, self._body[:_MAX_BODY]))
                    break
        except h11.RemoteProtocolError as error:
            self.close()
            self._waiter.set_exception(error)

    def _is_last(self, event: object) -> bool:
        """Process an h11 event. Return whether the event ends the response, or makes it exceed the size limit."""
        match event:
            case h11.Response():
                self._status = event.status_code
                self._headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            case h11.Data():
                self._body += event.data
                if len(self._body) > _MAX_BODY:
                    self.close()
                    return True
            case h11.EndOfMessage():
                if self._protocol.our_state is self._protocol.their_state is h11.DONE:
                    self._protocol.start_next_cycle()
                else:
                    self.close()
                return True
        return False
