"""Watch pods and kubelet events. List the objects, watch for changes after the list's version, and list again after a
gap. Pulltrace never writes to the API server.

The protocol is described at
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes. The ``client`` module sends
the HTTP requests, and is imported only if the server watches a cluster.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Iterator

from pulltrace.logs import fields
from pulltrace.server.kubernetes.api import (
    EVENTS,
    PODS,
    Api,
    ForbiddenError,
    GoneError,
    KubeError,
    Resource,
    Watched,
)
from pulltrace.server.kubernetes.objects import (
    Change,
    Event,
    EventSeen,
    EventsExpected,
    EventsHeard,
    Pod,
    PodGone,
    PodSeen,
    PodsListed,
)

_log = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY = 0.5, 8.0
FORBIDDEN_DELAY = 8.0
"""Time, in seconds, to wait before retrying a forbidden request."""
GRACE = 60.0
"""Maximum time, in seconds, that the server remains unready after startup if the API server does not respond."""
SHORT_WATCH = 1.0
"""Minimum duration of a watch, in seconds. If a watch ends sooner, the next watch starts only after a pause, even if
the short watch delivered changes.
"""
QUIET = 20.0
"""Maximum time, in seconds, that a watch may pass without a change or bookmark. After this time, the server requests
the newest resource version from the API server.
"""
YIELD_AFTER = 50
"""The number of objects that are processed before other tasks in the event loop get a turn."""


class Watches:
    """All watches of one cluster. ``take`` is called with each change. It is called on the event loop, so it must not
    block.
    """

    def __init__(self, api: Api, namespaces: Iterable[str] | None, take: Callable[[Change], None]) -> None:
        self._api = api
        self._follows: list[_Follow] = []
        for namespace in (None,) if namespaces is None else namespaces:
            pods = _Follow(api, PODS, namespace, take, None)
            self._follows += [pods, _Follow(api, EVENTS, namespace, take, pods.settled)]

    async def run(self) -> None:
        """Watch all resources until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for follow in self._follows:
                    group.create_task(follow.run())
        finally:
            await self._api.close()

    @property
    def not_ready(self) -> str | None:
        """Return the reason why the initial lists are incomplete, or None if they are complete or cannot be read."""
        for follow in self._follows:
            if not follow.settled.is_set():
                return f"the first list of {follow} is not complete{f': {follow.problem}' if follow.problem else ''}"
        return None

    @property
    def problem(self) -> str | None:
        """Return the reason why a resource is not being watched at the moment, or None if every resource is being
        watched.
        """
        return next((str(follow.problem) for follow in self._follows if follow.problem), None)

    @property
    def sees_pods(self) -> bool:
        """Return whether pods are being watched, as far as the server knows."""
        return not any(follow.problem for follow in self._follows if follow.resource is PODS)

    def up(self) -> Iterator[tuple[str, bool]]:
        """Yield each resource, and whether it is being watched in all namespaces."""
        for resource in (PODS, EVENTS):
            yield resource.name, all(follow.up for follow in self._follows if follow.resource is resource)


class _Follow:
    """Lists and watches one resource, in one namespace or in all namespaces."""

    def __init__(
        self,
        api: Api,
        resource: Resource,
        namespace: str | None,
        take: Callable[[Change], None],
        after: asyncio.Event | None,
    ) -> None:
        self.resource = resource
        self.settled = asyncio.Event()
        self.up = False
        self.problem: KubeError | None = None
        self._api, self._namespace, self._take, self._after = api, namespace, take, after
        self._version = ""  # resource version at which the watch starts; empty if a new list is needed
        self._failures = 0
        self._short_watches = 0

    def __str__(self) -> str:
        return f"{self.resource.name} in {f'namespace {self._namespace}' if self._namespace else 'all namespaces'}"

    async def run(self) -> None:
        """List and watch until cancelled."""
        asyncio.get_running_loop().call_later(GRACE, self.settled.set)
        if self.resource is EVENTS:
            self._take(EventsExpected(self._namespace))
        if self._after:
            # Listed events matter only for pods that are known to be waiting, so list the pods first.
            await self._after.wait()
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except GoneError:
                self._version = ""
                self._failures += 1  # make the pause longer, because a new list is expensive
                await self._pause()
            except ForbiddenError as error:
                self._version = ""
                self._forbidden(error)
                await asyncio.sleep(FORBIDDEN_DELAY * random.uniform(0.8, 1.2))  # noqa: S311
            except KubeError as error:
                self._failed(error)
                await self._pause()

    async def _list(self) -> None:
        keys: set[str] = set()
        version = ""
        async with contextlib.aclosing(self._api.pages(self.resource, self._namespace)) as pages:
            async for page in pages:
                version = page.version
                for number, item in enumerate(page.objects, 1):
                    if isinstance(item, Pod):
                        keys.add(item.key)
                        self._take(PodSeen(item))
                    else:
                        self._take(EventSeen(item, fresh=False))
                    await _give_way(number)
                await asyncio.sleep(0)  # let event streams send between the pages of a long list
        pods = self.resource is PODS
        self._take(PodsListed(self._namespace, frozenset(keys)) if pods else EventsHeard(self._namespace, heard=True))
        self._version = version
        self.settled.set()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        begun = delivered = loop.time()
        async with contextlib.aclosing(self._api.changes(self.resource, self._namespace, self._version)) as batches:
            async for batch in batches:
                self._works()
                for number, change in enumerate(batch, 1):
                    self._version = change.version or self._version
                    self._change(change)
                    self._failures = 0  # the watch works, so the next failure counts as the first
                    await _give_way(number)
                if batch:
                    delivered = loop.time()
                elif loop.time() - delivered >= QUIET:
                    await self._check_version()
                    delivered = loop.time()
        if loop.time() - begun < SHORT_WATCH:
            self._short_watches += 1
            await self._pause()
        else:
            self._failures = self._short_watches = 0

    async def _check_version(self) -> None:
        """Raise ``GoneError`` if the API server's newest version is older than the version of this watch.

        An older version means that etcd was restored from a backup. Without this check, the watch would not deliver
        anything until etcd's version exceeded the version of the watch again.
        """
        newest = await self._api.newest_version(self.resource, self._namespace)
        if newest.isdecimal() and self._version.isdecimal() and int(newest) < int(self._version):
            fields_ = fields(resource=self.resource.name, namespace=self._namespace, newest=newest, ours=self._version)
            _log.warning("kube.watch.reset", extra=fields_)
            raise GoneError(f"the API server's version went back from {self._version} to {newest}")

    def _change(self, change: Watched) -> None:
        match change.object:
            case Pod() as pod:
                self._take(PodGone(pod.key) if change.type == "DELETED" else PodSeen(pod))
            case Event() as event if change.type != "DELETED":  # events expire after an hour
                self._take(EventSeen(event, fresh=True))

    async def _pause(self) -> None:
        times = max(self._failures, self._short_watches)
        delay = min(FIRST_DELAY * 2.0 ** min(times, 10), LONGEST_DELAY)
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  # many servers must not reconnect at once

    def _works(self) -> None:
        if self.problem:
            _log.info("kube.watch.up", extra=fields(resource=self.resource.name, namespace=self._namespace))
        self.up, self.problem = True, None

    def _failed(self, error: KubeError) -> None:
        self._failures += 1
        self.up = False
        # A single failure may simply mean that a proxy closed an idle connection. Two failures in a row count as an
        # outage, which is logged once.
        if self._failures > 1 and not self.problem:
            extra = fields(resource=self.resource.name, namespace=self._namespace, error=str(error))
            _log.warning("kube.watch.down", extra=extra)
        if self._failures > 1:
            self.problem = error
            if self.resource is EVENTS and not self.settled.is_set():
                self._take(EventsHeard(self._namespace, heard=True))  # readiness no longer waits for the first list

    def _forbidden(self, error: ForbiddenError) -> None:
        self.up = False
        if not isinstance(self.problem, ForbiddenError):
            rule = f'{{apiGroups: [""], resources: ["{self.resource.name}"], verbs: ["list", "watch"]}}'
            where = f"a Role in namespace {self._namespace}" if self._namespace else "a ClusterRole"
            _log.warning("kube.watch.forbidden", extra=fields(error=str(error), needed=f"{where} with the rule {rule}"))
            self.problem = ForbiddenError(f"{error}; needed: {where} with the rule {rule}")
            if self.resource is EVENTS:
                self._take(EventsHeard(self._namespace, heard=False))
        self.settled.set()


async def _give_way(number: int) -> None:
    """Let other tasks run after every ``YIELD_AFTER`` objects."""
    if number % YIELD_AFTER == 0:
        await asyncio.sleep(0)
