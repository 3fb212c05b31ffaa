"""The two applications: API with dashboard, and metrics."""

import asyncio
from collections.abc import Callable, Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pulltrace.server.api.auth import Authenticator
from pulltrace.server.api.dashboard import web_routes
from pulltrace.server.api.query import QueryError
from pulltrace.server.api.routes import api_routes
from pulltrace.server.pulls.hub import Hub

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # No foreign origin: an air-gapped cluster shows the same page.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}

_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]


def create_app(hub: Hub, authenticator: Authenticator, not_ready: Callable[[], str | None]) -> ASGIApp:
    """What is served on ``:8080``."""
    app = Starlette(
        routes=api_routes(hub, authenticator, not_ready) + web_routes(),
        exception_handlers={QueryError: _bad_query, HTTPException: _http_error},
    )
    app.router.redirect_slashes = False
    return SecurityHeaders(Shortcut(app, ("/api/v1/report", "/api/v1/events")))


def create_metrics_app(hub: Hub) -> ASGIApp:
    """What is served on ``:9090``."""

    async def metrics(request: Request) -> Response:
        accept = request.headers.get("accept", "")
        body, content_type = await asyncio.to_thread(hub.metrics.render, accept, hub.gauges())
        return Response(body, headers={"Content-Type": content_type})

    app = Starlette(routes=[Route("/metrics", metrics)], exception_handlers={HTTPException: _http_error})
    return SecurityHeaders(app)


class Shortcut:
    """The way of reports and streams past Starlette's router and error handlers, which are most of what they cost.

    Only the exact path and method: all else, a wrong method among it, goes the usual way.
    """

    def __init__(self, app: Starlette, paths: Iterable[str]) -> None:
        self._app = app
        routes = {route.path: route for route in app.routes if isinstance(route, Route)}
        self._direct = {(method, path): routes[path].app for path in paths for method in ("GET", "POST")}
        self._direct = {key: app for key, app in self._direct.items() if key[0] in (routes[key[1]].methods or ())}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._direct.get((scope["method"], scope["path"]), self._app) if scope["type"] == "http" else self._app
        await app(scope, receive, send)


class SecurityHeaders:
    """On every answer, errors included, hence around everything. Plain ASGI: it wraps no body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                # MutableHeaders looks each one up among all others: 32 µs per answer instead of 0.3.
                message = {**message, "headers": [*message["headers"], *_RAW_HEADERS]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _bad_query(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
