"""EDGE: gRPC's calls on a unix socket, over one kept connection. h2 knows the protocol, asyncio the socket.

Of a whole gRPC client the agent needs this much: one request, its answers, a status. grpcio would cost every node
15 MiB and four threads (``docs/adr``). The other end is not trusted: whatever it says ends in an ``RpcError``.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from enum import IntEnum
from typing import Self
from urllib.parse import unquote_to_bytes

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError, StreamClosedError

MAX_ANSWER = 16 << 20
"""Bytes of all messages of one call together."""

DEADLINE = 10.0
"""Seconds a call may take, with connecting and its turn."""

AT_ONCE = 100
"""Calls at the same time: HTTP/2 asks servers to allow no fewer, and so many requests fit into its first window."""

# What we send is constant, and of what comes we read three headers: there is nothing to put in order.
_CONFIGURATION = H2Configuration(
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
)

_Headers = list[tuple[str, str]]


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
    """No answer, or not a good one: ``code`` says which kind, the message has its name and why."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(f"{code.name}: {why}")
        self.code = code


class Channel:
    """Calls on one socket. An async context manager; it connects at the first call, and again after a break."""

    def __init__(self, socket: str, metadata: Mapping[str, str]) -> None:
        self._socket = socket
        # Go's HTTP/2 refuses the socket's path as :authority.
        self._headers: _Headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *metadata.items(),
        ]
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection:
            self._connection.end("closed by ourselves")

    @property
    def connected(self) -> bool:
        """False from the moment the connection broke until the next call has made a new one."""
        return self._connection is not None and self._connection.ended is None

    async def call(self, method: str, request: bytes) -> list[bytes]:
        """Call ``method``, named ``/package.Service/Method``. Returns the messages of the answer; raises RpcError."""
        async with _deadline(), self._turns:
            [answer] = await self._ask(method, [request])
        return answer.messages()

    async def calls(self, method: str, requests: Sequence[bytes]) -> list["Answer"]:
        """One call for each request, a hundred at once: one task, one deadline and one write for those."""
        answers: list[Answer] = []
        for first in range(0, len(requests), AT_ONCE):
            async with _deadline():
                answers += await self._ask(method, requests[first : first + AT_ONCE])
        return answers

    async def _ask(self, method: str, requests: Sequence[bytes]) -> list["Answer"]:
        connection = await self._connect()
        return await connection.ask([(":path", method), *self._headers], requests)

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
    """Raises RpcError when what is inside takes too long, or there is no connection for it."""
    try:
        async with asyncio.timeout(DEADLINE):
            yield
    except TimeoutError as error:
        raise RpcError(Code.DEADLINE_EXCEEDED, f"no answer within {DEADLINE:g} s") from error
    except OSError as error:
        raise RpcError(Code.UNAVAILABLE, str(error)) from error


class _H2(H2Connection):
    MAX_CLOSED_STREAMS = 1 << 10  # as many calls are remembered, to tell a late answer from nonsense; not 65,536


class Answer:
    """What came of one call."""

    def __init__(self) -> None:
        self.whole = asyncio.get_running_loop().create_future()
        self.over = False
        """The other end has said its last, which it has not when we would hear no more."""
        self._headers: dict[bytes, bytes] = {}
        self._data = bytearray()
        self._error: RpcError | None = None

    def take_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Those before the messages, or those after."""
        self._headers.update(headers)

    def take_data(self, data: bytes) -> None:
        """The next bytes. Too many are an error."""
        self._data += data
        if len(self._data) > MAX_ANSWER:
            self._data.clear()
            self.end(RpcError(Code.RESOURCE_EXHAUSTED, f"an answer of more than {MAX_ANSWER} bytes"))

    def end(self, error: RpcError | None = None) -> None:
        """No more will come."""
        if not self.whole.done():
            self._error = error
            self.whole.set_result(None)

    def messages(self) -> list[bytes]:
        """Its messages; raises RpcError when the call failed or the status is not OK."""
        if self._error:
            raise self._error
        status = self._headers.get(b"grpc-status")
        if status is None:
            http = self._headers.get(b":status", b"none").decode(errors="replace")
            raise RpcError(Code.UNKNOWN, f"no gRPC: HTTP status {http}")
        code = _CODES.get(status, Code.UNKNOWN)
        if code is not Code.OK:
            raise RpcError(code, unquote_to_bytes(self._headers.get(b"grpc-message", b"")).decode(errors="replace"))
        return list(_split(bytes(self._data)))


class _Connection(asyncio.Protocol):
    """One connection, from its beginning to its end: ``ended`` says why, None while it lives."""

    def __init__(self) -> None:
        self.ended: str | None = None
        self._h2 = _H2(_CONFIGURATION)
        self._answers: dict[int, Answer] = {}  # of calls that somebody waits for
        self._transport: asyncio.Transport | None = None
        self._in_half = False  # what came last had no end, and may be no frame

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # for mypy: create_unix_connection makes no other
        self._transport = transport
        self._h2.initiate_connection()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(str(exc or "the connection closed"))

    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
            for event in events:
                self._take_in(event)
        except ProtocolError as error:
            self.end(f"no HTTP/2: {error}")
        else:
            # A late word of a call that was given up makes no event: h2 answers it.
            answered = self._flush()
            self._in_half = not events and not answered

    def pause_writing(self) -> None:
        self.end("the other end does not read")

    async def ask(self, headers: _Headers, requests: Iterable[bytes]) -> list[Answer]:
        """Make calls; returns their answers when all are whole, or failed."""
        streams = [self._send(headers, request) for request in requests]
        answers = [Answer() for _ in streams]
        self._answers.update(zip(streams, answers, strict=True))
        try:
            self._flush()
            for answer in answers:
                await answer.whole
        finally:
            for stream in streams:
                self._forget(stream)
        return answers

    def end(self, why: str) -> None:
        """Hang up. Calls under way fail."""
        self.ended = self.ended or why
        for answer in self._answers.values():
            answer.end(RpcError(Code.UNAVAILABLE, self.ended))
        if self._transport:
            self._transport.abort()

    def _send(self, headers: _Headers, request: bytes) -> int:
        body = b"\0" + len(request).to_bytes(4, "big") + request
        try:
            stream = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream, headers)
            self._h2.send_data(stream, body, end_stream=True)
        except ProtocolError as error:
            self.end(f"no more calls: {error}")
            raise RpcError(Code.UNAVAILABLE, f"no more calls: {error}") from error
        return stream

    def _forget(self, stream: int) -> None:
        """Nobody waits for it any more; the other end is told when it is still at it."""
        answer = self._answers.pop(stream)
        if answer.over or self.ended is not None:
            return
        if self._in_half:
            # h2 waits for the rest of a frame, even of one that is far too long: whatever that is, it is no answer.
            self.end("no HTTP/2: half a frame")
        else:
            with suppress(StreamClosedError):
                self._h2.reset_stream(stream, ErrorCodes.CANCEL)
            self._flush()

    def _take_in(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.end("containerd hung up")
            return
        answer = self._answers.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, DataReceived):
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if answer:
                answer.take_data(event.data)
        elif answer is None:
            pass  # nobody waits for it any more
        elif isinstance(event, ResponseReceived | TrailersReceived):
            answer.take_headers(event.headers)
        elif isinstance(event, StreamEnded):
            answer.over = True
            answer.end()
        elif isinstance(event, StreamReset):
            answer.over = True
            answer.end(RpcError(Code.CANCELLED, f"the call was reset ({event.error_code})"))

    def _flush(self) -> bool:
        """Write what is to be written; whether anything was."""
        if not self._transport or self.ended is not None or not (data := self._h2.data_to_send()):
            return False
        self._transport.write(data)
        return True


def _split(data: bytes) -> Iterator[bytes]:
    """Each message has a flag (0: not compressed, as we ask for) and its length in front of it."""
    start = 0
    while start < len(data):
        head, size = data[start], int.from_bytes(data[start + 1 : start + 5], "big")
        start, end = start + 5, start + 5 + size
        if head or len(data) < end:
            raise RpcError(Code.INTERNAL, "the answer makes no sense")
        yield data[start:end]
        start = end
