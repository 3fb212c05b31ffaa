"""The two applications: the API with the dashboard, and the metrics."""

import asyncio
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

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
    # No foreign origin: the page works without Internet access.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
"""The headers of every response. uvicorn adds them, also to errors of its own."""


def create_app(hub: Hub, authenticator: Authenticator, not_ready: Callable[[], str | None]) -> Starlette:
    """Return the application of port 8080."""
    app = Starlette(
        routes=api_routes(hub, authenticator, not_ready) + web_routes(),
        exception_handlers={QueryError: _bad_query, HTTPException: _http_error},
    )
    app.router.redirect_slashes = False
    return app


def create_metrics_app(hub: Hub) -> Starlette:
    """Return the application of port 9090."""

    async def metrics(request: Request) -> Response:
        accept = request.headers.get("accept", "")
        body, content_type = await asyncio.to_thread(hub.metrics.render, accept, hub.gauges())
        return Response(body, headers={"Content-Type": content_type})

    return Starlette(routes=[Route("/metrics", metrics)], exception_handlers={HTTPException: _http_error})


async def _bad_query(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
