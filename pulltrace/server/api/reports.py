"""``POST /api/v1/report``: authenticate the agent, read and decode its report, and pass the report to the hub.

The route is a plain ASGI application, which is faster than a Starlette route.
"""

import asyncio
import zlib

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from pulltrace.server.api.auth import Authenticator, RefusedError, authorization_of
from pulltrace.server.api.fair_share import FairShare
from pulltrace.server.api.guard import Guard
from pulltrace.server.pulls.hub import Hub, TooSoonError
from pulltrace.server.pulls.inventory import TooManyNodesError
from pulltrace.wire import NODE_NAME, AgentReport, ReportResponse

_SMALL = 64 << 10
"""Bodies up to this size, in bytes, do not count towards the limit, because uvicorn buffers this much of any request.
"""

_decoder = msgspec.json.Decoder(AgentReport)


class ReportRoute:
    """The route for reports. Limits the memory used by bodies that are being received."""

    def __init__(self, hub: Hub, authenticator: Authenticator) -> None:
        self._hub = hub
        self._authenticator = authenticator
        self._receiving = FairShare(hub.limits.bodies, hub.limits.bodies_per_address)
        """The total size, in bytes, of all large bodies that are currently being received."""
        self._sending: set[str] = set()
        """The nodes from which only part of a body has arrived so far."""
        # The same response is sent to every client.
        self._accepted = Response(
            msgspec.json.encode(ReportResponse(boot_id=hub.boot_id)), media_type="application/json"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response: Response = self._accepted
        try:
            await self._take(scope, receive)
        except ClientDisconnect:
            return
        except RefusedError as error:
            response = self._refuse(error)
        except asyncio.CancelledError:  # uvicorn does not wait for slow requests when it stops
            if not self._hub.closing:
                raise
            response = self._refuse(RefusedError(503, "stopping", "the server is stopping", {"Retry-After": "1"}))
        await response(scope, receive, send)

    def _refuse(self, error: RefusedError) -> Response:
        self._hub.metrics.rejected(error.kind)
        # Do not read the rest of the body.
        unread = error.status in (401, 403, 408, 413, 503) or error.kind == "busy"
        close = {"Connection": "close"} if unread else {}
        return JSONResponse({"error": str(error)}, error.status, error.headers | close)

    async def _take(self, scope: Scope, receive: Receive) -> None:
        guard = Guard.of(scope)
        node = await self._authenticator.authenticate(authorization_of(scope["headers"]), guard.address)
        report = _decode(await self._body(scope["headers"], receive, guard, node))
        if not NODE_NAME.fullmatch(report.node_name):
            raise RefusedError(400, "node_name", "nodeName is not a DNS-1123 subdomain of at most 253 characters")
        if node not in (None, report.node_name):
            raise RefusedError(403, "forbidden", f"this agent may report only for node {node}")
        try:
            self._hub.report(report)
        except TooSoonError:
            message = f"a node may report once in {self._hub.limits.report_interval:g} s"
            raise RefusedError(429, "too_soon", message, {"Retry-After": "1"}) from None
        except TooManyNodesError:
            raise RefusedError(503, "too_many_nodes", "too many nodes", {"Retry-After": "60"}) from None

    async def _body(
        self, headers: list[tuple[bytes, bytes]], receive: Receive, guard: Guard, node: str | None
    ) -> bytes:
        limits = self._hub.limits
        encoding, length = b"identity", b""
        for name, value in headers:
            if name == b"content-encoding":
                encoding = value.lower()
            elif name == b"content-length":
                length = value
        if encoding not in (b"identity", b"gzip"):
            raise RefusedError(415, "malformed", "Content-Encoding must be gzip or identity")
        if length.isdigit() and int(length) > limits.body:
            raise _too_large(limits.body)
        if guard.has_whole_request:  # the whole body has already arrived, so no limit is needed
            body = (await _receive(receive))[0]
        else:
            body = await self._arriving(receive, guard.address, node)
        if len(body) > limits.body:
            raise _too_large(limits.body)
        return _inflate(body, limits.body) if encoding == b"gzip" else body

    async def _arriving(self, receive: Receive, address: str, node: str | None) -> bytes:
        """Receive a body that arrives in several parts. Both the time for receiving a body and the total memory for all
        bodies are limited.

        If a client's token is bound to a node, only one such body is received from that node at a time.
        """
        if node in self._sending:
            raise RefusedError(429, "busy", "another report with this token is arriving", {"Retry-After": "1"})
        limits = self._hub.limits
        body, counted, more = bytearray(), 0, True
        if node:
            self._sending.add(node)
        try:
            async with asyncio.timeout(limits.body_timeout):
                while more:
                    chunk, more = await _receive(receive)
                    body += chunk
                    if len(body) > limits.body:
                        raise _too_large(limits.body)
                    if len(body) > _SMALL:
                        if not self._receiving.take(address, len(body) - counted):
                            message = "too many large reports are arriving at the same time"
                            raise RefusedError(503, "busy", message, {"Retry-After": "2"})
                        counted = len(body)
        except TimeoutError:
            raise RefusedError(
                408, "too_slow", f"the body took longer than {limits.body_timeout:g} s to arrive"
            ) from None
        finally:
            self._receiving.release(address, counted)
            self._sending.discard(node or "")
        return bytes(body)


async def _receive(receive: Receive) -> tuple[bytes, bool]:
    """Return the next part of a body, and whether more parts follow. Raises ``ClientDisconnect``."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


def _decode(body: bytes) -> AgentReport:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(400, "malformed", f"not a report: {error}") from None


def _inflate(body: bytes, limit: int) -> bytes:
    inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        plain = inflate.decompress(
            body, limit + 1
        )  # limits memory use, because a small body may inflate to a huge body
    except zlib.error as error:
        raise RefusedError(400, "malformed", f"not a gzip body: {error}") from None
    if len(plain) > limit:
        raise _too_large(limit)
    if not inflate.eof or inflate.unused_data:
        raise RefusedError(400, "malformed", "the body is not exactly one complete gzip stream")
    return plain


def _too_large(limit: int) -> RefusedError:
    return RefusedError(413, "too_large", f"a report may have at most {limit} bytes")
