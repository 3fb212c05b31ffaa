"""Watch an API server as Pulltrace's server does, and wait for changes to arrive."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable

from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.kubernetes.objects import Change
from pulltrace.server.kubernetes.source import connect
from pulltrace.server.kubernetes.watch import Watches


class Following:
    """The changes received so far, and the resulting cluster state."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.received: list[Change] = []
        self.watches: Watches
        self._news = asyncio.Event()

    def take(self, change: Change) -> None:
        self.received.append(change)
        self.cluster.apply(change, time.time())
        self._news.set()

    async def until(self, condition: Callable[["Following"], object], seconds: float = 60) -> None:
        """Wait until a condition is true. The condition is checked after every change, and at least ten times per
        second.
        """
        async with asyncio.timeout(seconds):
            while not condition(self):
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 0.1)

    def pods(self) -> set[str]:
        return {pod.name for pod in self.cluster.waiting()}

    def up(self) -> dict[str, bool]:
        return dict(self.watches.up())


def kubeconfig_for(url: str) -> str:
    """Return the text of a kubeconfig for a server that requires no credentials."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": url}}],
            "users": [{"name": "it", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }
    )


@contextlib.asynccontextmanager
async def following(kubeconfig, namespaces=None) -> AsyncIterator[Following]:
    """Follow the cluster that a kubeconfig file points to."""
    it = Following()
    api = await connect({"KUBECONFIG": str(kubeconfig)})
    assert api
    it.watches = Watches(api, namespaces, it.take)
    task = asyncio.create_task(it.watches.run())
    try:
        yield it
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
