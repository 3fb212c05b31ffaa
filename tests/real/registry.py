"""A programmable OCI registry on loopback, which serves images made in memory and misbehaves on demand.

Every change takes effect immediately, even on responses that are already being sent.

Example:

    async with Registry() as registry:
        ref = registry.push("team/app:1.0", make_image(make_layer(8 * MIB)))
        registry.limit(2 * MIB)            # bytes per second, across all blobs
        registry.blob(digest).hold(at=3 * MIB)
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Self

from aiohttp import web

from tests.real.images import Blob, Image, make_index

CHUNK = 32 * 1024
ERRORS = {
    401: ("UNAUTHORIZED", "authentication required"),
    403: ("DENIED", "requested access to the resource is denied"),
    404: ("MANIFEST_UNKNOWN", "manifest unknown"),
    429: ("TOOMANYREQUESTS", "You have reached your pull rate limit."),
    500: ("UNKNOWN", "unknown error"),
}


class Pace:
    """A rate limit in bytes per second, shared by all responses. None means no limit."""

    def __init__(self) -> None:
        self.bytes_per_second: float | None = None
        self._free_at = 0.0

    async def take(self, count: int) -> None:
        if not self.bytes_per_second:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + count / self.bytes_per_second
        await asyncio.sleep(self._free_at - now)


class Served:
    """A blob, with the settings that determine how the registry serves it."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        self.pace = Pace()
        self.hold_at: int | None = None
        self.cut_at: int | None = None
        self._released = asyncio.Event()

    def limit(self, bytes_per_second: float | None) -> None:
        """Limit the rate of a single blob, in addition to the registry's limit."""
        self.pace.bytes_per_second = bytes_per_second

    def hold(self, at: int = 0) -> None:
        """Stop sending the blob at the given offset, but keep the connection open."""
        self.hold_at = at
        self._released.clear()

    def release(self) -> None:
        """Send the bytes that were held back."""
        self.hold_at = None
        self._released.set()

    def cut(self, at: int) -> None:
        """Break the connection once, when a response reaches the given offset."""
        self.cut_at = at

    async def pass_hold(self, offset: int) -> None:
        if self.hold_at is not None and offset >= self.hold_at:
            await self._released.wait()


class Repository:
    """A repository in a registry. If ``answer`` is set, requests for manifests and blobs get this error status."""

    def __init__(self) -> None:
        self.manifests: dict[str, Blob] = {}
        self.answer: int | None = None
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        """Hold back the responses to manifest requests."""
        self._open.clear()

    def release(self) -> None:
        """Send the responses that were held back."""
        self._open.set()

    async def pass_hold(self) -> None:
        await self._open.wait()


class Registry:
    """A registry as an async context manager. Inside the ``async with`` block, `host` is `127.0.0.1:<port>`."""

    def __init__(self, listener: socket.socket | None = None) -> None:
        """Pass a bound socket as ``listener`` to serve on the loopback interface of another network namespace."""
        self.host = ""
        self._listener = listener
        self.sent: Counter[str] = Counter()
        """The number of bytes that have been sent, keyed by the digest of the blob."""
        self.requests: list[tuple[str, str, int]] = []
        """The method, path and status of every response that has begun."""
        self.last_sent: dict[str, float] = {}
        """When the registry last began to send bytes of each blob, in Unix seconds, keyed by the digest of the blob."""
        self._pace = Pace()
        self._blobs: dict[str, Served] = {}
        self._repositories: dict[str, Repository] = {}
        self._moved = asyncio.Condition()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes(
            [
                web.get("/v2/", self._ping),
                web.get("/v2/{repo:.+}/manifests/{ref}", self._manifest),
                web.get("/v2/{repo:.+}/blobs/{digest}", self._blob),
            ]
        )
        # If a client disconnects, cancel its response, so that no response is held back forever.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        if self._listener is None:
            await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        else:
            await web.SockSite(self._runner, self._listener).start()
        self.host = f"127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def push(self, name: str, *images: Image) -> str:
        """Serve an image, or an index of several images, as `repository:tag`. Return the full reference."""
        repository, tag = name.rsplit(":", 1)
        manifests = self.repository(repository).manifests
        for image in images:
            for blob in (image.config, *(layer.blob for layer in image.layers)):
                self._blobs.setdefault(blob.digest, Served(blob))
            manifests[image.digest] = image.manifest
        top = images[0].manifest if len(images) == 1 else make_index(*images)
        manifests[tag] = manifests[top.digest] = top
        return f"{self.host}/{name}"

    def push_layout(self, name: str, folder: Path) -> str:
        """Serve an OCI layout, with the first entry of its index as `repository:tag`. Return the reference."""
        repository, tag = name.rsplit(":", 1)
        manifests = self.repository(repository).manifests
        types = {"application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"}
        for path in (folder / "blobs" / "sha256").iterdir():
            blob = Blob(path.read_bytes(), "application/octet-stream")
            media_type = json.loads(blob.data).get("mediaType") if blob.data[:1] == b"{" else None
            if media_type in types:
                manifests[blob.digest] = Blob(blob.data, media_type)
            else:
                self._blobs.setdefault(blob.digest, Served(blob))
        top = json.loads((folder / "index.json").read_text())["manifests"][0]
        manifests[tag] = manifests[top["digest"]]
        return f"{self.host}/{name}"

    def limit(self, bytes_per_second: float | None) -> None:
        """Limit the combined rate of all blobs."""
        self._pace.bytes_per_second = bytes_per_second

    def blob(self, digest: str) -> Served:
        return self._blobs[digest]

    def repository(self, name: str) -> Repository:
        return self._repositories.setdefault(name, Repository())

    async def reached(self, digest: str, count: int = 1) -> None:
        """Wait until at least ``count`` bytes of a blob have been sent."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.sent[digest] >= count)

    async def asked(self, path: str) -> None:
        """Wait for a request whose path ends with the given text."""
        async with self._moved:
            await self._moved.wait_for(lambda: any(seen.endswith(path) for _, seen, _ in self.requests))

    async def _note(self, request: web.Request, status: int) -> None:
        async with self._moved:
            self.requests.append((request.method, request.path, status))
            self._moved.notify_all()

    async def _ping(self, request: web.Request) -> web.Response:
        await self._note(request, 200)
        return web.json_response({})

    async def _refuse(self, request: web.Request, status: int) -> web.Response:
        await self._note(request, status)
        code, message = ERRORS.get(status, ERRORS[500])
        headers = {401: {"WWW-Authenticate": 'Basic realm="test"'}, 429: {"Retry-After": "60"}}.get(status, {})
        return web.json_response({"errors": [{"code": code, "message": message}]}, status=status, headers=headers)

    async def _manifest(self, request: web.Request) -> web.Response:
        repository = self._repositories.get(request.match_info["repo"])
        if repository is None:
            return await self._refuse(request, 404)
        if not repository._open.is_set():
            await self._note(request, 0)
            await repository.pass_hold()
        if repository.answer is not None:
            return await self._refuse(request, repository.answer)
        manifest = repository.manifests.get(request.match_info["ref"])
        if manifest is None:
            return await self._refuse(request, 404)
        await self._note(request, 200)
        headers = {"Docker-Content-Digest": manifest.digest, "Content-Type": manifest.media_type}
        return web.Response(body=manifest.data, headers=headers)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        repository = self._repositories.get(request.match_info["repo"])
        served = self._blobs.get(request.match_info["digest"])
        if repository is None or served is None:
            return await self._refuse(request, 404)
        if repository.answer is not None:
            return await self._refuse(request, repository.answer)
        data = served.blob.data
        span = request.http_range
        start, stop = span.start or 0, min(span.stop or len(data), len(data))
        partial = "Range" in request.headers
        if start >= len(data):
            return await self._refuse(request, 416)
        response = web.StreamResponse(status=206 if partial else 200)
        response.content_type = "application/octet-stream"
        response.content_length = stop - start
        if partial:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        await self._note(request, response.status)
        try:
            await response.prepare(request)
            if request.method == "GET":
                await self._send(request, response, served, start, stop)
        except ConnectionResetError:
            # The client disconnected, because its pull was cancelled or its containerd was killed.
            raise asyncio.CancelledError from None
        return response

    async def _send(
        self, request: web.Request, response: web.StreamResponse, served: Served, start: int, stop: int
    ) -> None:
        digest, offset = served.blob.digest, start
        while offset < stop:
            await served.pass_hold(offset)
            end = min(offset + CHUNK, stop)
            for edge in (served.hold_at, served.cut_at):
                if edge is not None and offset < edge < end:
                    end = edge
            await served.pace.take(end - offset)
            await self._pace.take(end - offset)
            self.last_sent[digest] = time.time()
            await response.write(served.blob.data[offset:end])
            async with self._moved:
                self.sent[digest] += end - offset
                self._moved.notify_all()
            offset = end
            if served.cut_at is not None and offset >= served.cut_at and request.transport:
                served.cut_at = None
                request.transport.abort()
                raise asyncio.CancelledError
