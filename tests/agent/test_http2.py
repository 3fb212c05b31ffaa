"""Tests for the agent's HTTP/2 client with two kinds of server: h2, which checks every frame, and servers that violate
the protocol.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived as RequestData
from h2.events import PingAckReceived, RequestReceived, WindowUpdated
from h2.events import StreamReset as RequestReset
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given
from hypothesis import strategies as st

from pulltrace.agent.http2 import (
    MAX_FRAME,
    DataReceived,
    Event,
    HeadersReceived,
    Http2,
    Http2Error,
    StreamReset,
    ViolationError,
    header_block,
)

REQUEST = [
    (b":path", b"/a.B/C"),
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":authority", b"localhost"),
    (b"n", b"v"),
]
BLOCK = header_block(REQUEST)
OK = [(b":status", b"200")]


class Pair:
    """A client that is connected to the server side of h2."""

    def __init__(self, settings: dict[SettingCodes, int] | None = None) -> None:
        self.client = Http2()
        self.server = H2Connection(H2Configuration(client_side=False))
        self.server.initiate_connection()
        self.sent: list[object] = []  # events that the server has received
        self.received: list[Event] = []  # events that the client has received
        self.exchange()
        self.server.update_settings(settings or {})
        self.exchange()

    def exchange(self, size: int = 1 << 20) -> None:
        """Deliver all pending data from both sides, in chunks of ``size`` bytes."""
        while (request := self.client.output()) or (response := self.server.data_to_send()):
            if request:
                self.sent += self.server.receive_data(request)
                continue
            for start in range(0, len(response), size):
                self.received += self.client.receive(response[start : start + size])

    def request(self, body: bytes = b"x") -> int:
        stream = self.client.request(BLOCK, body)
        self.exchange()
        return stream

    def data(self, stream: int) -> bytes:
        return b"".join(
            event.data for event in self.received if isinstance(event, DataReceived) and event.stream == stream
        )


def of_kind(events: Iterable[object], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_the_server_receives_every_request_unchanged():
    pair = Pair()
    streams = [pair.request(b"one"), pair.request(b""), pair.request(bytes(MAX_FRAME))]
    assert streams == [1, 3, 5]
    assert [event.headers for event in of_kind(pair.sent, RequestReceived)] == [REQUEST] * 3
    assert [event.data for event in of_kind(pair.sent, RequestData)] == [b"one", b"", bytes(MAX_FRAME)]


@pytest.mark.parametrize("size", [0, 100, 1 << 16])
def test_request_headers_are_valid_for_any_table_size_that_the_server_allows(size):
    pair = Pair()
    pair.request()
    pair.server.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
    pair.exchange()
    pair.request()
    assert [event.headers for event in of_kind(pair.sent, RequestReceived)] == [REQUEST] * 2


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 3]), st.integers(0, 5000), st.integers(0, 255)), max_size=20),
    st.integers(1, 5000),
)
def test_responses_are_complete_no_matter_how_they_are_split_and_interleaved(parts, size):
    pair = Pair()
    streams = [pair.request() for _ in range(4)]
    for stream in streams:
        pair.server.send_headers(stream, OK)
    for number, length, padding in parts:
        pair.server.send_data(streams[number], bytes([number]) * length, pad_length=padding)
        pair.exchange(size)
    for stream in streams:
        pair.server.send_headers(stream, [(b"grpc-status", b"0")], end_stream=True)
    pair.exchange(size)
    for number, stream in enumerate(streams):
        assert pair.data(stream) == bytes([number]) * sum(length for other, length, _ in parts if other == number)
    headers = [(event.stream, event.headers, event.ended) for event in of_kind(pair.received, HeadersReceived)]
    assert headers == [(it, OK, False) for it in streams] + [(it, [(b"grpc-status", b"0")], True) for it in streams]
    assert not pair.client.open
    assert not pair.client.mid_frame


NAMES = st.sampled_from([(b":status", b"200"), (b"grpc-status", b"0"), (b"grpc-status", b"5"), (b"a", b"b" * 99)])


@given(st.lists(st.tuples(st.sampled_from([None, 0, 60, 4096]), st.lists(NAMES, max_size=4)), max_size=12))
def test_headers_are_decoded_correctly_for_every_table_size_that_the_server_uses(blocks):
    """The server may use a dynamic table even if the client disables this table. With a dynamic table, identical blocks
    can decode to different headers.
    """
    client, encoder = client_with(requests=1), Encoder()
    for size, sent in blocks:
        if size is not None:
            encoder.header_table_size = size
        assert list(client.receive(headers(data=encoder.encode(sent)))) == [HeadersReceived(1, sent, ended=False)]


def test_identical_header_blocks_are_decoded_only_once_if_there_is_no_dynamic_table():
    pair = Pair()
    for _ in range(100):
        stream = pair.request()
        pair.server.send_headers(stream, OK)
        pair.server.send_headers(stream, [(b"grpc-status", b"0")], end_stream=True)
        pair.exchange()
    assert len(pair.received) == 200
    assert len(pair.client._known_blocks) == 3, "the first block is different: it also reduces the size of the table"


def test_only_a_few_short_header_blocks_are_cached():
    client, encoder = client_with(requests=1), Encoder()
    encoder.header_table_size = 0
    for number in range(100):
        list(client.receive(headers(data=encoder.encode([(b"a", b"%d" % number * (500 if number == 0 else 1))]))))
    assert sorted(len(block) for block in client._known_blocks)[-1] < 100
    assert len(client._known_blocks) == 16


def test_flow_control_windows_are_refilled_so_that_a_long_response_never_stalls():
    pair = Pair()
    stream = pair.request()
    pair.server.send_headers(stream, OK)
    for _ in range(10):
        for _ in range(30):
            pair.server.send_data(stream, bytes(MAX_FRAME))  # raises FlowControlError if the data exceeds a window
        pair.exchange()
    pair.server.end_stream(stream)
    pair.exchange()
    assert len(pair.data(stream)) == 300 * MAX_FRAME
    updates = of_kind(pair.sent, WindowUpdated)
    assert {event.stream_id for event in updates} == {0, stream}
    assert len(updates) < 25


def test_the_connection_window_is_refilled_even_if_data_arrives_for_a_stream_that_has_ended():
    pair = Pair()
    for _ in range(10):
        stream = pair.request()
        pair.server.send_headers(stream, OK)
        for _ in range(30):
            pair.server.send_data(stream, bytes(MAX_FRAME))
        pair.client.reset(stream)
        pair.exchange()
    assert not pair.received
    assert len(of_kind(pair.sent, RequestReset)) == 10


def test_long_headers_can_arrive_in_several_frames():
    pair = Pair()
    stream = pair.request()
    headers = [*OK, *((b"n%d" % number, b"\xff" * 1000) for number in range(20))]
    pair.server.send_headers(stream, headers, end_stream=True)
    pair.exchange(1000)
    assert pair.received == [HeadersReceived(stream, headers, ended=True)]


def test_a_ping_and_new_settings_are_acknowledged():
    pair = Pair()
    pair.server.ping(b"12345678")
    pair.server.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 7})
    pair.exchange()
    assert [event.ping_data for event in of_kind(pair.sent, PingAckReceived)] == [b"12345678"]
    assert pair.server.local_settings.max_concurrent_streams == 7


def test_a_stream_that_the_server_resets_is_closed():
    pair = Pair()
    stream = pair.request()
    pair.server.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
    pair.exchange()
    assert pair.received == [StreamReset(stream, ErrorCodes.REFUSED_STREAM)]
    assert not pair.client.open


def test_the_client_resets_a_stream_only_once_and_ignores_late_frames():
    pair = Pair()
    stream = pair.request()
    pair.server.send_headers(stream, OK)
    pair.server.send_data(stream, b"late", end_stream=True)
    pair.client.reset(stream)
    pair.client.reset(stream)
    reset = pair.client.output()
    assert reset == RstStreamFrame(stream, error_code=ErrorCodes.CANCEL).serialize()
    pair.exchange()
    assert pair.received == []
    later = pair.request()
    pair.server.send_headers(later, OK, end_stream=True)
    pair.exchange()
    assert pair.received == [HeadersReceived(later, OK, ended=True)], "late headers change the HPACK table too"


@pytest.mark.parametrize(
    ("settings", "body", "accepted"),
    [
        ({}, bytes(MAX_FRAME), 3),
        ({}, bytes(MAX_FRAME + 1), 0),
        ({SettingCodes.INITIAL_WINDOW_SIZE: 10}, bytes(10), 5),
        ({SettingCodes.INITIAL_WINDOW_SIZE: 10}, bytes(11), 0),
        ({SettingCodes.MAX_CONCURRENT_STREAMS: 2}, b"", 2),
    ],
)
def test_requests_stay_within_the_limits_that_the_server_has_set(settings, body, accepted):
    pair = Pair(settings)
    for _ in range(accepted):
        pair.request(body)  # the server raises an exception if a request exceeds its limits
    if accepted != 5:
        with pytest.raises(Http2Error, match="the server accepts"):
            pair.request(body)


def test_a_request_that_exceeds_the_window_fails_until_the_window_is_refilled():
    pair = Pair()
    streams = [pair.request(bytes(MAX_FRAME)) for _ in range(3)]
    with pytest.raises(Http2Error, match="the server accepts 16383"):
        pair.request(bytes(MAX_FRAME))
    pair.server.acknowledge_received_data(3 * MAX_FRAME, streams[0])
    pair.exchange()
    assert pair.request(bytes(MAX_FRAME)) == streams[-1] + 2


def test_no_stream_is_opened_beyond_the_highest_stream_id():
    client = Http2()
    client._newest = (1 << 31) - 3
    assert client.request(BLOCK, b"") == (1 << 31) - 1
    with pytest.raises(Http2Error, match="no further stream"):
        client.request(BLOCK, b"")


def client_with(requests: int) -> Http2:
    """Return a client that has received the server's settings and sent this many requests."""
    client = Http2()
    assert list(client.receive(SETTINGS)) == []
    for _ in range(requests):
        client.request(BLOCK, b"")
    return client


def headers(stream: int = 1, flags: tuple[str, ...] = ("END_HEADERS",), data: bytes = b"\x88", **more: int) -> bytes:
    return HeadersFrame(stream, data, flags=flags, **more).serialize()


def raw(kind: int, body: bytes, stream: int = 0, flags: int = 0) -> bytes:
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body


SETTINGS = raw(4, b"")

VIOLATIONS = {
    "data of a stream that was never opened": DataFrame(5, b"x").serialize(),
    "data of an even stream": DataFrame(2, b"x").serialize(),
    "data of the connection": raw(0, b"x"),
    "headers of a stream that was never opened": headers(5),
    "headers of the connection": raw(1, b"\x88", flags=4),
    "a reset of a stream that was never opened": RstStreamFrame(7).serialize(),
    "a push": PushPromiseFrame(1, 2, b"\x88", flags=["END_HEADERS"]).serialize(),
    "a ping on a stream": raw(6, bytes(8), stream=1),
    "a ping of seven bytes": raw(6, bytes(7)),
    "settings on a stream": raw(4, b"", stream=1),
    "settings of seven bytes": raw(4, bytes(7)),
    "an acknowledgement that contains settings": raw(4, bytes(6), flags=1),
    "settings that enable pushes": SettingsFrame(0, {2: 1}).serialize(),
    "a window that is too large": SettingsFrame(0, {4: 1 << 31}).serialize(),
    "frames that are too small": SettingsFrame(0, {5: MAX_FRAME - 1}).serialize(),
    "frames that are too large": SettingsFrame(0, {5: 1 << 24}).serialize(),
    "an increment of nothing": raw(8, bytes(4)),
    "an increment of three bytes": raw(8, b"\1\1\1"),
    "an increment of a stream by nothing": raw(8, bytes(4), stream=1),
    "increments beyond the largest window": WindowUpdateFrame(0, (1 << 31) - 1).serialize(),
    "a reset of three bytes": raw(3, bytes(3), stream=1),
    "padding without a length": raw(0, b"", stream=1, flags=8),
    "padding longer than its frame": raw(0, b"\2x", stream=1, flags=8),
    "headers shorter than their priority": raw(1, bytes(4), stream=1, flags=0x24),
    "a continuation of nothing": ContinuationFrame(1, b"\x88", flags=["END_HEADERS"]).serialize(),
    "a frame between headers": headers(flags=()) + PingFrame(0, bytes(8)).serialize(),
    "a continuation on another stream": headers(flags=()) + ContinuationFrame(3, b"\x88").serialize(),
    "headers that refer to nothing": headers(data=b"\xff\xff\xff\xff\x07"),
    "headers that are incomplete": headers(data=b"\x40\x0aabc"),
    "a table that is too large": headers(data=b"\x3f\xe1\x7f\x88"),
    "headers without end": headers(flags=()) + ContinuationFrame(1, bytes(MAX_FRAME)).serialize() * 4,
    "headers that grow when they are decoded": headers(data=Encoder().encode([(b"a", bytes(3000))]) + b"\xbe" * 30),
    "a frame that is too long": raw(0, bytes(MAX_FRAME + 1), stream=1),
}


@pytest.mark.parametrize("frames", VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_events_that_precede_a_violation_are_delivered_before_the_error(frames):
    events = client_with(requests=2).receive(headers(3) + frames)
    assert next(events) == HeadersReceived(3, OK, ended=False)
    with pytest.raises(ViolationError, match="not HTTP/2"):
        next(events)


@pytest.mark.parametrize("frame", [raw(6, bytes(8)), b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_server_must_send_a_settings_frame_first(frame):
    with pytest.raises(ViolationError):
        list(Http2().receive(frame))


@pytest.mark.parametrize(
    "frame",
    [
        PriorityFrame(1, depends_on=3).serialize(),
        WindowUpdateFrame(1, 5).serialize(),
        RstStreamFrame(3).serialize(),
        DataFrame(3, b"late").serialize(),
        headers(3),
        PingFrame(0, bytes(8), flags=["ACK"]).serialize(),
        SettingsFrame(0, flags=["ACK"]).serialize(),
        SettingsFrame(0, {0x99: 7}).serialize(),
        raw(0xEE, b"an unknown type", stream=9),
    ],
)
def test_unknown_and_irrelevant_frames_are_ignored(frame):
    client = client_with(requests=2)
    client.reset(3)
    assert list(client.receive(frame)) == []
    assert list(client.open) == [1]


def test_response_frames_can_have_padding_and_a_priority():
    first = headers(flags=("END_HEADERS", "PADDED", "PRIORITY"), pad_length=9, depends_on=0, stream_weight=3)
    second = DataFrame(1, b"data", pad_length=255, flags=["PADDED", "END_STREAM"]).serialize()
    events = list(client_with(requests=1).receive(first + second))
    assert events == [HeadersReceived(1, OK, ended=False), DataReceived(1, b"data", ended=True)]


def test_an_error_is_raised_if_the_server_closes_the_connection():
    with pytest.raises(Http2Error, match="the server closed the connection"):
        list(Http2().receive(SETTINGS + GoAwayFrame(0).serialize()))


@given(st.lists(st.integers(0, MAX_FRAME), max_size=6), st.integers(1, 5000))
def test_frames_are_parsed_correctly_no_matter_how_the_bytes_are_split(lengths, size):
    client = client_with(requests=1)
    data = b"".join(raw(0, bytes(length), stream=1) for length in lengths)
    events = [event for start in range(0, len(data), size) for event in client.receive(data[start : start + size])]
    assert events == [DataReceived(1, bytes(length), ended=False) for length in lengths]
    assert not client.mid_frame


FRAME = st.builds(raw, st.integers(0, 10), st.binary(max_size=40), st.integers(0, 5), st.integers(0, 255))


@given(st.lists(FRAME, max_size=9))
def test_arbitrary_frames_produce_events_or_an_error(frames):
    with suppress(Http2Error):
        for event in client_with(requests=2).receive(b"".join(frames)):
            assert event.stream in (1, 3)
