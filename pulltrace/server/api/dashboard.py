"""The dashboard's files, as built by Vite. The URLs in the files are relative, so the page works under any path
prefix.
"""

import gzip
import mimetypes
import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from pulltrace.server.api.responses import SLICE, SlicedResponse, accepts_gzip, is_known, not_modified, tag_of
from pulltrace.server.limits import Limits

STATIC = Path(__file__).parents[1] / "static"
NOT_BUILT = """<!doctype html><html lang="en"><title>Pulltrace</title>
<h1>The dashboard is not built</h1>
<p>Install Node 20.19 or newer, run <code>make web</code>, and load this page again.</p>
<p>Tables: <a href="api/v1/pulls?format=text">pulls</a>, <a href="api/v1/pods?format=text">pods</a>,
<a href="api/v1/images?format=text">images</a>, <a href="api/v1/nodes?format=text">nodes</a></p>
"""
_FOREVER = "public, max-age=31536000, immutable"
"""The Cache-Control header for assets. Vite puts a hash of each asset's content into its file name, so the content of a
given file never changes.
"""
_NAME = re.compile(r"(?:assets/)?[\w-][\w.-]{0,127}", re.ASCII)


def web_routes(limits: Limits, static: Path = STATIC) -> list[BaseRoute]:
    """Return the routes for the page and its files. All other paths return 404: the page keeps its state in the query
    string, so it does not need any other paths.
    """

    async def file(request: Request) -> Response:
        name = request.url.path.removeprefix(request.scope.get("root_path", "")).lstrip("/") or "index.html"
        path = static / name
        if not _NAME.fullmatch(name) or not path.is_file():
            if name == "index.html":
                return HTMLResponse(NOT_BUILT, 503)
            raise HTTPException(404)
        found = _read(path, path.stat().st_mtime_ns)
        tag = tag_of(request, found.version)
        if is_known(request, tag):
            return not_modified(tag)
        headers = {"ETag": tag, "Content-Type": found.media_type}
        headers["Cache-Control"] = _FOREVER if name.startswith("assets/") else "no-cache"
        if found.compressed and accepts_gzip(request):
            return SlicedResponse(request, found.compressed, headers | {"Content-Encoding": "gzip"}, limits)
        return SlicedResponse(request, found.plain, headers, limits)

    return [Route("/", file), Route("/assets/{name}", file), Route("/{name}", file)]


@dataclass(frozen=True)
class _File:
    """The content of a file, divided into slices. ``compressed`` is empty unless compression saves at least a tenth of
    the size.
    """

    version: str
    media_type: str
    plain: list[bytes]
    compressed: list[bytes]


@lru_cache(maxsize=64)
def _read(path: Path, modified: int) -> _File:
    """Read and compress a file. The result is cached until the file's ``modified`` time changes."""
    content = path.read_bytes()
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    compressed = gzip.compress(content, mtime=0)
    worthwhile = len(compressed) < 0.9 * len(content)
    version = blake2b(content, digest_size=12).hexdigest()
    return _File(version, media_type, _slices(content), _slices(compressed) if worthwhile else [])


def _slices(content: bytes) -> list[bytes]:
    return [content[start : start + SLICE] for start in range(0, len(content), SLICE)]
