"""Follows pods and kubelet events: list, watch from there, relist when there is a gap. Never writes anything.

EDGE. The protocol is https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes; the
HTTP part is in ``client``, which is loaded only where there is a cluster.
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
from pulltrace.server.kubernetes.objects import Change, Event, EventSeen, EventsHeard, Pod, PodGone, PodSeen, PodsListed

_log = logging.getLogger(__name__)

FIRST_DELAY, LONGEST_DELAY = 0.5, 8.0
FORBIDDEN_DELAY = 8.0
"""Seconds between looks whether a missing permission was granted."""
GRACE = 60.0
"""Seconds after which an API server that never answered no longer holds readiness back."""
SHORT_WATCH = 1.0


class Watches:
    """Every watch of one cluster. ``tell`` takes the changes, on the event loop, and must not block."""

    def __init__(self, api: Api, namespaces: Iterable[str] | None, tell: Callable[[Change], None]) -> None:
        self._api = api
        self._follows: list[_Follow] = []
        for namespace in (None,) if namespaces is None else namespaces:
            pods = _Follow(api, PODS, namespace, tell, None)
            self._follows += [pods, _Follow(api, EVENTS, namespace, tell, pods.settled)]

    async def run(self) -> None:
        """Follow everything until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for follow in self._follows:
                    group.create_task(follow.run())
        finally:
            await self._api.close()

    @property
    def not_ready(self) -> str | None:
        """Why the first lists are not done, or None when they are, or cannot be had."""
        for follow in self._follows:
            if not follow.settled.is_set():
                return f"the first list of {follow} is not done{f': {follow.problem}' if follow.problem else ''}"
        return None

    @property
    def problem(self) -> str | None:
        """Why something is not followed at the moment, or None when all is well."""
        return next((str(follow.problem) for follow in self._follows if follow.problem), None)

    @property
    def sees_pods(self) -> bool:
        """Nothing is known to keep pods from being seen."""
        return not any(follow.problem for follow in self._follows if follow.resource is PODS)

    def up(self) -> Iterator[tuple[str, bool]]:
        """For each resource, whether it is followed in every namespace."""
        for resource in (PODS, EVENTS):
            yield resource.name, all(follow.up for follow in self._follows if follow.resource is resource)


class _Follow:
    """One resource in one namespace, or in all."""

    def __init__(
        self,
        api: Api,
        resource: Resource,
        namespace: str | None,
        tell: Callable[[Change], None],
        after: asyncio.Event | None,
    ) -> None:
        self.resource = resource
        self.settled = asyncio.Event()
        self.up = False
        self.problem: KubeError | None = None
        self._api, self._namespace, self._tell, self._after = api, namespace, tell, after
        self._version = ""  # to watch from; empty when only a list helps
        self._failures = 0

    def __str__(self) -> str:
        return f"{self.resource.name} in {f'namespace {self._namespace}' if self._namespace else 'all namespaces'}"

    async def run(self) -> None:
        """List and watch, for ever."""
        asyncio.get_running_loop().call_later(GRACE, self.settled.set)
        if self._after:
            # Listed events count only for pods that are known to wait.
            await self._after.wait()
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except GoneError:
                self._version = ""
                self._failures += 1  # lists are dear
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
                for item in page.objects:
                    if isinstance(item, Pod):
                        keys.add(item.key)
                        self._tell(PodSeen(item))
                    else:
                        self._tell(EventSeen(item, fresh=False))
                await asyncio.sleep(0)  # a long list must not keep the streams waiting
        pods = self.resource is PODS
        self._tell(PodsListed(self._namespace, frozenset(keys)) if pods else EventsHeard(self._namespace, heard=True))
        self._version = version
        self.settled.set()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        begun, heard = loop.time(), False
        async with contextlib.aclosing(self._api.changes(self.resource, self._namespace, self._version)) as batches:
            async for batch in batches:
                self._works()
                for change in batch:
                    self._version = change.version or self._version
                    self._change(change)
                    self._failures, heard = 0, True  # however it ends
        if not heard and loop.time() - begun < SHORT_WATCH:
            self._failures += 1
            await self._pause()
        else:
            self._failures = 0

    def _change(self, change: Watched) -> None:
        match change.object:
            case Pod() as pod:
                self._tell(PodGone(pod.key) if change.type == "DELETED" else PodSeen(pod))
            case Event() as event if change.type != "DELETED":  # an event ends an hour later: that is no news
                self._tell(EventSeen(event, fresh=True))

    async def _pause(self) -> None:
        delay = min(FIRST_DELAY * 2.0 ** min(self._failures, 10), LONGEST_DELAY)
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  # many servers must not come back as one

    def _works(self) -> None:
        if self.problem:
            _log.info("kube.watch.up", extra=fields(resource=self.resource.name, namespace=self._namespace))
        self.up, self.problem = True, None

    def _failed(self, error: KubeError) -> None:
        self._failures += 1
        self.up = False
        # One failure is a connection that some proxy found idle. From the second on it is an outage, said once.
        if self._failures > 1 and not self.problem:
            extra = fields(resource=self.resource.name, namespace=self._namespace, error=str(error))
            _log.warning("kube.watch.down", extra=extra)
        if self._failures > 1:
            self.problem = error

    def _forbidden(self, error: ForbiddenError) -> None:
        self.up = False
        if not isinstance(self.problem, ForbiddenError):
            rule = f'{{apiGroups: [""], resources: ["{self.resource.name}"], verbs: ["list", "watch"]}}'
            where = f"a Role in namespace {self._namespace}" if self._namespace else "a ClusterRole"
            _log.warning("kube.watch.forbidden", extra=fields(error=str(error), needed=f"{where} with the rule {rule}"))
            self.problem = ForbiddenError(f"{error}; needed: {where} with the rule {rule}")
            if self.resource is EVENTS:
                self._tell(EventsHeard(self._namespace, heard=False))
        self.settled.set()
