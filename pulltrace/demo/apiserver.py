"""A small simulated Kubernetes API server, which serves list and watch requests for pods and events over real HTTP.

Like a real API server, the simulation supports paging, resource versions, field selectors and bookmarks
(https://kubernetes.io/docs/reference/using-api/api-concepts/). Tests can discard the history of changes, and use
``Trouble`` to simulate failures.

Example:

    async with ApiServer() as cluster:
        cluster.url
        cluster.put("pods", pod)            # as a kubelet or a controller would
        cluster.delete("pods", pod)
"""

import asyncio
import contextlib
import copy
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

Object = dict[str, Any]

HISTORY = 5000
"""The maximum number of past changes that are kept for watches. If a watch starts from an older resource version, it
gets status 410, so its client must list the objects again.
"""

_FIELDS: dict[str, Callable[[Object], Any]] = {
    "metadata.name": lambda it: it["metadata"].get("name", ""),
    "metadata.namespace": lambda it: it["metadata"].get("namespace", ""),
    "spec.nodeName": lambda it: it["spec"].get("nodeName", ""),
    "status.phase": lambda it: it.get("status", {}).get("phase", ""),
    "involvedObject.kind": lambda it: it["involvedObject"].get("kind", ""),
    "reason": lambda it: it.get("reason", ""),
    "source": lambda it: it.get("source", {}).get("component", ""),
}


@dataclass(slots=True)
class Trouble:
    """The failures that the server is simulating."""

    forbidden: set[str] = field(default_factory=set)
    """Resources that clients are forbidden to read. Requests for these resources get status 403."""
    status: int = 0
    """If nonzero, the server answers every request with this HTTP status."""
    ends_at_once: bool = False
    """If true, every watch ends immediately."""
    silent: bool = False
    """If true, watches are accepted but send nothing, not even bookmarks."""
    raw: list[bytes] = field(default_factory=list)
    """Raw lines that the server sends once, to the next client that starts a watch."""


@dataclass(frozen=True, slots=True)
class _Change:
    version: int
    resource: str
    before: Object | None
    after: Object | None


class ApiServer:
    """An API server on a free loopback port."""

    def __init__(self, *, bookmarks: float = 1.0) -> None:
        self.url = ""
        self.trouble = Trouble()
        self.requests: list[str] = []
        """The path and query of every request, recorded for tests."""
        self._bookmarks = bookmarks
        self._objects: dict[str, dict[tuple[str, str], Object]] = {"pods": {}, "events": {}}
        self._version = 1
        self._oldest = 1
        self._history: list[_Change] = []
        self._changed = asyncio.Event()
        self._watches: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/api/v1/{resource:pods|events}", self._answer)
        app.router.add_get("/api/v1/namespaces/{namespace}/{resource:pods|events}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.cut()
        if self._runner:
            await self._runner.cleanup()

    # Changes to the cluster.

    def put(self, resource: str, item: Object) -> None:
        """Create or replace an object."""
        key = (item["metadata"].get("namespace", ""), item["metadata"]["name"])
        self._version += 1
        item = copy.deepcopy(item)
        item["metadata"]["resourceVersion"] = str(self._version)
        before = self._objects[resource].get(key)
        self._objects[resource][key] = item
        self._tell(_Change(self._version, resource, before, item))

    def delete(self, resource: str, item: Object) -> None:
        """Delete an object, if it exists."""
        before = self._objects[resource].pop((item["metadata"].get("namespace", ""), item["metadata"]["name"]), None)
        if before:
            self._version += 1
            self._tell(_Change(self._version, resource, before, None))

    def compact(self) -> None:
        """Discard the history of changes, so that a watch from an earlier resource version gets status 410."""
        self._oldest = self._version
        self._history.clear()

    async def cut(self) -> None:
        """Disconnect all watches."""
        watches = list(self._watches)
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    @property
    def watching(self) -> int:
        """The number of open watches."""
        return len(self._watches)

    def _tell(self, change: _Change) -> None:
        self._history.append(change)
        if len(self._history) > HISTORY:
            self._oldest = self._history[HISTORY // 2].version
            del self._history[: HISTORY // 2 + 1]
        self._changed.set()
        self._changed = asyncio.Event()

    # Request handling.

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path_qs)
        resource, namespace = request.match_info["resource"], request.match_info.get("namespace")
        if self.trouble.status:
            return _refuse(self.trouble.status, "Trouble", "the demo's API server refuses this request")
        if resource in self.trouble.forbidden:
            where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
            message = f'{resource} is forbidden: User "demo" cannot list resource "{resource}" in API group "" {where}'
            return _refuse(403, "Forbidden", message)
        if request.query.get("watch"):
            return await self._watch(request, resource, _selection(request, namespace))
        return self._list(request, resource, _selection(request, namespace))

    def _list(self, request: web.Request, resource: str, selected: Callable[[Object], bool]) -> web.Response:
        limit = int(request.query.get("limit", 0)) or 10**9
        version, _, start = request.query.get("continue", f"{self._version}/0").partition("/")
        if int(version) < self._oldest:
            return _refuse(410, "Expired", "The provided continue parameter is too old")
        found = [item for _, item in sorted(self._objects[resource].items()) if selected(item)]
        page, more = found[int(start) : int(start) + limit], len(found) > int(start) + limit
        metadata = {"resourceVersion": version} | ({"continue": f"{version}/{int(start) + limit}"} if more else {})
        return web.json_response({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": page})

    async def _watch(
        self, request: web.Request, resource: str, selected: Callable[[Object], bool]
    ) -> web.StreamResponse:
        version = int(request.query.get("resourceVersion") or self._version)
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        task = asyncio.current_task()
        assert task  # noqa: S101
        self._watches.add(task)
        try:
            async for line in self._lines(resource, version, selected):
                await answer.write(line)
        except ConnectionError:
            pass
        finally:
            self._watches.discard(task)
        return answer

    async def _lines(self, resource: str, version: int, selected: Callable[[Object], bool]) -> AsyncIterator[bytes]:
        while self.trouble.raw:
            yield self.trouble.raw.pop(0) + b"\n"
        while not self.trouble.ends_at_once or version < self._oldest:
            if version < self._oldest:
                status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
                yield _line("ERROR", status)
                return
            for change in [change for change in self._history if change.version > version]:
                version = change.version
                if change.resource == resource and not self.trouble.silent:
                    line = _said(change, selected)
                    if line:
                        yield line
            if version >= self._version:
                await self._news()
                if version >= self._version and not self.trouble.silent:
                    yield _line("BOOKMARK", {"kind": "Any", "metadata": {"resourceVersion": str(version)}})

    async def _news(self) -> None:
        """Wait for a change, or until the next bookmark is due."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._bookmarks):
                await self._changed.wait()


def _said(change: _Change, selected: Callable[[Object], bool]) -> bytes | None:
    """Return the line that a watch with this selector receives for a change, or None if the watch receives nothing.

    If an object no longer matches the selector, it is reported as DELETED.
    """
    was, is_now = change.before and selected(change.before), change.after and selected(change.after)
    if is_now and change.after:
        return _line("MODIFIED" if was else "ADDED", change.after)
    if was and change.before:
        gone = change.before | {"metadata": change.before["metadata"] | {"resourceVersion": str(change.version)}}
        return _line("DELETED", gone)
    return None


def _selection(request: web.Request, namespace: str | None) -> Callable[[Object], bool]:
    conditions = []
    for condition in filter(None, request.query.get("fieldSelector", "").split(",")):
        name, operator, value = condition.partition("!=" if "!=" in condition else "=")
        conditions.append((_FIELDS[name], operator == "=", value))

    def selected(item: Object) -> bool:
        if namespace and item["metadata"].get("namespace") != namespace:
            return False
        return all((read(item) == value) is wanted for read, wanted, value in conditions)

    return selected


def _line(kind: str, item: Object) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def _refuse(code: int, reason: str, message: str) -> web.Response:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return web.json_response(status | {"message": message}, status=code)
