"""The dashboard's files, as Vite built them. Its URLs are relative, so it works under any path prefix."""

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parents[1] / "static"
NOT_BUILT = """<!doctype html><html lang="en"><title>Pulltrace</title>
<h1>The dashboard is not built</h1>
<p>Run <code>make web</code>, then load this page again. The API works without it.</p>
"""


class _Assets(StaticFiles):
    """Vite puts a hash of the content into these files' names."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def web_routes(static: Path = STATIC) -> list[BaseRoute]:
    """The page and its files. Unknown paths are 404: what a page shows stands in its query."""

    async def file(request: Request) -> Response:
        path = static / request.path_params.get("name", "index.html")
        if path.is_file():
            return FileResponse(path, headers={"Cache-Control": "no-cache"})
        if path.name == "index.html":
            return HTMLResponse(NOT_BUILT, 503)
        raise HTTPException(404)

    return [
        Route("/", file),
        Mount("/assets", _Assets(directory=static / "assets", check_dir=False)),
        Route("/{name}", file),
    ]
