"""The routes of the API (``docs/api.md``). Both the lists and the stream are generated from the feed."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from pulltrace import __version__
from pulltrace.server.api import openapi, query
from pulltrace.server.api.auth import Authenticator
from pulltrace.server.api.events import EventsRoute
from pulltrace.server.api.fair_share import FairShare
from pulltrace.server.api.reports import ReportRoute
from pulltrace.server.api.responses import SlicedResponse, is_known, json_headers, not_modified, tag_of
from pulltrace.server.api.tables import Tables
from pulltrace.server.pulls.feed import Entry, encoder
from pulltrace.server.pulls.hub import Hub
from pulltrace.server.pulls.node import LOAD_AGE
from pulltrace.server.pulls.throughput import STEP
from pulltrace.server.pulls.views import pods_waiting, rollouts, running
from pulltrace.server.responses import NodeList, PodList, RegistryThroughput, ThroughputList
from pulltrace.wire import to_time


def api_routes(hub: Hub, authenticator: Authenticator, not_ready: Callable[[], str | None]) -> list[BaseRoute]:
    """Return all routes of the API.

    ``not_ready`` returns the reason why the server is not ready, or None if it is ready.
    """
    api, tables = _Api(hub, not_ready), Tables(hub)
    return [
        Route("/api/v1/report", ReportRoute(hub, authenticator), methods=["POST"]),
        Route("/api/v1/pulls", tables.pulls(api.pulls)),
        Route("/api/v1/pulls/{id}", api.pull),
        Route("/api/v1/nodes", tables.nodes(api.nodes)),
        Route("/api/v1/pods", tables.pods(api.pods)),
        Route("/api/v1/images", tables.images(api.images)),
        Route("/api/v1/throughput", api.throughput),
        Route("/api/v1/events", EventsRoute(hub), methods=["GET"]),
        Route("/api/v1/openapi.json", api.openapi),
        Route("/healthz", api.healthz),
        Route("/readyz", api.readyz),
    ]


class _Api:
    def __init__(self, hub: Hub, not_ready: Callable[[], str | None]) -> None:
        self._hub = hub
        self._not_ready = not_ready
        self._share = FairShare(hub.limits.lists, hub.limits.lists_per_address)

    async def pulls(self, request: Request) -> Response:
        parameters = request.query_params.multi_items()
        selection = query.parse(parameters, others=(*query.PAGE, "running"))
        page = query.parse_page(parameters)
        tag = tag_of(request, self._version(self._hub.feed.revision))
        if is_known(request, tag):
            return not_modified(tag)
        found = [pull for pull in self._hub.feed.pulls() if selection.fits(pull)]
        if "running" in request.query_params:
            ids, following = [pull.id for pull in running(found)[: page.limit]], ""
        else:
            ids, following = page.of(sorted(((query.cursor(pull), pull.id) for pull in found), reverse=True))
        pulls = self._encoded(ids, selection)
        return self._list(request, {"pulls": pulls}, tag, {"next": following} if following else {})

    def _encoded(self, ids: Iterable[str], selection: query.Query) -> Iterator[bytes]:
        """Encode pulls one at a time while the response is being sent. Pulls that are removed while the response is
        being sent are omitted.
        """
        for id_ in ids:
            entry = self._hub.feed.get(id_)
            if entry and entry.pull and selection.fits(entry.pull):
                yield _pull(entry, selection.layers(id_))

    async def pull(self, request: Request) -> Response:
        entry = self._hub.feed.get(request.path_params["id"])
        if entry is None or entry.pull is None:
            return JSONResponse({"error": "no such pull"}, 404)
        tag = tag_of(request, self._version(entry.revision))
        return not_modified(tag) if is_known(request, tag) else self._document(request, _pull(entry, True), tag)

    async def nodes(self, request: Request) -> Response:
        hub, pods = self._hub, self._hub.source.cluster
        age = int(hub.now() // LOAD_AGE)  # changes whenever a node's load may have become too old to show
        tag = tag_of(request, self._version(hub.feed.revision, hub.node_revision, pods.revision, age))
        if is_known(request, tag):
            return not_modified(tag)
        rest = NodeList(nodes=[], registries=hub.registries(), unobserved=hub.unobserved() or None)
        return self._list(request, {"nodes": map(encoder.encode, hub.nodes())}, tag, msgspec.to_builtins(rest))

    async def pods(self, request: Request) -> Response:
        selection = query.parse(request.query_params.multi_items())
        hub, source, startup = self._hub, self._hub.source, self._hub.startup
        problem = source.problem
        version = self._version(hub.feed.revision, source.cluster.revision, startup.revision, f"{hash(problem):x}")
        tag = tag_of(request, version)
        if is_known(request, tag):
            return not_modified(tag)
        now = hub.now()
        waiting = pods_waiting(source.cluster.waiting(), hub.feed.pulls(), now, startup)
        pods = (encoder.encode(pod) for pod in waiting if query.pod_fits(pod, selection))
        started = (encoder.encode(pod) for pod in startup.started(now) if query.start_fits(pod, selection))
        rest = PodList(pods=[], watching=source.sees_pods, reason=problem)
        return self._list(request, {"pods": pods, "started": started}, tag, msgspec.to_builtins(rest))

    async def images(self, request: Request) -> Response:
        selection = query.parse(request.query_params.multi_items())
        tag = tag_of(request, self._version(self._hub.feed.revision))
        if is_known(request, tag):
            return not_modified(tag)
        found = rollouts(pull for pull in self._hub.feed.pulls() if selection.fits(pull))
        return self._list(request, {"images": map(encoder.encode, found)}, tag, {})

    async def throughput(self, request: Request) -> Response:
        now = self._hub.now()
        since, rates = self._hub.throughput.series(now)
        downloaded, ended = self._hub.throughput.totals(now)
        registries = [
            RegistryThroughput(registry=name, bytes_per_sec=series, downloaded_bytes=downloaded[name])
            for name, series in rates.items()
        ]
        body = encoder.encode(
            ThroughputList(
                since=to_time(since),
                step=STEP,
                registries=registries,
                completed=ended["completed"],
                failed=ended["failed"],
                canceled=ended["canceled"],
                downloaded_bytes=downloaded.total(),
            )
        )
        tag = tag_of(request, hashlib.blake2b(body, digest_size=12).hexdigest())
        return not_modified(tag) if is_known(request, tag) else self._document(request, body, tag)

    async def openapi(self, request: Request) -> Response:
        tag = tag_of(request, __version__)
        return not_modified(tag) if is_known(request, tag) else self._document(request, openapi.document(), tag)

    async def healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(self, _: Request) -> Response:
        reason = "shutting down" if self._hub.closing else self._not_ready()
        return PlainTextResponse(reason, 503) if reason else PlainTextResponse("ok")

    def _version(self, *parts: object) -> str:
        return "-".join(map(str, (self._hub.boot_id, *parts)))

    def _document(self, request: Request, body: bytes, tag: str) -> Response:
        return SlicedResponse(request, [body], json_headers(tag), self._hub.limits)

    def _list(self, request: Request, lists: dict[str, Iterable[bytes]], tag: str, rest: dict[str, Any]) -> Response:
        """Return a JSON object whose lists are encoded while they are being sent. ``rest`` contains the object's other
        fields.
        """
        parts = _json(lists, rest)
        return SlicedResponse(request, parts, json_headers(tag), self._hub.limits, self._share)


def _json(lists: dict[str, Iterable[bytes]], rest: dict[str, Any]) -> Iterator[bytes]:
    before = b"{"
    for name, items in lists.items():
        yield before + b'"%s":[' % name.encode()
        separator = b""
        for item in items:
            yield separator + item
            separator = b","
        before = b"],"
    others = encoder.encode({name: value for name, value in rest.items() if name not in lists})
    yield b"]," + others[1:] if len(others) > 2 else b"]}"


def _pull(entry: Entry, layers: bool) -> bytes:
    return encoder.encode(entry.shown(layers=layers))
