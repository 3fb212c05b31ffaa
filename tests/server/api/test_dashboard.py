"""Tests for the routes that serve the dashboard's files. The tests call the routes through ASGI, without a server."""

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette

from pulltrace.server.api.dashboard import web_routes
from pulltrace.server.limits import Limits


@pytest.fixture
def built(tmp_path: Path) -> Path:
    static = tmp_path / "static"
    (static / "assets").mkdir(parents=True)
    (static / "index.html").write_text("<title>Pulltrace</title>")
    (static / "theme.js").write_text("1")
    (static / "assets/index-Abc.js").write_text("2")
    (tmp_path / "secret").write_text("3")
    return static


async def get(static: Path, path: str) -> tuple[int, dict[str, str], bytes]:
    sent = []

    async def receive():
        raise AssertionError("serving a file must not read the request's body")

    async def send(message):
        sent.append(message)

    class Guard:
        address = "127.0.0.1"
        is_closed = False

    scope = {
        "state": {"guard": Guard()},
        "type": "http",
        "method": "GET",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
    }
    app = Starlette(routes=web_routes(Limits(), static))
    app.router.redirect_slashes = False
    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("path", ["/", "/index.html", "/theme.js"])
async def test_the_page_is_revalidated_on_each_load(built, path) -> None:
    status, headers, _ = await get(built, path)
    assert (status, headers["cache-control"]) == (200, "no-cache")


async def test_assets_are_cached_for_a_year(built) -> None:
    status, headers, body = await get(built, "/assets/index-Abc.js")
    assert (status, body) == (200, b"2")
    assert headers["cache-control"] == "public, max-age=31536000, immutable"
    assert headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/assets/nothing.js",
        "/assets/",
        "/assets",
        "/..",
        "/../secret",
        "/assets/../../secret",
        "/pulls/1",
        "/" + "a" * 300,
    ],
)
async def test_unknown_paths_get_404(built, path) -> None:
    assert (await get(built, path))[0] == 404


async def test_the_page_explains_how_to_build_the_dashboard_if_it_has_not_been_built(tmp_path) -> None:
    status, _, body = await get(tmp_path, "/")
    assert status == 503
    assert b"make web" in body
    assert set(re.findall(r'href="api/v1/(\w+)\?format=text"', body.decode())) == {"pulls", "pods", "images", "nodes"}
