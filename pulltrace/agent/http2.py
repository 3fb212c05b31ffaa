"""HTTP/2 (RFC 9113) for a client that makes small requests to one server. Sans-I/O; hpack encodes and decodes headers.

Theory of operation.

- *Requests.* A request consists of two frames, one for the headers and one for the body. The two frames are sent
  together or not at all: a body that exceeds the server's flow-control windows is an error. The agent's requests are
  only a few hundred bytes long.
- *Header blocks.* The header block of each request sets the size of the server's dynamic table to 0, so no block's
  encoding depends on earlier blocks. ``header_block`` can therefore encode a single block for all requests to a method.
- *Responses.* A frame is processed once it is complete, but a frame that is too long is rejected as soon as its length
  is known. The client also forbids the server to use a dynamic table, so most responses contain the same header bytes.
  While the table is empty, identical blocks are decoded only once.
- *Windows.* The receive windows of the connection and of each stream are ``_WINDOW`` bytes each, and are refilled as
  soon as they are half used. The caller consumes data as it arrives, and limits how much it keeps.
- *Streams.* Only open streams are tracked. Frames for a stream that has already ended are ignored. A protocol violation
  is a connection error.

Only this module imports hpack, and only ``grpc_client.py`` imports this module.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from hpack import Decoder, Encoder, HPACKError

MAX_FRAME = 1 << 14
"""Maximum frame size in bytes. This is the initial limit of an HTTP/2 connection (RFC 9113, 4.2), and the client never
raises it.
"""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_MAX_HEADERS = 1 << 16  # maximum size of a header block in bytes, encoded or decoded
_KNOWN_BLOCKS = 16  # maximum number of decoded header blocks to remember
_SHORT_BLOCK = 128  # maximum size of a remembered block, in bytes
_WINDOW = 1 << 20  # size of each receive window, in bytes
_FIRST_WINDOW = (1 << 16) - 1  # initial size of every window, in bytes
_MOST = (1 << 31) - 1  # the highest stream id, and the largest window in bytes
_CANCEL = 8  # the error code for resetting a call that no task is waiting for (RFC 9113, 7)

# The frame types (RFC 9113, 6).
_DATA, _HEADERS, _PRIORITY, _RESET, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = range(10)
_OF_STREAMS = (_DATA, _HEADERS, _RESET, _PUSH, _CONTINUATION)
_OF_CONNECTION = (_SETTINGS, _PING, _GOAWAY)

# The frame flags. The same bit has different meanings in different frame types.
_ACK = _END_STREAM = 0x01
_END_HEADERS = 0x04
_PADDED = 0x08
_WITH_PRIORITY = 0x20

# Settings (RFC 9113, 6.5.2). Some settings accept only certain values.
_TABLE_SIZE, _ENABLE_PUSH, _MAX_STREAMS, _INITIAL_WINDOW, _FRAME_SIZE, _HEADER_LIST_SIZE = range(1, 7)
_VALID = {_ENABLE_PUSH: range(1), _INITIAL_WINDOW: range(1 << 31), _FRAME_SIZE: range(MAX_FRAME, 1 << 24)}


Headers = Iterable[tuple[bytes, bytes]]


class Http2Error(Exception):
    """The connection can no longer be used."""


class ViolationError(Http2Error):
    """The server violated HTTP/2."""

    def __init__(self, what: str) -> None:
        super().__init__(f"not HTTP/2: {what}")


class HeadersReceived(NamedTuple):
    """The headers that precede the data of a response, or the trailers that follow it."""

    stream: int
    headers: Headers
    ended: bool


class DataReceived(NamedTuple):
    """Part of the data of a response."""

    stream: int
    data: bytes
    ended: bool


class StreamReset(NamedTuple):
    """The server has aborted a response."""

    stream: int
    code: int


Event = HeadersReceived | DataReceived | StreamReset


def header_block(headers: Headers) -> bytes:
    """Encode a request's headers, without references to the headers of earlier requests."""
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode(headers)


class Http2:
    """One connection. Pass the bytes that have arrived to ``receive``, and send the bytes that ``output`` returns."""

    def __init__(self) -> None:
        self.open: dict[int, int] = {}
        """The streams whose responses are incomplete, with the number of bytes used in each stream's receive window."""
        self._newest = -1  # id of the newest stream
        self._rest = b""  # an incomplete frame
        self._used = 0  # number of bytes used in the connection's receive window
        self._block: tuple[int, int, bytes] | None = None  # stream, flags and bytes of an incomplete header block
        self._decoder = Decoder(_MAX_HEADERS)
        self._known_blocks: dict[bytes, Headers] = {}
        self._greeted = False  # true once the server's settings have arrived
        self._settings = {_INITIAL_WINDOW: _FIRST_WINDOW, _MAX_STREAMS: _MOST}  # the server's settings
        self._send_window = _FIRST_WINDOW
        settings = {_TABLE_SIZE: 0, _ENABLE_PUSH: 0, _INITIAL_WINDOW: _WINDOW, _HEADER_LIST_SIZE: _MAX_HEADERS}
        body = b"".join(key.to_bytes(2) + value.to_bytes(4) for key, value in settings.items())
        self._output = [_PREFACE, _frame(_SETTINGS, 0, 0, body)]
        self._output.append(_frame(_WINDOW_UPDATE, 0, 0, (_WINDOW - _FIRST_WINDOW).to_bytes(4)))

    @property
    def mid_frame(self) -> bool:
        """Return whether the bytes received so far end in the middle of a frame."""
        return bool(self._rest)

    def output(self) -> bytes:
        """Return the bytes to send, and clear the output buffer."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def request(self, block: bytes, body: bytes) -> int:
        """Add a request to the output, with a block from ``header_block``, and return its stream id. Raises
        ``Http2Error``.
        """
        room = min(self._send_window, self._settings[_INITIAL_WINDOW], MAX_FRAME)
        if len(body) > room:
            raise Http2Error(f"a request of {len(body)} bytes, but the server accepts {room}")
        if len(self.open) >= self._settings[_MAX_STREAMS] or self._newest == _MOST:
            raise Http2Error("the server accepts no further stream")
        self._newest = stream = self._newest + 2
        self._send_window -= len(body)
        self.open[stream] = 0
        self._output += _frame(_HEADERS, _END_HEADERS, stream, block), _frame(_DATA, _END_STREAM, stream, body)
        return stream

    def reset(self, stream: int) -> None:
        """If the stream is still open, reset it, because no task is waiting for its response."""
        if self.open.pop(stream, None) is not None:
            self._output.append(_frame(_RESET, 0, stream, _CANCEL.to_bytes(4)))

    def receive(self, data: bytes) -> Iterator[Event]:
        """Process received bytes and yield the resulting events. If the server violates the protocol, yield the events
        before the violation and then raise ``Http2Error``.
        """
        data, start = self._rest + data, 0
        while len(data) - start >= 3:
            length = int.from_bytes(data[start : start + 3])
            if length > MAX_FRAME:
                raise ViolationError(f"a frame of {length} bytes")
            end = start + 9 + length
            if end > len(data):
                break
            stream = int.from_bytes(data[start + 5 : start + 9]) & _MOST
            if event := self._see(data[start + 3], data[start + 4], stream, data[start + 9 : end]):
                yield event
            start = end
        self._rest = data[start:]

    def _see(self, kind: int, flags: int, stream: int, body: bytes) -> Event | None:
        if not self._greeted and kind != _SETTINGS:
            raise ViolationError("the first frame is not SETTINGS")
        if self._block is not None and (kind, stream) != (_CONTINUATION, self._block[0]):
            raise ViolationError("a header block is interrupted")
        if kind in _OF_STREAMS and (stream % 2 == 0 or stream > self._newest):
            raise ViolationError(f"a frame of stream {stream}, which was never opened")
        if kind in _OF_CONNECTION and stream:
            raise ViolationError("a connection frame has a stream id")
        see = _KINDS.get(kind)  # unknown types must be ignored (RFC 9113, 5.5)
        return see(self, flags, stream, body) if see else None

    def _see_data(self, flags: int, stream: int, body: bytes) -> Event | None:
        self._used = self._refill(0, self._used + len(body))
        if stream not in self.open:
            return None
        ended = self._see_end(flags, stream)
        if not ended:
            self.open[stream] = self._refill(stream, self.open[stream] + len(body))
        return DataReceived(stream, _without_padding(flags, body), ended)

    def _refill(self, stream: int, used: int) -> int:
        """Refill a receive window if at least half of it has been used. Return how many bytes of the window are still
        used.
        """
        if used < _WINDOW // 2:
            return used
        self._output.append(_frame(_WINDOW_UPDATE, 0, stream, used.to_bytes(4)))
        return 0

    def _see_headers(self, flags: int, stream: int, body: bytes) -> Event | None:
        body = _without_padding(flags, body)
        if flags & _WITH_PRIORITY:
            _check(len(body) >= 5)
            body = body[5:]
        self._block = stream, flags, b""
        return self._see_continuation(flags, stream, body)

    def _see_continuation(self, flags: int, stream: int, body: bytes) -> Event | None:
        if self._block is None:
            raise ViolationError("a header block has no beginning")
        first_flags, block = self._block[1], self._block[2] + body
        if len(block) > _MAX_HEADERS:
            raise ViolationError(f"headers of more than {_MAX_HEADERS} bytes")
        if not flags & _END_HEADERS:
            self._block = stream, first_flags, block
            return None
        self._block = None
        headers = self._known_blocks.get(block) or self._decode(block)
        return HeadersReceived(stream, headers, self._see_end(first_flags, stream)) if stream in self.open else None

    def _decode(self, block: bytes) -> Headers:
        try:
            headers = self._decoder.decode(block, raw=True)
        except HPACKError as error:
            raise ViolationError(str(error)) from error
        if self._decoder.header_table_size > 0:
            self._known_blocks.clear()
        elif len(block) <= _SHORT_BLOCK and len(self._known_blocks) < _KNOWN_BLOCKS:
            self._known_blocks[block] = headers
        return headers

    def _see_end(self, flags: int, stream: int) -> bool:
        """Return whether the frame with these flags ends its stream."""
        ended = bool(flags & _END_STREAM)
        if ended:
            del self.open[stream]
        return ended

    def _see_reset(self, _: int, stream: int, body: bytes) -> Event | None:
        _check(len(body) == 4)
        return StreamReset(stream, int.from_bytes(body)) if self.open.pop(stream, None) is not None else None

    def _see_settings(self, flags: int, _: int, body: bytes) -> None:
        _check(len(body) % 6 == 0 and not (flags & _ACK and body))
        if flags & _ACK:
            return
        self._greeted = True
        for start in range(0, len(body), 6):
            key, value = int.from_bytes(body[start : start + 2]), int.from_bytes(body[start + 2 : start + 6])
            _check(key not in _VALID or value in _VALID[key])
            if key in self._settings:
                self._settings[key] = value
        self._output.append(_frame(_SETTINGS, _ACK, 0, b""))

    def _see_push(self, *_: object) -> None:
        raise ViolationError("a push, which this client does not permit")

    def _see_ping(self, flags: int, _: int, body: bytes) -> None:
        _check(len(body) == 8)
        if not flags & _ACK:
            self._output.append(_frame(_PING, _ACK, 0, body))

    def _see_goaway(self, *_: object) -> None:
        raise Http2Error("the server closed the connection")

    def _see_window_update(self, _: int, stream: int, body: bytes) -> None:
        _check(len(body) == 4)
        increment = int.from_bytes(body) & _MOST
        _check(increment > 0)
        if stream == 0:  # each body is sent in one frame, so a stream's send window never has to grow
            self._send_window += increment
            _check(self._send_window <= _MOST)


_KINDS: Mapping[int, Callable[[Http2, int, int, bytes], Event | None]] = {
    _DATA: Http2._see_data,
    _HEADERS: Http2._see_headers,
    _RESET: Http2._see_reset,
    _SETTINGS: Http2._see_settings,
    _PUSH: Http2._see_push,
    _PING: Http2._see_ping,
    _GOAWAY: Http2._see_goaway,
    _WINDOW_UPDATE: Http2._see_window_update,
    _CONTINUATION: Http2._see_continuation,
}


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return b"%b%b%b%b" % (len(body).to_bytes(3), bytes((kind, flags)), stream.to_bytes(4), body)


def _without_padding(flags: int, body: bytes) -> bytes:
    if not flags & _PADDED:
        return body
    _check(len(body) > 0 and body[0] < len(body))
    return body[1 : len(body) - body[0]]


def _check(condition: bool) -> None:
    if not condition:
        raise ViolationError("an invalid frame")
