"""A fake server that implements the API in docs/api.md but has no agents. The server sends exactly the responses that a
test specifies.

The scripted server creates situations that the real server cannot produce on demand, such as a broken stream, a hostile
name, two builds, or a restart at a given time. The server also serves the built page, and implements the stream
protocol (hello, reset, ids, resuming, layers on demand).
"""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec
from aiohttp import web

import pulltrace
from pulltrace.server.models import PullStatus
from pulltrace.server.pulls.views import running
from tests.real.process import free_port

STATIC = Path(pulltrace.__file__).parent / "server/static"
CSP = "default-src 'self'; object-src 'none'; base-uri 'self'; frame-ancestors 'none'"

Json = dict[str, Any]


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class ScriptedServer:
    """A server that keeps its port across restarts, like a pod behind a Service. Use the server with ``async with``."""

    def __init__(self, static: Path = STATIC, version: str = "", prefix: str = "") -> None:
        self.static, self.version, self.prefix = static, version, prefix
        self.boot, self.revision, self.port = 1, 0, free_port()
        self.pulls: dict[str, Json] = {}
        self.nodes: list[Json] = []
        self.registries: list[Json] = []
        self.pods: Json = {"pods": [], "watching": True}
        self.stream_queries: list[dict[str, str]] = []
        self.list_queries: list[str] = []
        self.throughput: Json | None = None
        self.most_readers, self.hello_after = 256, 0.0
        self.may_begin = asyncio.Event()
        """Until this event is set, a new client receives nothing."""
        self.may_begin.set()
        self.may_complete = asyncio.Event()
        """Until this event is set, a new client receives only half of the initial state."""
        self.may_complete.set()
        self.has_list = True
        """If false, requests for the full list fail, and the page can receive the state only from the stream."""
        self.refusal: tuple[int, bytes] = (503, b'{"error":"too many readers"}')
        self.raw: list[bytes] = []
        self._log: list[tuple[int, Json]] = []
        self._news = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}/"

    @property
    def readers(self) -> int:
        return self._readers

    _readers = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        app = web.Application()
        for path, handler in (
            ("events", self._events),
            ("pulls", self._list),
            ("pulls/{id}", self._pull),
            ("nodes", self._nodes),
            ("pods", self._pods),
            ("throughput", self._throughput),
        ):
            app.router.add_get(f"{self.prefix}/api/v1/{path}", handler)
        app.router.add_get(f"{self.prefix}/{{file:.*}}", self._file)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def restart(self) -> None:
        """Stop the server and start it again immediately. The restarted server has a new boot id, and does not
        recognise old event ids.
        """
        await self.stop()
        self.boot, self.revision, self._log = self.boot + 1, 0, []
        await self.put(*self.pulls.values())
        await self.start()

    async def put(self, *pulls: Json) -> None:
        """Send the new states of the given pulls."""
        kinds = {"completed": "pull.completed", "failed": "pull.failed"}
        for pull in pulls:
            self.pulls[pull["id"]] = pull
            self._note(kinds.get(pull["status"], "pull.progress"), pull["nodeName"], pull)
        await self._wake()

    async def remove(self, *ids: str) -> None:
        for pull_id in ids:
            pull = self.pulls.pop(pull_id)
            self._note("pull.removed", pull["nodeName"], {"id": pull_id})
        await self._wake()

    def _note(self, kind: str, node: str, pull: Json) -> None:
        self.revision += 1
        event = {"schemaVersion": "v1", "timestamp": rfc3339(self._now()), "type": kind, "nodeName": node, "pull": pull}
        self._log.append((self.revision, event))

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()

    @staticmethod
    def _now() -> float:
        return datetime.now(UTC).timestamp()

    def _hello(self) -> Json:
        return {
            "version": self.version,
            "bootId": str(self.boot),
            "time": rfc3339(self._now()),
            "revision": self.revision,
        }

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self.stream_queries.append(dict(request.query))
        if self._readers >= self.most_readers:
            status, body = self.refusal
            return web.Response(status=status, body=body, headers={"Retry-After": "1"})
        await self.may_begin.wait()
        await asyncio.sleep(self.hello_after)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        boot, _, seen = request.query.get("lastEventId", "").partition("-")
        hello = self._hello() if boot else {**self._hello(), "pulls": len(self.pulls)}
        await response.write(b": connected\n\n")
        await response.write(f"event: hello\ndata: {json.dumps(hello)}\n\n".encode())
        if boot == str(self.boot):
            at = next((i for i, (revision, _) in enumerate(self._log) if revision > int(seen)), len(self._log))
        else:
            if boot:
                await response.write(b'event: reset\ndata: {"pulls":%d}\n\n' % len(self.pulls))
            at = len(self._log)
            await self._send_state(response, request.query.get("layers", "true"))
        self._readers += 1
        try:
            for piece in self.raw:
                await response.write(piece)
            while True:
                while at < len(self._log):
                    revision, event = self._log[at]
                    at += 1
                    await response.write(self._frame(revision, event, request.query.get("layers", "true")))
                async with self._news:
                    if at >= len(self._log):
                        await self._news.wait()
        except (ConnectionError, asyncio.CancelledError):
            return response
        finally:
            self._readers -= 1

    async def _send_state(self, response: web.StreamResponse, layers: str) -> None:
        newest = {event["pull"]["id"]: (revision, event) for revision, event in self._log}
        state = sorted((newest[id_] for id_ in self.pulls), key=lambda entry: entry[0])
        for number, (revision, event) in enumerate(state):
            if 2 * number >= len(state):
                await self.may_complete.wait()
            await response.write(self._frame(revision, event, layers))

    def _frame(self, revision: int, event: Json, layers: str) -> bytes:
        event = {**event, "pull": self._shown(event["pull"], layers)}
        return f"id: {self.boot}-{revision}\ndata: {json.dumps(event)}\n\n".encode()

    @staticmethod
    def _shown(pull: Json, layers: str) -> Json:
        if layers == "true" or pull["id"] in layers.split(","):
            return pull
        return {name: value for name, value in pull.items() if name != "layers"}

    async def _list(self, request: web.Request) -> web.Response:
        layers = request.query.get("layers", "true")
        if "running" in request.query:
            found = running(msgspec.convert(pull, PullStatus) for pull in self.pulls.values())
            ids = [pull.id for pull in found[: int(request.query["limit"])]]
            return web.json_response({"pulls": [self._shown(self.pulls[id_], layers) for id_ in ids]})
        self.list_queries.append(layers)
        if not self.has_list:
            return web.Response(status=404)
        return web.json_response({"pulls": [self._shown(pull, layers) for pull in self.pulls.values()]})

    async def _pull(self, request: web.Request) -> web.Response:
        pull = self.pulls.get(request.match_info["id"])
        return web.json_response(pull) if pull is not None else web.Response(status=404)

    async def _nodes(self, _: web.Request) -> web.Response:
        return web.json_response({"nodes": self.nodes, "registries": self.registries})

    async def _pods(self, _: web.Request) -> web.Response:
        return web.json_response(self.pods)

    async def _throughput(self, _: web.Request) -> web.Response:
        return web.Response(status=404) if self.throughput is None else web.json_response(self.throughput)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = self.static / (request.match_info["file"] or "index.html")
        if not path.is_file():
            return web.Response(status=404)
        return web.FileResponse(path, headers={"Content-Security-Policy": CSP, "Cache-Control": "no-store"})
