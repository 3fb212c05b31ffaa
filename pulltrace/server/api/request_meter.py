"""Measure HTTP/1 requests while they arrive: the sizes of heads, chunk framing and trailers, and the number of headers.

With httptools, uvicorn does not limit these sizes and numbers. With h11 it has such limits, but needs several times the
CPU for each report. So a second httptools parser reads the same bytes, and keeps none of them.
"""

from enum import Enum

import httptools

from pulltrace.server.limits import Limits

_PIPELINED = 16
"""Maximum number of requests on one connection that wait for the responses to earlier ones."""
_FRAMING_PER_BYTE = 8
"""Bytes of chunk framing allowed for each byte of content; one-byte chunks need five."""


class RefusedRequestError(Exception):
    """A request that is too large, or not HTTP. ``reason`` is the label of the metric."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Part(Enum):
    """The part of the request that is arriving."""

    NONE = "between requests"
    HEAD = "head"
    BODY = "body"


class RequestMeter:
    """Measures the requests of one connection."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # uvicorn's own parser does the same
        self._refusal: RefusedRequestError | None = None
        self._size = self._headers = self._body = self._body_of_feed = 0
        self.part = Part.NONE
        self.open_bytes = 0
        """The size of the unfinished request, without its content, in bytes."""
        self.begun = 0
        """Requests whose head has arrived completely."""
        self.finished = 0
        """Requests that have received their response. The owner of the meter counts them."""
        self.version = ""
        """The HTTP version of the newest request."""

    @property
    def pending(self) -> int:
        """The number of requests that wait for their response."""
        return self.begun - self.finished

    def close(self) -> None:
        """Free the parser, which keeps the unfinished header and this object alive.

        Do not call ``feed`` after this.
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
            raise self._refusal or RefusedRequestError(400, "malformed") from None
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
        if self._body > 2 * limits.body:  # the route has already responded when half of this size was reached
            raise RefusedRequestError(413, "body_too_large")

    # The callbacks of the parser. If a callback raises an exception, `feed_data` ends.

    def on_message_begin(self) -> None:
        """A request begins."""
        self.part = Part.HEAD
        self._size = self._headers = self._body = self.open_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request's target has arrived."""
        self._add(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has arrived, or a trailer."""
        self._headers += 1
        self._add(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        """The head is complete."""
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
        """A part of the request's content has arrived."""
        self._body += len(body)
        self._body_of_feed += len(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self.part = Part.NONE
        self.open_bytes = 0

    def _add(self, size: int) -> None:
        self._size += size
        if self._size > self._limits.head or self._headers > self._limits.headers:
            self._refuse(431, "head_too_large")

    def _refuse(self, status: int, reason: str) -> None:
        self._refusal = RefusedRequestError(status, reason)
        raise self._refusal
