"""A stream client that checks each event against the earlier ones."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

import aiohttp

ENDED = ("completed", "failed")
Pull = dict[str, Any]


def seconds(time: str) -> float:
    """Convert an RFC 3339 time to Unix seconds."""
    return datetime.fromisoformat(time).timestamp()


class Follower:
    """Follow ``/api/v1/events``, resuming after interruptions, and pass every contradiction to ``complain``."""

    def __init__(self, port: int, complain: Callable[[str], None]) -> None:
        self.table: dict[str, Pull] = {}
        self.boot, self.revision = "", 0
        self.events = self.ends = self.resets = self.boots = 0
        self.completed: dict[tuple[str, str], list[float]] = {}
        """The completion times that were published for each combination of node and image."""
        self._url = f"http://127.0.0.1:{port}/api/v1/events"
        self._complain = complain
        self._last = ""

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=20)
        async with aiohttp.ClientSession(timeout=timeout, read_bufsize=1 << 22) as session:
            while True:
                with suppress(aiohttp.ClientError, TimeoutError):
                    await self._read(session)
                await asyncio.sleep(0.2)

    async def _read(self, session: aiohttp.ClientSession) -> None:
        headers = {"Last-Event-ID": self._last} if self._last else {}
        name = id_ = data = ""
        async with session.get(self._url, headers=headers) as answer:
            async for raw in answer.content:
                field, _, value = raw.decode().rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "id":
                    id_ = value
                elif field == "data":
                    data = value
                elif not field:
                    self._take(name, id_, data)
                    name = id_ = data = ""

    def _take(self, name: str, id_: str, data: str) -> None:
        if name == "hello":
            boot = json.loads(data)["bootId"]
            if boot != self.boot:
                self.boot, self.ends = boot, 0
                self.boots += 1
        elif name == "reset":
            self.table.clear()
            self.resets += 1
        if id_:
            self._last = id_
            self.revision = int(id_.rpartition("-")[2])
        if data and not name:
            self.events += 1
            event = json.loads(data)
            pull = event["pull"]
            if event["type"] == "pull.removed":
                self.table.pop(pull["id"], None)
            else:
                self._compare(self.table.get(pull["id"]), pull)
                self.table[pull["id"]] = pull

    def _compare(self, before: Pull | None, pull: Pull) -> None:
        who = f"{pull['nodeName']} {pull['imageRef']} {pull['id']} attempt {pull['attempt']}"
        for sentence in wrong_numbers(pull):
            self._complain(f"{who}: {sentence}")
        same = before is not None and before["attempt"] == pull["attempt"]
        if before and before["attempt"] > pull["attempt"]:
            self._complain(f"{who}: was attempt {before['attempt']}")
        if before and same and before["percent"] > pull["percent"]:
            self._complain(f"{who}: {before['percent']} % went back to {pull['percent']} %")
        over = same and before is not None and before["status"] in ENDED
        presumed = before is not None and before.get("errorReason") in ("unknown", "canceled")
        if over and before and before["status"] != pull["status"] and not presumed:
            self._complain(f"{who}: had {before['status']}, is {pull['status']}: {before.get('error', '')}")
        if pull["status"] in ENDED and not (over and before and before["status"] == pull["status"]):
            self.ends += 1
            if pull["status"] == "completed":
                times = self.completed.setdefault((pull["nodeName"], pull["imageRef"]), [])
                times.append(seconds(pull["completedAt"]))


def wrong_numbers(pull: Pull) -> list[str]:
    """Return the contradictions within one published state of a pull."""
    wrong = []
    if not 0 <= pull["percent"] <= 100:
        wrong.append(f"{pull['percent']} %")
    if pull["totalKnown"] and pull["downloadedBytes"] > pull["totalBytes"]:
        wrong.append(f"{pull['downloadedBytes']} of {pull['totalBytes']} bytes")
    # If no agent observed a pull, its size comes from the kubelet, and the number of cached bytes is unknown.
    if pull["totalKnown"] and pull["totalBytes"] != max(pull["imageBytes"] - pull["cachedBytes"], 0):
        wrong.append(f"{pull['totalBytes']} is not {pull['imageBytes']} less {pull['cachedBytes']}")
    if ("completedAt" in pull) != (pull["status"] in ENDED):
        wrong.append(f"{pull['status']} with completedAt {pull.get('completedAt')}")
    if pull["status"] == "completed" and pull["percent"] != 100:
        wrong.append(f"completed with {pull['percent']} %")
    if layers := pull.get("layers"):
        total = sum(layer["totalBytes"] for layer in layers)
        came = sum(layer["downloadedBytes"] for layer in layers)
        if total != pull["imageBytes"]:
            wrong.append(f"layers of {total} bytes, image of {pull['imageBytes']}")
        if came != pull["downloadedBytes"]:
            wrong.append(f"layers came with {came} bytes, the pull with {pull['downloadedBytes']}")
    return wrong
