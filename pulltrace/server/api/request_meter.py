"""Measure HTTP/1 requests as they arrive: the sizes of heads, chunk framing and trailers, and the number of headers.

uvicorn limits these sizes and numbers only if it uses h11. h11 needs several times as much CPU time per report as
httptools does. The meter therefore passes all received bytes to a second httptools parser, which does not store any
data.
"""

from enum import Enum

import httptools

from pulltrace.server.limits import Limits

_PIPELINED = 16
"""Maximum number of pipelined requests that may wait for a response on one connection."""
_FRAMING_PER_BYTE = 8
"""Maximum number of chunk-framing bytes per byte of content. A one-byte chunk needs five bytes of framing."""


class RefusedRequestError(Exception):
    """The request is too large or is not valid HTTP. ``reason`` is used as a label in the metrics."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Part(Enum):
    """The part of a request that is currently being received."""

    NONE = "between requests"
    HEAD = "head"
    BODY = "body"


class RequestMeter:
    """Measures the requests on one connection."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # uvicorn's own parser does the same
        self._refusal = (400, "malformed")
        """The arguments of ``RefusedRequestError``. The exception itself is not stored, because its traceback refers to
        this object and to the received data. Only the garbage collector could free such a cycle.
        """
        self._size = self._headers = self._body = self._body_of_feed = 0
        self.part = Part.NONE
        self.open_bytes = 0
        """The number of bytes received so far for the current request's unfinished head, or for the chunk framing and
        trailers of its unfinished body.
        """
        self.begun = 0
        """The number of requests whose heads have been received completely."""
        self.finished = 0
        """The number of requests that have been answered. The meter's owner increments this attribute."""
        self.version = ""
        """The HTTP version of the most recent request."""

    @property
    def pending(self) -> int:
        """The number of requests that have not been answered yet."""
        return self.begun - self.finished

    def close(self) -> None:
        """Free the parser, because it keeps references to the unfinished header and to this object.

        Do not call ``feed`` after ``close``.
        """
        del self._parser

    def feed(self, data: bytes) -> None:
        """Process the next bytes. Raises ``RefusedRequestError``."""
        before, begun = self.part, self.begun
        self._body_of_feed = 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            raise RefusedRequestError(*self._refusal) from None
        if self.part is Part.NONE and before is not Part.BODY and begun == self.begun:
            self.part = Part.HEAD  # blank lines, which are allowed before a request
        self._measure_open(len(data) - self._body_of_feed, before)

    def _measure_open(self, size: int, before: Part) -> None:
        limits = self._limits
        if self.part is Part.HEAD or before is self.part is Part.BODY:
            self.open_bytes += size
        if self.part is Part.HEAD and self.open_bytes > limits.head:
            raise RefusedRequestError(431, "head_too_large")
        if self.part is Part.BODY and self.open_bytes > limits.head + _FRAMING_PER_BYTE * self._body:
            raise RefusedRequestError(413, "body_too_large")
        if self._body > 2 * limits.body:  # the route for reports responds after half as many bytes
            raise RefusedRequestError(413, "body_too_large")

    # The parser's callbacks. An exception in a callback makes `feed_data` fail.

    def on_message_begin(self) -> None:
        """Process the start of a request."""
        self.part = Part.HEAD
        self._size = self._headers = self._body = self.open_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Process a part of the request target."""
        self._size += len(url)
        if self._size > self._limits.head:
            self._refuse(431, "head_too_large")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Process a header or a trailer."""
        self._headers += 1
        self._size += len(name) + len(value) + 4
        if self._size > self._limits.head or self._headers > self._limits.headers:
            self._refuse(431, "head_too_large")

    def on_headers_complete(self) -> None:
        """Process the end of a request's head."""
        version = self._parser.get_http_version()
        if self.begun and version != self.version:
            self._refuse(400, "malformed")
        self.version = version
        self.part = Part.BODY
        self.open_bytes = 0
        self.begun += 1
        if self.pending > _PIPELINED:
            self._refuse(429, "pipelined")

    def on_body(self, body: bytes) -> None:
        """Process a part of the request content."""
        self._body += len(body)
        self._body_of_feed += len(body)

    def on_message_complete(self) -> None:
        """Process the end of a request."""
        self.part = Part.NONE
        self.open_bytes = 0

    def _refuse(self, status: int, reason: str) -> None:
        self._refusal = (status, reason)
        raise RefusedRequestError(status, reason)
