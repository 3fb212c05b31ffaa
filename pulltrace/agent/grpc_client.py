"""A gRPC client with one persistent connection to a Unix socket. ``http2.py`` implements HTTP/2.

The agent needs only a small part of gRPC, because each call sends one request and receives messages and a status. With
grpcio, the agent would use 15 MiB more memory and four more threads on every node (ADR 9). The server is not trusted:
any data that the server sends results in a response or an ``RpcError``.

Only ``containerd.py`` imports this module.

To return to grpcio, replace ``Channel`` and ``RpcError`` as follows:

- ``Channel.__init__``: ``grpc.aio.insecure_channel(f"unix:{socket}", options=[("grpc.default_authority", "localhost"),
  ("grpc.max_receive_message_length", MAX_RESPONSE)])``;
- ``call``: collect ``channel.unary_stream(method)(request, timeout=DEADLINE, metadata=metadata)`` in a list;
- ``calls``: ``asyncio.gather`` over ``call``, at most ``AT_ONCE`` at a time, each result wrapped in a ``Response``;
- ``connected``: ``channel.get_state() is ChannelConnectivity.READY``, but the state is slow to reflect a lost
  connection;
- ``RpcError``: translate ``grpc.aio.AioRpcError``, whose ``code().value[0]`` is the numeric ``Code``.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Self
from urllib.parse import unquote_to_bytes

from pulltrace.agent.http2 import DataReceived, Event, HeadersReceived, Http2, Http2Error, StreamReset, header_block

MAX_RESPONSE = 16 << 20
"""Maximum total size, in bytes, of the messages received in one call."""

MAX_PENDING = 32 << 20
"""Maximum number of response bytes that one connection buffers."""

DEADLINE = 10.0
"""Maximum duration of a call, in seconds, including the time to connect and the time in the queue."""

AT_ONCE = 100
"""Maximum number of concurrent calls. RFC 9113 (6.5.2) recommends that servers allow at least 100 streams."""


class Code(IntEnum):
    """gRPC's status codes (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_CODES = {str(code.value).encode(): code for code in Code}


class RpcError(Exception):
    """A call failed. ``code`` is the gRPC status; the error message contains the status name and the cause."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(f"{code.name}: {why}")
        self.code = code


class Channel:
    """Makes calls over one Unix socket. The channel is an async context manager.

    The first call opens the connection. If the connection breaks, the next call opens a new one.
    """

    def __init__(self, socket: str, metadata: Mapping[str, str]) -> None:
        self._socket = socket
        # Go's HTTP/2 server rejects the socket's path as :authority.
        self._headers = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":authority", b"localhost"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            *((name.encode(), value.encode()) for name, value in metadata.items()),
        ]
        self._blocks: dict[str, bytes] = {}  # encoded headers, by method
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection:
            self._connection.close("closed by the agent")

    @property
    def connected(self) -> bool:
        """Return whether the connection is open. If the connection is closed, the next call opens a new one."""
        return self._connection is not None and self._connection.closed_reason is None

    async def call(self, method: str, request: bytes) -> list[bytes]:
        """Call a method such as ``/package.Service/Method`` and return the messages received. Raises ``RpcError``."""
        async with _deadline(), self._turns:
            connection = await self._connect()
            responses = await connection.request([(self._block_of(method), request)])
        return responses[0].messages()

    async def calls(self, requests: Sequence[tuple[str, bytes]]) -> list["Response"]:
        """Make one call for each (method, request) pair. Up to ``AT_ONCE`` calls share one task, one deadline and one
        write to the socket.
        """
        responses: list[Response] = []
        for first in range(0, len(requests), AT_ONCE):
            batch = requests[first : first + AT_ONCE]
            async with _deadline():
                connection = await self._connect()
                responses += await connection.request([(self._block_of(name), body) for name, body in batch])
        return responses

    async def listen(self, method: str, request: bytes, take: Callable[[bytes], None]) -> None:
        """Pass each message received to ``take`` until the server ends the call. Raises ``RpcError``."""
        async with _deadline():
            connection = await self._connect()
        listener = Listener(take)
        await connection.listen(self._block_of(method), request, listener)
        listener.messages()

    def _block_of(self, method: str) -> bytes:
        """Return the encoded headers of calls to this method."""
        if method not in self._blocks:
            self._blocks[method] = header_block([(b":path", method.encode()), *self._headers])
        return self._blocks[method]

    async def _connect(self) -> "_Connection":
        if self._connection and self.connected:
            return self._connection
        async with self._connecting:
            if self._connection is None or not self.connected:
                loop = asyncio.get_running_loop()
                _, self._connection = await loop.create_unix_connection(_Connection, self._socket)
            return self._connection


@asynccontextmanager
async def _deadline() -> AsyncIterator[None]:
    """Raise ``RpcError`` if the connection fails or the ``with`` block takes too long."""
    try:
        async with asyncio.timeout(DEADLINE):
            yield
    except TimeoutError as error:
        raise RpcError(Code.DEADLINE_EXCEEDED, f"no response within {DEADLINE:g} s") from error
    except OSError as error:
        raise RpcError(Code.UNAVAILABLE, str(error)) from error


class Response:
    """The response to one call, as it arrives."""

    def __init__(self) -> None:
        self.done = asyncio.get_running_loop().create_future()
        """A future that completes as soon as no more data is expected."""
        self.size = 0
        """Number of message bytes received so far."""
        self._headers: dict[bytes, bytes] = {}
        self._data = bytearray()
        self._error: RpcError | None = None

    def add_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Add the headers that precede the messages, or the trailers that follow them."""
        self._headers.update(headers)

    def add_data(self, data: bytes) -> None:
        """Add the next bytes of the messages. If the messages become too large, the call fails."""
        if self.done.done():
            return
        self._data += data
        self.size += len(data)
        if self.size > MAX_RESPONSE:
            self.refuse(MAX_RESPONSE)

    def refuse(self, limit: int) -> None:
        """Fail the call because the response is too large, and free the data received so far."""
        self._data.clear()
        self.finish(RpcError(Code.RESOURCE_EXHAUSTED, f"a response of more than {limit} bytes"))

    def finish(self, error: RpcError | None = None) -> None:
        """Stop waiting for data."""
        if not self.done.done():
            self._error = error
            self.done.set_result(None)

    def messages(self) -> list[bytes]:
        """Return the messages. Raises ``RpcError`` if the call failed or its status is not OK."""
        if self._error:
            raise self._error
        status = self._headers.get(b"grpc-status")
        if status is None:
            http = self._headers.get(b":status", b"none").decode(errors="replace")
            raise RpcError(Code.UNKNOWN, f"not gRPC: HTTP status {http}")
        code = _CODES.get(status, Code.UNKNOWN)
        if code is not Code.OK:
            raise RpcError(code, unquote_to_bytes(self._headers.get(b"grpc-message", b"")).decode(errors="replace"))
        return list(_split(bytes(self._data)))


class Listener(Response):
    """A response that may never end. Each message is passed on as soon as it is complete."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        super().__init__()
        self._take = take

    def add_data(self, data: bytes) -> None:
        """Pass on every complete message, and keep any incomplete message until the rest of it arrives."""
        super().add_data(data)
        try:
            while (size := _first_size(self._data)) is not None and not self.done.done():
                for message in _split(bytes(self._data[:size])):
                    self._take(message)
                del self._data[:size]
        except RpcError as error:
            self._data.clear()
            self.finish(error)
        self.size = len(self._data)


class _Connection(asyncio.Protocol):
    """One connection. ``closed_reason`` is None while the connection is open. A closed connection has no buffers."""

    def __init__(self) -> None:
        self.closed_reason: str | None = None
        self._http2: Http2 | None = Http2()
        self._responses: dict[int, Response] = {}  # the responses that a task is waiting for, by stream id
        self._pending = 0  # number of bytes in ``_responses``
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # for mypy: create_unix_connection passes no other kind
        self._transport = transport
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(str(exc or "the connection was closed"))

    def data_received(self, data: bytes) -> None:
        if self._http2 is None:
            return
        try:
            for event in self._http2.receive(data):
                self._handle(event)
        except Http2Error as error:
            self.close(str(error))
        else:
            self._flush()

    def pause_writing(self) -> None:
        self.close("the server does not read")

    async def request(self, calls: Iterable[tuple[bytes, bytes]]) -> list[Response]:
        """Make these calls, and return the responses once all calls have completed or failed."""
        streams = [self._send(block, request) for block, request in calls]
        responses = [Response() for _ in streams]
        self._responses.update(zip(streams, responses, strict=True))
        try:
            self._flush()
            for response in responses:
                await response.done
        finally:
            for stream in streams:
                self._forget(stream)
        return responses

    async def listen(self, block: bytes, request: bytes, listener: Listener) -> None:
        """Make one call, and return when the call has ended."""
        stream = self._send(block, request)
        self._responses[stream] = listener
        try:
            self._flush()
            await listener.done
        finally:
            self._forget(stream)

    def close(self, reason: str) -> None:
        """Close the connection and free its buffers. Calls in progress fail."""
        self.closed_reason = self.closed_reason or reason
        for response in self._responses.values():
            response.finish(RpcError(Code.UNAVAILABLE, self.closed_reason))
        transport, self._transport, self._http2 = self._transport, None, None
        if transport:
            transport.abort()

    def _send(self, block: bytes, request: bytes) -> int:
        if self._http2 is None:
            raise RpcError(Code.UNAVAILABLE, str(self.closed_reason))
        try:
            return self._http2.request(block, b"\0" + len(request).to_bytes(4) + request)
        except Http2Error as error:
            self.close(f"no more calls: {error}")
            raise RpcError(Code.UNAVAILABLE, f"no more calls: {error}") from error

    def _forget(self, stream: int) -> None:
        """Drop a call that no task is waiting for. If the server has not ended the call's stream, reset it."""
        response = self._responses.pop(stream, None)
        if response is None:
            return
        self._pending -= response.size
        if self._http2 is None or stream not in self._http2.open:
            return
        if self._http2.mid_frame:
            # If a server stops in the middle of a frame, it might not speak HTTP/2 at all.
            self.close("not HTTP/2: an incomplete frame")
            return
        self._http2.reset(stream)
        self._flush()

    def _handle(self, event: Event) -> None:
        response = self._responses.get(event.stream)
        if response is None:
            return
        match event:
            case HeadersReceived():
                response.add_headers(event.headers)
            case DataReceived():
                self._add_data(response, event.data)
            case StreamReset():
                response.finish(RpcError(Code.CANCELLED, f"the call was reset ({event.code})"))
                return
        if event.ended:
            response.finish()

    def _add_data(self, response: Response, data: bytes) -> None:
        before = response.size
        response.add_data(data)
        self._pending += response.size - before
        if self._pending > MAX_PENDING:
            response.refuse(MAX_PENDING)

    def _flush(self) -> None:
        """Write all pending output to the socket."""
        if self._transport and self._http2 and (data := self._http2.output()):
            self._transport.write(data)


def _first_size(data: bytearray) -> int | None:
    """Return the size of the first message, including its prefix; None while the message is incomplete."""
    if len(data) < 5:
        return None
    size = 5 + int.from_bytes(data[1:5], "big")
    return size if len(data) >= size else None


def _split(data: bytes) -> Iterator[bytes]:
    """Yield the messages. Each message is prefixed with a compression flag (always 0, because we do not accept
    compression) and its length.
    """
    start = 0
    while start < len(data):
        flag, size = data[start], int.from_bytes(data[start + 1 : start + 5], "big")
        start, end = start + 5, start + 5 + size
        if flag or len(data) < end:
            raise RpcError(Code.INTERNAL, "the response cannot be decoded")
        yield data[start:end]
        start = end
