"""A naive server for comparison. Like the real server, the naive server has routes for reports and the stream, computes
the same totals and rates, and runs on uvicorn and uvloop.

The naive server converts JSON to dicts and back. For each report, the server searches all stored pulls to find the
node's pulls, as the Go version did. For each change, the server puts an event into every client's queue, and encodes it
separately for each client. A client whose queue is full loses events.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Json = dict[str, Any]

QUEUE = 256
HISTORY = 20_000
WINDOW = 10.0


class NaiveServer:
    """The naive server's state, which consists of all pulls, keyed by id, and a queue for each client."""

    def __init__(self) -> None:
        self.pulls: dict[str, Json] = {}
        self.samples: dict[str, deque[tuple[float, int]]] = {}
        self.queues: set[asyncio.Queue[Json]] = set()

    async def report(self, request: Request) -> Response:
        """Store a report, and queue an event for each reported pull."""
        report, now = await request.json(), time.time()
        reported = {pull["id"]: pull for pull in report["pulls"] or ()}
        for known in list(self.pulls.values()):
            if (
                known["nodeName"] == report["nodeName"]
                and known["status"] != "completed"
                and known["id"] not in reported
            ):
                known["status"] = "completed"
                self.publish("pull.completed", known)
        for state in reported.values():
            self.pulls[state["id"]] = self.status(report["nodeName"], state, now)
            self.publish("pull.progress", self.pulls[state["id"]])
        while len(self.pulls) > HISTORY:
            self.samples.pop(next(iter(self.pulls)), None)
            del self.pulls[next(iter(self.pulls))]
        return JSONResponse({"bootId": "naive"})

    def status(self, node: str, state: Json, now: float) -> Json:
        """Return a pull's status: the reported state with totals, percentages and rates added."""
        layers = [
            layer
            | {
                "pullId": state["id"],
                "percent": _percent(layer["downloadedBytes"], layer["totalBytes"]),
                "bytesPerSec": self.rate(f"{state['id']} {layer['digest']}", layer["downloadedBytes"], now),
            }
            for layer in state["layers"]
        ]
        total = sum(layer["totalBytes"] for layer in layers)
        downloaded = sum(layer["downloadedBytes"] for layer in layers)
        rate = self.rate(state["id"], downloaded, now)
        return state | {
            "nodeName": node,
            "layers": layers,
            "totalBytes": total,
            "downloadedBytes": downloaded,
            "percent": _percent(downloaded, total),
            "bytesPerSec": rate,
            "etaSeconds": (total - downloaded) / rate if rate else None,
            "layerCount": len(layers),
            "layersDone": sum(layer["downloadedBytes"] == layer["totalBytes"] for layer in layers),
        }

    def rate(self, key: str, count: int, now: float) -> float:
        """Return the rate over the last ten seconds, in bytes per second."""
        samples = self.samples.setdefault(key, deque())
        samples.append((now, count))
        while samples[0][0] < now - WINDOW:
            samples.popleft()
        return (count - samples[0][1]) / max(now - samples[0][0], 1.0)

    def publish(self, type_: str, pull: Json) -> None:
        """Put an event into the queue of every client."""
        event = {"schemaVersion": "v1", "type": type_, "timestamp": time.time(), "nodeName": pull["nodeName"]}
        event["pull"] = pull
        for queue in self.queues:
            if not queue.full():
                queue.put_nowait(event)

    async def events(self, request: Request) -> Response:
        """Return one client's stream."""
        return StreamingResponse(
            self.follow(request.query_params.get("layers") != "false"), media_type="text/event-stream"
        )

    async def follow(self, layers: bool) -> AsyncIterator[str]:
        """Yield a comment immediately, then each event as it arrives."""
        queue: asyncio.Queue[Json] = asyncio.Queue(QUEUE)
        self.queues.add(queue)
        try:
            yield ": connected\n\n"
            while True:
                event = await queue.get()
                if not layers:
                    event = event | {"pull": {key: value for key, value in event["pull"].items() if key != "layers"}}
                yield f"data: {json.dumps(event)}\n\n"
        finally:
            self.queues.discard(queue)


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


async def serve_naive(on_ready: Callable[[int, int], None]) -> None:
    """Serve until cancelled. The naive server has no metrics port, so ``on_ready`` gets the API port twice."""
    server = NaiveServer()
    app = Starlette(
        routes=[Route("/api/v1/report", server.report, methods=["POST"]), Route("/api/v1/events", server.events)]
    )
    config = uvicorn.Config(
        app, port=0, loop="none", http="httptools", lifespan="off", log_config=None, access_log=False, backlog=2048
    )
    config.timeout_keep_alive, config.timeout_graceful_shutdown = 75, 1
    uvicorn_server = uvicorn.Server(config)
    task = asyncio.ensure_future(uvicorn_server.serve())
    while not uvicorn_server.started:
        await asyncio.sleep(0.01)
    port = uvicorn_server.servers[0].sockets[0].getsockname()[1]
    on_ready(port, port)
    await task
