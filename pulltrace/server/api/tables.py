"""Features for ``curl``, ``watch`` and scripts: tables, and requests that wait until images are ready.

``Accept: text/plain`` or ``?format=text`` selects a table. With ``?wait=60s``, the lists of pods and images are sent
once everything that matches is ready. The response status is 200 if everything is ready, 504 if the wait times out, and
404 if nothing matches within ten seconds.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from pulltrace.server.api import query, text
from pulltrace.server.models import PullStatus
from pulltrace.server.pulls.hub import Hub
from pulltrace.server.pulls.views import pods_waiting, rollouts
from pulltrace.server.responses import ImageRollout
from pulltrace.settings import parse_duration
from pulltrace.wire import to_time

MAX_WAIT = 600.0
MAX_WAITING = 64
"""Maximum number of requests that may wait at the same time."""
UNKNOWN_FOR = 10.0
"""Time, in seconds, after which an unknown pod or image is reported as not found."""
MAX_ROWS = 2000

_LOOK_EVERY = 0.5
_OWN = ("format", "wait")

Row = TypeVar("Row")
Ready = Callable[[query.Query], bool | None]
"""A function that returns whether everything that matches the filters is ready, or None if nothing matches."""
Handler = Callable[[Request], Awaitable[Response]]


class Tables:
    """Adds table output and the ``wait`` parameter to the handlers that return lists."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._waiting = 0

    def pulls(self, json: Handler) -> Handler:
        """Return the handler for ``/api/v1/pulls``."""
        return self._handler(json, self._pulls, None)

    def pods(self, json: Handler) -> Handler:
        """Return the handler for ``/api/v1/pods``."""
        return self._handler(json, self._pods, self._are_pods_ready)

    def images(self, json: Handler) -> Handler:
        """Return the handler for ``/api/v1/images``."""
        return self._handler(json, self._images, self._are_images_ready)

    def nodes(self, json: Handler) -> Handler:
        """Return the handler for ``/api/v1/nodes``."""
        return self._handler(json, self._nodes, None)

    def _handler(self, json: Handler, table: Callable[[query.Query], str], ready: Ready | None) -> Handler:
        async def handle(request: Request) -> Response:
            parameters = request.query_params.multi_items()
            own = {name: value for name, value in parameters if name in _OWN}
            others = [item for item in parameters if item[0] not in _OWN]
            as_text = _wants_text(request, own.get("format"))
            status = 200
            if "wait" in own:
                status = await self._wait(request, _seconds(own["wait"], ready), query.parse(others), ready)
            if as_text and status != 503:
                headers = {"Vary": "Accept", "Cache-Control": "no-cache"}
                return PlainTextResponse(table(query.parse(others, others=query.PAGE)), status, headers)
            if status != 200:
                headers = {"Retry-After": "5"} if status == 503 else {}
                return JSONResponse({"error": _ERRORS[status]}, status, headers)
            scope = dict(request.scope)
            scope["query_string"] = urlencode(others).encode()
            return await json(Request(scope, request.receive))

        return handle

    async def _wait(
        self,
        request: Request,
        seconds: float,
        selection: query.Query,
        ready: Ready | None,
    ) -> int:
        """Wait until everything that matches the filters is ready. Return the status code of the response."""
        if ready is None or self._waiting >= MAX_WAITING:
            return 503
        began, seen = time.monotonic(), False
        self._waiting += 1
        try:
            while True:
                state = ready(selection)
                seen |= state is not None
                elapsed = time.monotonic() - began
                if state:
                    return 200
                if not seen and elapsed >= min(UNKNOWN_FOR, seconds):
                    return 404
                if elapsed >= seconds or self._hub.closing or await request.is_disconnected():
                    return 504
                await asyncio.sleep(_LOOK_EVERY)
        finally:
            self._waiting -= 1

    def _are_pods_ready(self, selection: query.Query) -> bool | None:
        """Return whether every matching pod has started. Return None if no known pod matches."""
        hub, now = self._hub, self._hub.now()
        waiting = pods_waiting(hub.source.cluster.waiting(), hub.feed.pulls(), now)
        if any(query.pod_fits(pod, selection) for pod in waiting):
            return False
        return True if any(query.start_fits(pod, selection) for pod in hub.startup.started(now)) else None

    def _are_images_ready(self, selection: query.Query) -> bool | None:
        known = False
        for image in self._rollouts(selection):
            known = True
            if image.nodes.pulling or image.nodes.queued or image.nodes.failed:
                return False
        return True if known else None

    def _rollouts(self, selection: query.Query) -> Iterator[ImageRollout]:
        return rollouts(pull for pull in self._hub.feed.pulls() if selection.fits(pull))

    def _pulls(self, selection: query.Query) -> str:
        found = [pull for pull in self._hub.feed.pulls() if selection.fits(pull)]
        found.sort(key=_newest_first)
        now = to_time(self._hub.now())
        return _limited(lambda rows: text.pulls(rows, now), iter(found))

    def _pods(self, selection: query.Query) -> str:
        hub, now = self._hub, self._hub.now()
        waiting = pods_waiting(hub.source.cluster.waiting(), hub.feed.pulls(), now)
        found = (pod for pod in waiting if query.pod_fits(pod, selection))
        started = (pod for pod in hub.startup.started(now) if query.start_fits(pod, selection))
        return text.pods(islice(found, MAX_ROWS), islice(started, MAX_ROWS), to_time(now))

    def _images(self, selection: query.Query) -> str:
        return _limited(text.images, self._rollouts(selection))

    def _nodes(self, _: query.Query) -> str:
        now = to_time(self._hub.now())
        return _limited(lambda found: text.nodes(found, now), self._hub.nodes())


_ERRORS = {
    404: "nothing matches: no matching image is being pulled, and no matching pod is waiting or has started recently",
    503: "too many requests are waiting",
    504: "not ready within this time",
}


def _limited(table: Callable[[Iterable[Row]], str], rows: Iterator[Row]) -> str:
    first = table(islice(rows, MAX_ROWS))
    return first if next(rows, None) is None else f"{first}... and more; the JSON lists all of them\n"


def _newest_first(pull: PullStatus) -> tuple[bool, float]:
    """Return a pull's sort key: live pulls come before finished pulls."""
    return pull.status.ended, -pull.started_at.timestamp()


def _wants_text(request: Request, wanted: str | None) -> bool:
    if wanted not in (None, "text", "json"):
        raise query.QueryError("format must be text or json")
    if wanted is not None:
        return wanted == "text"
    return request.headers.get("accept", "").partition(",")[0].strip().startswith("text/plain")


def _seconds(wanted: str, ready: object) -> float:
    if ready is None:
        raise query.QueryError("'wait' is a parameter of pods and images only")
    try:
        seconds = parse_duration(wanted)
    except ValueError:
        raise query.QueryError("wait is not a duration like 60s or 5m") from None
    if seconds > MAX_WAIT:
        raise query.QueryError(f"wait may be at most {MAX_WAIT / 60:g}m")
    return seconds
