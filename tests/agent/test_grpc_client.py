"""Tests for gRPC calls to misbehaving servers. Calls to well-behaved servers are tested in ``tests/demo``."""

import asyncio
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamReset
from hyperframe.frame import HeadersFrame

from pulltrace.agent import grpc_client
from pulltrace.agent.grpc_client import Channel, Code, RpcError
from pulltrace.agent.http2 import MAX_FRAME
from tests.patience import PATIENCE

METHOD = "/package.Service/Method"
OK = [("grpc-status", "0")]
FLAGS = ("END_HEADERS", "END_STREAM")


class Connection(asyncio.Protocol):
    """The server side of a client connection."""

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.server.connections.append(self)
        self.h2.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                self.server.requests.append(dict(event.headers))
                self.server.respond(self, event.stream_id)
            elif isinstance(event, StreamReset):
                self.server.resets.set()
        self.flush()

    def send(self, stream: int, data: bytes = b"", trailers: list[tuple[str, str]] | None = None) -> None:
        self.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        self.h2.send_data(stream, data)
        self.h2.send_headers(stream, trailers or OK, end_stream=True)

    def flush(self) -> None:
        self.transport.write(self.h2.data_to_send())


class Server:
    """A server that handles each call with ``respond``, which sends one empty message by default."""

    def __init__(self) -> None:
        self.respond: Callable[[Connection, int], None] = lambda connection, stream: connection.send(stream, bytes(5))
        self.connections: list[Connection] = []
        self.requests: list[dict[str, str]] = []
        self.resets = asyncio.Event()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def channel(stack, server) -> Channel:
    path = str(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pulltrace-"))) / "s.sock")
    listener = await asyncio.get_running_loop().create_unix_server(lambda: Connection(server), path)
    stack.callback(listener.close)
    stack.callback(lambda: [connection.transport.abort() for connection in server.connections])
    return await stack.enter_async_context(Channel(path, {"namespace": "n"}))


def trailers(connection: Connection, stream: int) -> None:
    connection.send(stream, trailers=[("grpc-status", "7"), ("grpc-message", "not%20you%21 %ff%")])


def http_error(connection: Connection, stream: int) -> None:
    connection.h2.send_headers(stream, [(":status", "404")], end_stream=True)


def reset(connection: Connection, stream: int) -> None:
    connection.h2.reset_stream(stream, 11)


def goodbye(connection: Connection, _: int) -> None:
    connection.h2.close_connection()


def garbage(connection: Connection, _: int) -> None:
    connection.transport.write(b"\0\0\1\4\0\0\0\0\0x")  # a SETTINGS frame with a one-byte payload


def hang_up(connection: Connection, _: int) -> None:
    connection.transport.close()


@pytest.mark.parametrize(
    ("respond", "code", "why"),
    [
        (trailers, Code.PERMISSION_DENIED, "PERMISSION_DENIED: not you! \ufffd%"),
        (lambda it, stream: it.send(stream, trailers=[("grpc-status", "-1")]), Code.UNKNOWN, "UNKNOWN: "),
        (http_error, Code.UNKNOWN, "not gRPC: HTTP status 404"),
        (lambda it, stream: it.send(stream, b"\1" + bytes(4)), Code.INTERNAL, "cannot be decoded"),
        (lambda it, stream: it.send(stream, b"\0\0\0\0\2x"), Code.INTERNAL, "cannot be decoded"),
        (lambda it, stream: it.send(stream, b"\0\0"), Code.INTERNAL, "cannot be decoded"),
        (reset, Code.CANCELLED, "the call was reset"),
        (goodbye, Code.UNAVAILABLE, "closed the connection"),
        (garbage, Code.UNAVAILABLE, "not HTTP/2"),
        (hang_up, Code.UNAVAILABLE, "the connection was closed"),
    ],
)
async def test_an_invalid_response_raises_an_error_but_the_next_call_succeeds(server, channel, respond, code, why):
    well = server.respond
    server.respond = respond
    with pytest.raises(RpcError) as caught:
        await channel.call(METHOD, b"")
    assert caught.value.code is code
    assert why in str(caught.value)
    server.respond = well
    assert await channel.call(METHOD, b"") == [b""]


async def test_a_request_has_the_grpc_headers_and_its_response_can_contain_several_messages(server, channel):
    server.respond = lambda connection, stream: connection.send(stream, b"\0\0\0\0\1a\0\0\0\0\0\0\0\0\0\2bc")
    assert await channel.call(METHOD, b"") == [b"a", b"", b"bc"]
    assert server.requests[0].items() >= {":path": METHOD, "content-type": "application/grpc", "namespace": "n"}.items()


async def test_an_oversized_response_is_rejected_and_the_connection_stays_open(server, channel, monkeypatch):
    monkeypatch.setattr(grpc_client, "MAX_RESPONSE", 1000)
    well = server.respond

    def respond(connection: Connection, stream: int) -> None:
        connection.h2.send_headers(stream, [(":status", "200")])
        connection.h2.send_data(stream, bytes(2000))

    server.respond = respond
    with pytest.raises(RpcError, match="RESOURCE_EXHAUSTED"):
        await channel.call(METHOD, b"")
    await server.resets.wait()
    server.respond = well
    assert await channel.call(METHOD, b"") == [b""]
    assert len(server.connections) == 1


async def test_at_most_a_hundred_calls_run_at_the_same_time(server, channel):
    waiting: list[int] = []
    most = 0

    def respond(connection: Connection, stream: int) -> None:
        nonlocal most
        waiting.append(stream)
        most = max(most, len(waiting))
        asyncio.get_running_loop().call_soon(release, connection)

    def release(connection: Connection) -> None:
        connection.send(waiting.pop(0), bytes(5))
        connection.flush()

    server.respond = respond
    answers = await channel.calls([(METHOD, b"")] * 250)
    assert [answer.messages() for answer in answers] == [[b""]] * 250
    await asyncio.gather(*(channel.call(METHOD, b"") for _ in range(250)))
    assert most <= 100
    assert len(server.connections) == 1


async def test_the_deadline_includes_the_time_spent_waiting_for_other_calls(server, channel, monkeypatch):
    everyone = asyncio.Event()

    def never(*_: object) -> None:
        if len(server.requests) == 100:
            everyone.set()

    server.respond = never
    waiting = [asyncio.create_task(channel.call(METHOD, b"")) for _ in range(100)]
    await everyone.wait()
    monkeypatch.setattr(grpc_client, "DEADLINE", 0.05)
    with pytest.raises(RpcError, match="DEADLINE_EXCEEDED"):
        async with asyncio.timeout(PATIENCE):
            await channel.call(METHOD, b"")
    assert len(server.requests) == 100
    for call in waiting:
        call.cancel()
    await asyncio.wait(waiting)


async def test_a_failed_call_does_not_affect_concurrent_calls(server, channel):
    server.respond = lambda connection, stream: (reset if stream == 3 else Connection.send)(connection, stream)
    answers = await channel.calls([(METHOD, b"")] * 3)
    assert answers[0].messages() == answers[2].messages() == []
    with pytest.raises(RpcError, match="CANCELLED"):
        answers[1].messages()


async def test_a_cancelled_call_resets_its_stream(server, channel):
    well, asked = server.respond, asyncio.Event()
    server.respond = lambda *_: asked.set()
    call = asyncio.create_task(channel.call(METHOD, b""))
    await asked.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await server.resets.wait()
    server.respond = well
    assert await channel.call(METHOD, b"") == [b""]
    assert len(server.connections) == 1


async def test_a_call_that_exceeds_its_deadline_resets_its_stream(server, channel, monkeypatch):
    await channel.call(METHOD, b"")  # connect first, so that this time does not count towards the deadline
    monkeypatch.setattr(grpc_client, "DEADLINE", 0.05)
    server.respond = lambda *_: None
    with pytest.raises(RpcError, match="DEADLINE_EXCEEDED"):
        await channel.calls([(METHOD, b"")] * 2)
    await server.resets.wait()


async def test_a_late_response_does_not_close_the_connection(server, channel, monkeypatch):
    await channel.call(METHOD, b"")  # connect first, so that this time does not count towards the deadline
    monkeypatch.setattr(grpc_client, "DEADLINE", 0.2)
    well, streams = server.respond, list[int]()

    def respond_to_the_first(connection: Connection, stream: int) -> None:
        streams.append(stream)
        if stream != streams[0]:
            late = HeadersFrame(streams[0], connection.h2.encoder.encode([(":status", "200"), *OK]), flags=FLAGS)
            connection.transport.write(late.serialize())

    server.respond = respond_to_the_first
    for _ in range(2):
        with pytest.raises(RpcError, match="DEADLINE_EXCEEDED"):
            await channel.call(METHOD, b"")
    assert channel.connected
    monkeypatch.undo()
    server.respond = well
    assert await channel.call(METHOD, b"") == [b""]
    assert len(server.connections) == 1


def frame_header(length: int) -> bytes:
    """Return the header of a DATA frame on stream 1."""
    return length.to_bytes(3, "big") + b"\0\0\0\0\0\1"


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(frame_header(length=MAX_FRAME + 1), id="one byte too long"),
        pytest.param(frame_header(length=0xFFFFFF), id="the longest frame that a header can declare"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="not HTTP/2"),
        pytest.param(bytes(8) + b"\1" + frame_header(length=0xFFFFFF)[:3], id="the second header, incomplete"),
    ],
)
async def test_the_connection_is_closed_as_soon_as_the_header_of_an_oversized_frame_arrives(server, channel, start):
    well = server.respond
    server.respond = lambda connection, _: connection.transport.write(start)
    with pytest.raises(RpcError, match="UNAVAILABLE: not HTTP/2"):
        await channel.call(METHOD, b"")
    server.respond = well
    assert await channel.call(METHOD, b"") == [b""]


async def test_broken_connections_do_not_leak_memory(server, channel):
    """On each connection, the server sends only 1 MiB of a frame whose header declares 16 MiB."""
    server.respond = lambda connection, _: connection.transport.write(frame_header(length=0xFFFFFF) + bytes(1 << 20))
    for warm_up in (True, False):
        tracemalloc.start()
        for _ in range(2 if warm_up else 20):
            with pytest.raises(RpcError, match="UNAVAILABLE"):
                await channel.call(METHOD, b"")
        (kept, peak) = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert kept < 4 << 20, "the server has sent 1 MiB twenty times"
    assert peak < 8 << 20


async def test_closing_a_connection_releases_its_buffers_and_responses(server, channel):
    server.respond = half_a_message
    with pytest.raises(RpcError, match="UNAVAILABLE"):
        await channel.call(METHOD, b"")
    connection = channel._connection
    assert (connection._http2, connection._transport, connection._responses) == (None, None, {})
    connection.data_received(bytes(1 << 20))


def half_a_message(connection: Connection, stream: int) -> None:
    connection.h2.send_headers(stream, [(":status", "200")])
    connection.h2.send_data(stream, bytes(2000))
    connection.flush()
    connection.transport.close()


async def test_the_total_size_of_the_responses_on_a_connection_is_limited(server, channel, monkeypatch):
    monkeypatch.setattr(grpc_client, "MAX_PENDING", 5000)
    server.respond = lambda connection, stream: connection.send(stream, b"\0\0\0\x03\xe8" + bytes(1000))
    responses = await channel.calls([(METHOD, b"")] * 10)
    assert len(responses[0].messages()[0]) == 1000
    with pytest.raises(RpcError, match="RESOURCE_EXHAUSTED"):
        responses[-1].messages()
    assert await channel.call(METHOD, b"") == [bytes(1000)], "responses no longer count once the caller has read them"


async def test_the_connection_is_closed_if_a_frame_is_incomplete_at_the_deadline(server, channel, monkeypatch):
    await channel.call(METHOD, b"")  # connect first, so that this time does not count towards the deadline
    monkeypatch.setattr(grpc_client, "DEADLINE", 0.2)
    well = server.respond
    server.respond = lambda connection, _: connection.transport.write(frame_header(length=100) + b"and no more")
    with pytest.raises(RpcError, match="DEADLINE_EXCEEDED"):
        await channel.call(METHOD, b"")
    assert not channel.connected
    monkeypatch.undo()
    server.respond = well
    assert await channel.call(METHOD, b"") == [b""]


async def test_a_lost_connection_is_noticed_immediately(server, channel):
    await channel.call(METHOD, b"")
    assert channel.connected
    server.connections[0].transport.close()
    async with asyncio.timeout(PATIENCE):
        while channel.connected:  # noqa: ASYNC110  # there is no notification
            await asyncio.sleep(0.01)
    assert await channel.call(METHOD, b"") == [b""]
    assert channel.connected


async def test_thousands_of_calls_leave_no_data_in_memory(server, channel):
    for _ in range(30):
        await channel.calls([(METHOD, b"")] * 100)
    connection = channel._connection
    assert not connection._http2.open
    assert not connection._responses


async def test_a_call_fails_if_the_socket_does_not_exist(tmp_path):
    async with Channel(str(tmp_path / "none.sock"), {}) as channel:
        with pytest.raises(RpcError, match="UNAVAILABLE"):
            await channel.call(METHOD, b"")
        assert not channel.connected
