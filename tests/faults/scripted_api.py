"""A simulated API server, which reviews tokens slowly and sends the lists and watch events that a test provides."""

import asyncio
import json
from pathlib import Path
from typing import Any, Self

from aiohttp import web

OBJECTS = "pods", "events"


class ScriptedApi:
    """The API server. ``kubeconfig`` is a file that contains its address."""

    def __init__(self, folder: Path) -> None:
        self.valid: dict[str, str] = {}
        """The node to which each valid token is bound."""
        self.listed: dict[str, list[Any]] = {name: [] for name in OBJECTS}
        self.lines: dict[str, asyncio.Queue[bytes]] = {name: asyncio.Queue() for name in OBJECTS}
        """The watch events that still have to be sent for each resource. An empty line closes the watch."""
        self.kubeconfig = folder / "kubeconfig"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/apis/authentication.k8s.io/v1/tokenreviews", self._review)
        app.router.add_get("/api/v1/{name}", self._get)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self._runner.addresses[0][1]}"}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        user = {"name": "u", "user": {"token": "server"}}
        config = {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "c"}
        self.kubeconfig.write_text(json.dumps({"apiVersion": "v1", "kind": "Config"} | config))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _review(self, request: web.Request) -> web.Response:
        token = (await request.json())["spec"]["token"]
        await asyncio.sleep(1)
        node = self.valid.get(token)
        user = {"username": "system:serviceaccount:pulltrace:pulltrace-agent"}
        user["extra"] = {"authentication.kubernetes.io/node-name": [node]}
        status = {"authenticated": True, "audiences": ["pulltrace"], "user": user} if node else {"error": "unknown"}
        return web.json_response({"kind": "TokenReview", "status": status}, status=201)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if "watch" not in request.query:
            items = self.listed[name]
            return web.json_response({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": items})
        response = web.StreamResponse()
        await response.prepare(request)
        while line := await self.lines[name].get():
            await response.write(line)
        return response
