"""A cluster with Pulltrace, whose agent and server run in the same namespaces as the kubelet."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack
from typing import Any, Self

from tests.e2e.programs import Api, Program
from tests.real.cluster import NODE, Cluster

HTTP_PORT, METRICS_PORT = 8080, 9090
_TOTAL = re.compile(r'pulltrace_pulls_total\{.*result="(\w+)".*\} (\S+)')


class Observed:
    """A cluster with Pulltrace, as an async context manager. Tests control the cluster through ``cluster``, and read
    Pulltrace's reports through ``api`` and ``logged``.
    """

    def __init__(self, **kubelet: Any) -> None:
        self.cluster = Cluster(**kubelet)
        self._stack = AsyncExitStack()
        self._earlier: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        await self._stack.enter_async_context(self.cluster)
        inside = self.cluster.inside
        self.server = Program(
            "server", inside=inside, HTTP_ADDR=f"127.0.0.1:{HTTP_PORT}", METRICS_ADDR=f"127.0.0.1:{METRICS_PORT}"
        )
        self.server._environment["KUBECONFIG"] = str(self.cluster.api.kubeconfig)
        self.agent = Program("agent", inside=inside, NODE_NAME=NODE, SERVER_URL=f"http://127.0.0.1:{HTTP_PORT}")
        self.api = await self._stack.enter_async_context(Api(HTTP_PORT, inside=inside))
        self.metrics = await self._stack.enter_async_context(Api(METRICS_PORT, inside=inside))
        await self._stack.enter_async_context(self.server)
        await self._stack.enter_async_context(self.agent)
        await self.api.ready()
        await self.api.reported()

    def logged(self, message: str) -> list[dict[str, Any]]:
        """Return the log lines with this message that the server has written since it last started, oldest first."""
        return [line for line in _lines(self.server.output) if line["msg"] == message]

    def history(self) -> list[dict[str, Any]]:
        """Return all of the server's log lines, including those from before its last start."""
        return [*self._earlier, *_lines(self.server.output)]

    async def restart_server(self) -> None:
        """Restart Pulltrace's server and wait until it is ready."""
        await self.server.stop()
        self._earlier += _lines(self.server.output)
        await self.server.start()
        await self.api.ready()

    async def counters(self) -> dict[str, int]:
        """Return the number of finished pulls for each result, according to the metrics."""
        totals: dict[str, int] = {}
        for line in (await self.metrics.text("/metrics")).splitlines():
            if found := _TOTAL.match(line):
                totals[found[1]] = totals.get(found[1], 0) + int(float(found[2]))
        return totals


def _lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]
