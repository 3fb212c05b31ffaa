"""Send lists, documents and files of arbitrary size in compressed slices."""

import asyncio
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pulltrace.server.api.fair_share import FairShare
from pulltrace.server.api.guard import Guard
from pulltrace.server.limits import Limits

SLICE = 64 << 10
"""The size of a slice in bytes. The next slice is encoded only after the client has accepted the previous slice and
other clients have had a turn.
"""
_GZIP = re.compile(r"(?:^|[\s,])(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))|,|$)", re.IGNORECASE)
_SMALL = 1024
"""Responses below this size, in bytes, are not compressed."""


def accepts_gzip(request: Request) -> bool:
    """Return whether the client accepts gzip (RFC 9110, section 12.5.3)."""
    return _GZIP.search(request.headers.get("accept-encoding", "")) is not None


def tag_of(request: Request, version: str) -> str:
    """Return the ETag for this version of the content. The ETag depends on the encoding of the response."""
    return f'"{version}-gzip"' if accepts_gzip(request) else f'"{version}"'


def is_known(request: Request, tag: str) -> bool:
    """Return whether the client already has the version that this ETag identifies (RFC 9110, section 13.1.2: weak
    comparison).
    """
    known = request.headers.get("if-none-match", "")
    return known == "*" or any(tag == part.strip().removeprefix("W/") for part in known.split(","))


def not_modified(tag: str) -> Response:
    """Return a 304 response without a body."""
    return Response(None, 304, {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"})


def json_headers(tag: str) -> dict[str, str]:
    """Return the headers for a JSON document that has an ETag."""
    return {"ETag": tag, "Cache-Control": "no-cache", "Content-Type": "application/json"}


class SlicedResponse(Response):
    """Sends the ``parts`` of a body, compressed if the client accepts gzip. A part is encoded only after the client has
    accepted the previous part.

    If ``headers`` contains a Content-Encoding, the body is sent unchanged.

    ``share`` limits the number of concurrent responses. Additional clients receive 503 and may retry. A client is
    disconnected if it reads nothing for ``client_timeout``, or takes longer than ``response_timeout`` to read the whole
    response.
    """

    def __init__(
        self,
        request: Request,
        parts: Iterable[bytes],
        headers: Mapping[str, str],
        limits: Limits,
        share: FairShare | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._gzip = accepts_gzip(request) and "Content-Encoding" not in headers
        self._parts, self._limits, self._share = parts, limits, share
        self.init_headers({**headers, "Vary": "Accept-Encoding"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guard = Guard.of(scope)
        if self._share and not self._share.take(guard.address):
            message = "too many lists are being sent, in total or to your address; try again"
            raise HTTPException(503, message, {"Retry-After": "2"})
        try:
            async with asyncio.timeout(self._limits.response_timeout):
                await self._send(guard, scope["method"] == "HEAD", send)
        except TimeoutError:
            await guard.abort()
        finally:
            if self._share:
                self._share.release(guard.address)

    async def _send(self, guard: Guard, head_only: bool, send: Send) -> None:
        slices = iter(()) if head_only else self._slices()
        first = next(slices, b"")
        second = next(slices, None)
        headers = [*self.raw_headers]
        if second is None and not head_only:
            headers.append((b"content-length", b"%d" % len(first)))
        if self._gzip:
            headers.append((b"content-encoding", b"gzip"))
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await self._send_slice(send, first, second is not None)
        while second is not None:
            following = next(slices, None)
            await self._send_slice(send, second, following is not None)
            second = following
            await asyncio.sleep(0)
            if guard.is_closed:
                return

    async def _send_slice(self, send: Send, data: bytes, more: bool) -> None:
        async with asyncio.timeout(self._limits.client_timeout):
            await send({"type": "http.response.body", "body": data, "more_body": more})

    def _slices(self) -> Iterator[bytes]:
        first = True
        compress = zlib.compressobj(1, wbits=16 + zlib.MAX_WBITS)
        for data, is_last in _joined(self._parts):
            if first and is_last and len(data) < _SMALL:
                self._gzip = False
            first = False
            if not self._gzip:
                yield data
            else:
                yield compress.compress(data) + (compress.flush() if is_last else b"")


def _joined(parts: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Join parts into slices, and mark the last slice."""
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        if size >= SLICE:
            yield b"".join(waiting), False
            waiting, size = [], 0
        waiting.append(part)
        size += len(part)
    yield b"".join(waiting), True
