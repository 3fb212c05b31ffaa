"""The API's routes, by ``docs/api.md``. What they show comes from the feed, list and stream alike."""

import asyncio
import hashlib
from collections.abc import Callable
from operator import itemgetter

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from pulltrace import __version__
from pulltrace.server.api import openapi, query
from pulltrace.server.api.auth import Authenticator
from pulltrace.server.api.etag import is_known, json_answer
from pulltrace.server.api.events import EventsRoute
from pulltrace.server.api.reports import ReportRoute
from pulltrace.server.pulls.feed import Entry, encoder
from pulltrace.server.pulls.hub import Hub
from pulltrace.server.pulls.views import pods_waiting, rollouts
from pulltrace.wire import ImageList, PodList

_SLICE = 200
"""Pulls encoded before the loop has its turn again."""


def api_routes(hub: Hub, authenticator: Authenticator, not_ready: Callable[[], str | None]) -> list[BaseRoute]:
    """Every route that programs use. ``not_ready`` tells why the server is not ready, None when it is."""
    api = _Api(hub, not_ready)
    return [
        Route("/api/v1/report", ReportRoute(hub, authenticator), methods=["POST"]),
        Route("/api/v1/pulls", api.pulls),
        Route("/api/v1/pulls/{id}", api.pull),
        Route("/api/v1/nodes", api.nodes),
        Route("/api/v1/pods", api.pods),
        Route("/api/v1/images", api.images),
        Route("/api/v1/events", EventsRoute(hub), methods=["GET"]),
        Route("/api/v1/openapi.json", api.openapi),
        Route("/healthz", api.healthz),
        Route("/readyz", api.readyz),
    ]


class _Api:
    def __init__(self, hub: Hub, not_ready: Callable[[], str | None]) -> None:
        self._hub = hub
        self._not_ready = not_ready

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

    async def pods(self, request: Request) -> Response:
        asked = query.parse(request.query_params.multi_items())
        source = self._hub.source
        problem = source.problem
        revisions = f"{self._hub.feed.revision}-{source.cluster.revision}-{self._hub.startup.revision}"
        tag = f'"{self._hub.boot_id}-{revisions}-{hash(problem):x}"'
        if is_known(request, tag):
            return json_answer(b"", tag, 304)
        now, startup = self._hub.now(), self._hub.startup
        waiting = pods_waiting(source.cluster.waiting(), self._hub.feed.pulls(), now, startup)
        found = [pod for pod in waiting if query.pod_fits(pod, asked)]
        started = [pod for pod in startup.started(now) if query.start_fits(pod, asked)]
        pods = PodList(pods=found, watching=source.sees_pods, reason=problem, started=started)
        return json_answer(encoder.encode(pods), tag)

    async def images(self, request: Request) -> Response:
        asked = query.parse(request.query_params.multi_items())
        tag = f'"{self._hub.boot_id}-{self._hub.feed.revision}"'
        if is_known(request, tag):
            return json_answer(b"", tag, 304)
        found = rollouts(pull for pull in self._hub.feed.pulls() if asked.fits(pull))
        return json_answer(encoder.encode(ImageList(images=found)), tag)

    async def openapi(self, request: Request) -> Response:
        tag = f'"{__version__}"'
        return json_answer(b"", tag, 304) if is_known(request, tag) else json_answer(openapi.document(), tag)

    async def healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(self, _: Request) -> Response:
        reason = "shutting down" if self._hub.closing else self._not_ready()
        return PlainTextResponse(reason, 503) if reason else PlainTextResponse("ok")


def _pull(entry: Entry, layers: bool) -> bytes:
    return encoder.encode(entry.shown(layers=layers))
