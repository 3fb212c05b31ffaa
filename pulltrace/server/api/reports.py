"""``POST /api/v1/report``: who may, how much, is it one; then the hub. The hottest route, so plain ASGI."""

import zlib

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from pulltrace.server.api.auth import Authenticator, RefusedError
from pulltrace.server.pulls.hub import Hub, TooSoonError
from pulltrace.server.pulls.inventory import TooManyNodesError
from pulltrace.wire import NODE_NAME, AgentReport, ReportResponse

_decoder = msgspec.json.Decoder(AgentReport)


class ReportRoute:
    """The route, behind its gate."""

    def __init__(self, hub: Hub, authenticator: Authenticator) -> None:
        self._hub = hub
        self._authenticator = authenticator
        # Made once: it is the same for everyone, and keeps nothing of a request.
        self._taken = Response(msgspec.json.encode(ReportResponse(boot_id=hub.boot_id)), media_type="application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._take(scope, receive)
        except RefusedError as error:
            self._hub.metrics.rejected(error.kind)
            # What is left of the body is not worth reading.
            headers = error.headers | ({"Connection": "close"} if error.status in (401, 403, 413, 503) else {})
            answer: Response = JSONResponse({"error": str(error)}, error.status, headers)
        else:
            answer = self._taken
        await answer(scope, receive, send)

    async def _take(self, scope: Scope, receive: Receive) -> None:
        headers = {name: value for name, value in scope["headers"] if name in _HEADERS}
        node = await self._authenticator.authenticate(headers.get(b"authorization", b""))
        body = await self._body(headers, Request(scope, receive))
        try:
            report = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RefusedError(400, "malformed", f"not a report: {error}") from None
        if not NODE_NAME.fullmatch(report.node_name):
            raise RefusedError(400, "node_name", "nodeName is not a DNS-1123 subdomain of at most 253 characters")
        if node not in (None, report.node_name):
            raise RefusedError(403, "forbidden", f"this agent may report for node {node} only")
        try:
            self._hub.report(report)
        except TooSoonError:
            message = f"one report of a node in {self._hub.limits.report_interval:g} s"
            raise RefusedError(429, "too_soon", message, {"Retry-After": "1"}) from None
        except TooManyNodesError:
            raise RefusedError(503, "too_many_nodes", "too many nodes", {"Retry-After": "60"}) from None

    async def _body(self, headers: dict[bytes, bytes], request: Request) -> bytes:
        limit = self._hub.limits.body
        encoding = headers.get(b"content-encoding", b"identity").lower()
        if encoding not in (b"identity", b"gzip"):
            raise RefusedError(415, "malformed", "Content-Encoding is neither gzip nor identity")
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise _too_large(limit)
        if encoding == b"identity":
            return bytes(body)
        inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            plain = inflate.decompress(body, limit + 1)  # never more memory than this, however small the body
        except zlib.error as error:
            raise RefusedError(400, "malformed", f"not a gzip body: {error}") from None
        if len(plain) > limit:
            raise _too_large(limit)
        if not inflate.eof or inflate.unused_data:
            raise RefusedError(400, "malformed", "not one whole gzip body")
        return plain


_HEADERS = frozenset((b"authorization", b"content-encoding", b"content-length"))


def _too_large(limit: int) -> RefusedError:
    """Made where it is raised: a frame that held it would be held by it, body and all, until the collector comes."""
    return RefusedError(413, "too_large", f"a report has at most {limit} bytes")
