"""gRPC's calls, to servers that answer in every wrong way. Right answers are in ``tests/demo``."""

import asyncio
import tempfile
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

METHOD = "/package.Service/Method"
OK = [("grpc-status", "0")]
FLAGS = ("END_HEADERS", "END_STREAM")


class Connection(asyncio.Protocol):
    """What a server sees of one connection; ``send`` what it says."""

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
                self.server.asked.append(dict(event.headers))
                self.server.answer(self, event.stream_id)
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
    """Answers each call as ``answer`` does; at first well, with an empty message."""

    def __init__(self) -> None:
        self.answer: Callable[[Connection, int], None] = lambda connection, stream: connection.send(stream, bytes(5))
        self.connections: list[Connection] = []
        self.asked: list[dict[str, str]] = []
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
    connection.transport.write(b"\0\0\1\4\0\0\0\0\0x")  # settings of one byte


def hang_up(connection: Connection, _: int) -> None:
    connection.transport.close()


@pytest.mark.parametrize(
    ("answer", "code", "why"),
    [
        (trailers, Code.PERMISSION_DENIED, "PERMISSION_DENIED: not you! \ufffd%"),
        (lambda it, stream: it.send(stream, trailers=[("grpc-status", "-1")]), Code.UNKNOWN, "UNKNOWN: "),
        (http_error, Code.UNKNOWN, "no gRPC: HTTP status 404"),
        (lambda it, stream: it.send(stream, b"\1" + bytes(4)), Code.INTERNAL, "makes no sense"),
        (lambda it, stream: it.send(stream, b"\0\0\0\0\2x"), Code.INTERNAL, "makes no sense"),
        (lambda it, stream: it.send(stream, b"\0\0"), Code.INTERNAL, "makes no sense"),
        (reset, Code.CANCELLED, "the call was reset"),
        (goodbye, Code.UNAVAILABLE, "hung up"),
        (garbage, Code.UNAVAILABLE, "no HTTP/2"),
        (hang_up, Code.UNAVAILABLE, "the connection closed"),
    ],
)
async def test_a_wrong_answer_is_an_error_and_the_next_call_is_as_good_as_any(server, channel, answer, code, why):
    well = server.answer
    server.answer = answer
    with pytest.raises(RpcError) as caught:
        await channel.call(METHOD, b"")
    assert caught.value.code is code
    assert why in str(caught.value)
    server.answer = well
    assert await channel.call(METHOD, b"") == [b""]


async def test_messages_are_told_apart_and_a_call_says_what_it_is(server, channel):
    server.answer = lambda connection, stream: connection.send(stream, b"\0\0\0\0\1a\0\0\0\0\0\0\0\0\0\2bc")
    assert await channel.call(METHOD, b"") == [b"a", b"", b"bc"]
    assert server.asked[0].items() >= {":path": METHOD, "content-type": "application/grpc", "namespace": "n"}.items()


async def test_an_answer_without_end_is_refused_and_the_connection_kept(server, channel, monkeypatch):
    monkeypatch.setattr(grpc_client, "MAX_ANSWER", 1000)
    well = server.answer

    def answer(connection: Connection, stream: int) -> None:
        connection.h2.send_headers(stream, [(":status", "200")])
        connection.h2.send_data(stream, bytes(2000))

    server.answer = answer
    with pytest.raises(RpcError, match="RESOURCE_EXHAUSTED"):
        await channel.call(METHOD, b"")
    await server.resets.wait()
    server.answer = well
    assert await channel.call(METHOD, b"") == [b""]
    assert len(server.connections) == 1


async def test_no_more_calls_are_under_way_than_a_server_must_take(server, channel):
    waiting: list[int] = []
    most = 0

    def answer(connection: Connection, stream: int) -> None:
        nonlocal most
        waiting.append(stream)
        most = max(most, len(waiting))
        asyncio.get_running_loop().call_soon(release, connection)

    def release(connection: Connection) -> None:
        connection.send(waiting.pop(0), bytes(5))
        connection.flush()

    server.answer = answer
    answers = await channel.calls(METHOD, [b""] * 250)
    assert [answer.messages() for answer in answers] == [[b""]] * 250
    await asyncio.gather(*(channel.call(METHOD, b"") for _ in range(250)))
    assert most <= 100
    assert len(server.connections) == 1


async def test_waiting_for_a_turn_counts_in_the_deadline(server, channel, monkeypatch):
    everyone = asyncio.Event()

    def never(*_: object) -> None:
        if len(server.asked) == 100:
            everyone.set()

    server.answer = never
    waiting = [asyncio.create_task(channel.call(METHOD, b"")) for _ in range(100)]
    await everyone.wait()
    monkeypatch.setattr(grpc_client, "DEADLINE", 0.05)
    with pytest.raises(RpcError, match="DEADLINE_EXCEEDED"):
        async with asyncio.timeout(5):
            await channel.call(METHOD, b"")
    assert len(server.asked) == 100
    for call in waiting:
        call.cancel()
    await asyncio.wait(waiting)


async def test_of_many_calls_one_may_fail(server, channel):
    server.answer = lambda connection, stream: (reset if stream == 3 else Connection.send)(connection, stream)
    answers = await channel.calls(METHOD, [b""] * 3)
    assert answers[0].messages() == answers[2].messages() == []
    with pytest.raises(RpcError, match="CANCELLED"):
        answers[1].messages()


async def test_a_call_that_is_given_up_is_given_up_at_the_other_end_too(server, channel):
    well, asked = server.answer, asyncio.Event()
    server.answer = lambda *_: asked.set()
    call = asyncio.create_task(channel.call(METHOD, b""))
    await asked.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await server.resets.wait()
    server.answer = well
    assert await channel.call(METHOD, b"") == [b""]
    assert len(server.connections) == 1


async def test_one_that_is_late_is_given_up(server, channel, monkeypatch):
    monkeypatch.setattr(grpc_client, "DEADLINE", 0.05)
    server.answer = lambda *_: None
    with pytest.raises(RpcError, match="DEADLINE_EXCEEDED"):
        await channel.calls(METHOD, [b"", b""])
    await server.resets.wait()


async def test_a_late_answer_to_a_call_given_up_is_no_reason_to_hang_up(server, channel, monkeypatch):
    monkeypatch.setattr(grpc_client, "DEADLINE", 0.2)
    well, streams = server.answer, list[int]()

    def answer_the_first(connection: Connection, stream: int) -> None:
        streams.append(stream)
        if stream != streams[0]:
            late = HeadersFrame(streams[0], connection.h2.encoder.encode([(":status", "200"), *OK]), flags=FLAGS)
            connection.transport.write(late.serialize())

    server.answer = answer_the_first
    for _ in range(2):
        with pytest.raises(RpcError, match="DEADLINE_EXCEEDED"):
            await channel.call(METHOD, b"")
    assert channel.connected
    server.answer = well
    assert await channel.call(METHOD, b"") == [b""]
    assert len(server.connections) == 1


async def test_what_never_becomes_a_frame_ends_the_connection(server, channel, monkeypatch):
    monkeypatch.setattr(grpc_client, "DEADLINE", 0.2)
    well = server.answer
    server.answer = lambda connection, _: connection.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(RpcError, match="DEADLINE_EXCEEDED"):
        await channel.call(METHOD, b"")
    assert not channel.connected
    monkeypatch.undo()
    server.answer = well
    assert await channel.call(METHOD, b"") == [b""]


async def test_a_break_is_seen_when_it_happens(server, channel):
    await channel.call(METHOD, b"")
    assert channel.connected
    server.connections[0].transport.close()
    async with asyncio.timeout(5):
        while channel.connected:  # noqa: ASYNC110  # asyncio tells the connection, which tells nobody
            await asyncio.sleep(0.01)
    assert await channel.call(METHOD, b"") == [b""]
    assert channel.connected


async def test_thousands_of_calls_leave_nothing_behind(server, channel):
    for _ in range(30):
        await channel.calls(METHOD, [b""] * 100)
    connection = channel._connection
    assert len(connection._h2._closed_streams) <= connection._h2.MAX_CLOSED_STREAMS
    assert len(connection._h2.streams) <= 100, "those of the last calls, until there is another"
    assert not connection._answers


async def test_without_a_socket_there_is_no_answer(tmp_path):
    async with Channel(str(tmp_path / "none.sock"), {}) as channel:
        with pytest.raises(RpcError, match="UNAVAILABLE"):
            await channel.call(METHOD, b"")
        assert not channel.connected
