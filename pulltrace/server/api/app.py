"""Build the two applications: the API with the dashboard, and the metrics."""

import asyncio
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pulltrace.server.api.auth import Authenticator
from pulltrace.server.api.dashboard import web_routes
from pulltrace.server.api.fair_share import FairShare
from pulltrace.server.api.query import QueryError
from pulltrace.server.api.responses import SLICE, SlicedResponse
from pulltrace.server.api.routes import api_routes
from pulltrace.server.pulls.hub import Hub

_REPORT = "/api/v1/report"
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # The page loads nothing from other servers, so it works without Internet access.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
"""uvicorn adds these headers to all responses, including its own error responses."""


def create_app(
    hub: Hub, authenticator: Authenticator, not_ready: Callable[[], str | None], cors_origin: str | None = None
) -> ASGIApp:
    """Return the application for port 8080. Pages from ``cors_origin`` are allowed to read its responses (CORS)."""
    app = Starlette(
        middleware=_cors(cors_origin) if cors_origin else [],
        routes=api_routes(hub, authenticator, not_ready) + web_routes(hub.limits),
        exception_handlers={QueryError: _bad_query, HTTPException: _http_error},
    )
    app.router.redirect_slashes = False
    return _Shortcut(app)


class _Shortcut:
    """Handles reports directly, bypassing Starlette's router and error handlers (see ADR 15)."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._reports = next(route.app for route in app.routes if isinstance(route, Route) and route.path == _REPORT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_report = scope["type"] == "http" and scope["path"] == _REPORT and scope["method"] == "POST"
        await (self._reports if is_report else self._app)(scope, receive, send)


def _cors(origin: str) -> list[Middleware]:
    headers = ["If-None-Match", "Last-Event-ID"]
    return [Middleware(CORSMiddleware, allow_origins=[origin], allow_headers=headers, expose_headers=["ETag"])]


def create_metrics_app(hub: Hub) -> Starlette:
    """Return the application for port 9090."""

    scrapes = Scrapes(hub)
    return Starlette(routes=[Route("/metrics", scrapes.respond)], exception_handlers={HTTPException: _http_error})


class Scrapes:
    """The route that serves the metrics.

    If a scrape arrives while a response is being prepared, the scrape waits for that response and shares it.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._share = FairShare(hub.limits.lists, hub.limits.lists_per_address)
        self._rendering: dict[str, asyncio.Task[bytes]] = {}

    async def respond(self, request: Request) -> Response:
        """Respond to one scrape."""
        accept = request.headers.get("accept", "")
        body = await asyncio.shield(self._render(accept))
        slices = (body[start : start + SLICE] for start in range(0, len(body), SLICE))
        return SlicedResponse(
            request, slices, {"Content-Type": self._hub.metrics.content_type(accept)}, self._hub.limits, self._share
        )

    def _render(self, accept: str) -> asyncio.Task[bytes]:
        content_type = self._hub.metrics.content_type(accept)
        task = self._rendering.get(content_type)
        if task is None:
            text = asyncio.to_thread(self._hub.metrics.render, accept, self._hub.gauges())
            task = self._rendering[content_type] = asyncio.create_task(text)
            task.add_done_callback(lambda _: self._rendering.pop(content_type))
        return task


async def _bad_query(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # this handler is registered for this class
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
