"""The API's routes, by ``docs/api.md``. What they show comes from the feed, list and stream alike."""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from operator import itemgetter

from sse_starlette import EventSourceResponse
from sse_starlette.sse import SendTimeoutError
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from pulltrace.logs import fields
from pulltrace.server import query
from pulltrace.server.admission import Gate
from pulltrace.server.answers import is_known, json_answer
from pulltrace.server.feed import Entry, encoder
from pulltrace.server.hub import Hub
from pulltrace.server.kube_routes import kube_routes
from pulltrace.server.reports import ReportRoute
from pulltrace.server.stream import Reader

_log = logging.getLogger(__name__)

_SLICE = 200
"""Pulls encoded before the loop has its turn again."""


def api_routes(hub: Hub, gate: Gate, not_ready: Callable[[], str | None]) -> list[BaseRoute]:
    """Every route that programs use. ``not_ready`` tells why the server is not ready, None when it is."""
    api = _Api(hub, not_ready)
    return [
        Route("/api/v1/report", ReportRoute(hub, gate), methods=["POST"]),
        Route("/api/v1/pulls", api.pulls),
        Route("/api/v1/pulls/{id}", api.pull),
        Route("/api/v1/nodes", api.nodes),
        *kube_routes(hub),
        Route("/api/v1/events", api.events),
        Route("/healthz", api.healthz),
        Route("/readyz", api.readyz),
    ]


class _Api:
    def __init__(self, hub: Hub, not_ready: Callable[[], str | None]) -> None:
        self._hub = hub
        self._not_ready = not_ready
        self._readers = 0

    async def pulls(self, request: Request) -> Response:
        asked = query.parse(request.query_params.multi_items())
        tag = f'"{self._hub.boot_id}-{self._hub.feed.revision}"'
        if is_known(request, tag):
            return json_answer(b"", tag, 304)
        found = [
            (entry.pull.started_at, entry)
            for entry in self._hub.feed.entries()
            if entry.pull and asked.fits(entry.pull)
        ]
        found.sort(key=itemgetter(0), reverse=True)
        parts = []
        for start in range(0, len(found), _SLICE):
            if start:
                await asyncio.sleep(0)
            parts += [_pull(entry, asked.layers(entry.id)) for _, entry in found[start : start + _SLICE]]
        return json_answer(b'{"pulls":[' + b",".join(parts) + b"]}", tag)

    async def pull(self, request: Request) -> Response:
        entry = self._hub.feed.get(request.path_params["id"])
        if entry is None or entry.pull is None:
            return JSONResponse({"error": "no such pull"}, 404)
        tag = f'"{self._hub.boot_id}-{entry.revision}"'
        return json_answer(b"", tag, 304) if is_known(request, tag) else json_answer(_pull(entry, True), tag)

    async def nodes(self, request: Request) -> Response:
        body = encoder.encode(self._hub.nodes())
        tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        return json_answer(b"", tag, 304) if is_known(request, tag) else json_answer(body, tag)

    async def events(self, request: Request) -> Response:
        asked = query.parse(request.query_params.multi_items(), others=("lastEventId",))
        if self._readers >= self._hub.limits.readers:
            return JSONResponse({"error": "too many readers"}, 503, {"Retry-After": "5"})
        last_event_id = request.headers.get("last-event-id") or request.query_params.get("lastEventId")
        return _Stream(self, self._hub, Reader(self._hub, asked, last_event_id or None))

    async def healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(self, _: Request) -> Response:
        reason = "shutting down" if self._hub.closing.is_set() else self._not_ready()
        return PlainTextResponse(reason, 503) if reason else PlainTextResponse("ok")

    def count_reader(self, change: int) -> None:
        self._readers += change
        self._hub.metrics.readers.set(self._readers)


class _Stream(EventSourceResponse):
    """A reader's response. It is counted here and not in its generator, whose ``finally`` may never run."""

    def __init__(self, api: _Api, hub: Hub, reader: Reader) -> None:
        # Its own pings are off: a second writer beside ours. Frames pass through it as they are.
        super().__init__(reader.follow(), ping=0, send_timeout=hub.limits.reader_timeout)
        self._api = api
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._api.count_reader(+1)
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            self._hub.metrics.readers_dropped.inc()
            _log.info("reader.dropped", extra=fields(client=scope["client"] and scope["client"][0]))
        else:
            return
        finally:
            self._api.count_reader(-1)
        # What is under way cannot be recalled, and uvicorn would call it our fault to end here. The kernel closes the
        # connection (TCP_USER_TIMEOUT, see run.py).
        await receive()


def _pull(entry: Entry, layers: bool) -> bytes:
    return encoder.encode(entry.shown(layers=layers))
