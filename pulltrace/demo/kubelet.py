"""PURE: one node's kubelet at work: it has its containerd pull what pods need, and says so as a kubelet does.

What it says goes to ``outbox``, for the API server. Its constants and order are those of pkg/kubelet/images
(Kubernetes 1.37): ``Pulling`` is said before the pull's turn comes, a failure is tried again after 10 s, then 20 s, up
to 300 s.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

from pulltrace.demo.machine import Locks, Slots
from pulltrace.demo.pod_events import Object, PodEvents
from pulltrace.demo.pull import Pull
from pulltrace.demo.virtual_containerd import VirtualContainerd
from pulltrace.images import InvalidReferenceError, normalise, parse
from pulltrace.wire import PullPhase

FIRST_BACK_OFF, LONGEST_BACK_OFF = 10.0, 300.0
SYNC_AGAIN = 2.0
"""Seconds after a failure until the kubelet looks again, and finds that it is not time yet."""
START_TAKES = 0.4

SYNC_PERIOD = 10.0
"""Seconds between two looks at a pod that needs no pull to fail: no name, or never to be pulled."""

Worker = Generator[None, None, None]


@dataclass(frozen=True, slots=True)
class Said:
    """An object was created or replaced, or (``gone``) deleted."""

    resource: str
    object: Object
    gone: bool = False


class _Attempt(Enum):
    SUCCEEDED = "the image is there"
    FAILED = "it was not to be had"
    IMPOSSIBLE = "there was nothing to try"


@dataclass(slots=True)
class _Pod:
    arrival: PodEvents
    policy: str
    workers: list[Worker] = field(default_factory=list)
    pulls: list[Pull] = field(default_factory=list)
    events: dict[str, Object] = field(default_factory=dict)
    attempts: Locks = field(default_factory=Locks)


class Kubelet:
    """``parallel`` pulls at a time on ``node``; the kubelet's own default is one after the other."""

    def __init__(self, node: VirtualContainerd, *, parallel: int = 1) -> None:
        self.node = node
        self.outbox: list[Said] = []
        self._slots = Slots(parallel)
        self._pods: dict[str, _Pod] = {}
        self._elapsed = 0.0

    def add(self, pod: Object, *, policy: str = "IfNotPresent") -> None:
        """The scheduler put a pod here; ``policy`` is that of all its containers."""
        added = self._pods[pod["metadata"]["name"]] = _Pod(PodEvents(pod), policy)
        spec = pod["spec"]
        init = [container["name"] for container in spec.get("initContainers", [])]
        for container in spec["containers"]:
            added.workers.append(self._container(added, [*init, container["name"]]))
            init = []
        self._say_pod(added)

    def remove(self, name: str) -> None:
        """The pod is deleted, and with it the pulls that nobody else waits for, and its events."""
        pod = self._pods.pop(name, None)
        if pod is None:
            return
        for worker in pod.workers:
            worker.close()
        for pull in pod.pulls:
            if pull.state is None:
                pull.cancel()
        self.outbox += [Said("events", event, gone=True) for event in pod.events.values()]
        self.outbox.append(Said("pods", pod.arrival.pod, gone=True))

    def tidy(self, image: str) -> None:
        """Take away an image that no pod here uses."""
        reference = normalise(image)
        used = {normalise(item["image"]) for pod in self._pods.values() for item in _containers(pod.arrival.pod)}
        if reference in self.node.store.records and reference not in used:
            self.node.remove(reference)

    def advance(self, seconds: float) -> None:
        """So many seconds of work were done since the last time."""
        self._elapsed = seconds
        for pod in self._pods.values():
            pod.workers = [worker for worker in pod.workers if next(worker, self) is None]

    def _container(self, pod: _Pod, names: list[str]) -> Worker:
        """Containers that start one after the other, each when its image is there."""
        for name in names:
            yield from self._image(pod, name)
            yield from self._wait(START_TAKES)
            pod.arrival.started(name, self.node.now)
            self._say_pod(pod)

    def _image(self, pod: _Pod, name: str) -> Worker:
        image = next(item["image"] for item in _containers(pod.arrival.pod) if item["name"] == name)
        delay = FIRST_BACK_OFF
        while (attempt := (yield from self._attempt(pod, name, image))) is not _Attempt.SUCCEEDED:
            due = delay if attempt is _Attempt.FAILED else SYNC_PERIOD
            wait = SYNC_AGAIN
            while due > wait:
                yield from self._wait(wait)
                due, wait = due - wait, delay / 3
                if attempt is _Attempt.FAILED:
                    self._say(pod, pod.arrival.backing_off, name)
            yield from self._wait(due)
            delay = min(LONGEST_BACK_OFF, 2 * delay)

    def _attempt(self, pod: _Pod, name: str, image: str) -> Generator[None, None, _Attempt]:
        yield from self._until(partial(pod.attempts.take, "pod"))
        try:
            try:
                reference = str(parse(image))
            except InvalidReferenceError:
                self._say(pod, pod.arrival.invalid, name)
                return _Attempt.IMPOSSIBLE
            if reference in self.node.store.records and pod.policy != "Always":
                self._say(pod, pod.arrival.already_present, name)
                return _Attempt.SUCCEEDED
            if pod.policy == "Never":
                self._say(pod, pod.arrival.never, name)
                return _Attempt.IMPOSSIBLE
            return (yield from self._pull(pod, name, reference))
        finally:
            pod.attempts.give("pod")

    def _pull(self, pod: _Pod, name: str, reference: str) -> Generator[None, None, _Attempt]:
        self._say(pod, pod.arrival.pulling, name)
        yield from self._until(self._slots.take)
        try:
            began = self.node.now
            pull = self.node.pull(reference)
            pod.pulls = [pull]
            yield from self._until(lambda: pull.state is not None)
        finally:
            self._slots.give()
        if pull.state is PullPhase.COMPLETED and pull.image:
            took = self.node.now - began
            self._say(pod, partial(pod.arrival.pulled, seconds=took, size=pull.image.size), name)
            return _Attempt.SUCCEEDED
        self._say(pod, partial(pod.arrival.failed, error=pull.error), name)
        return _Attempt.FAILED

    def _say(self, pod: _Pod, what: Callable[..., Object], container: str) -> None:
        event = what(container, self.node.now)
        pod.events[event["metadata"]["name"]] = event
        self.outbox.append(Said("events", event))
        if event["reason"] not in ("Pulling", "Pulled"):
            self._say_pod(pod)

    def _say_pod(self, pod: _Pod) -> None:
        self.outbox.append(Said("pods", pod.arrival.pod))

    def _wait(self, seconds: float) -> Worker:
        while seconds > 0:
            seconds -= self._elapsed
            yield

    def _until(self, done: Callable[[], Any]) -> Worker:
        while not done():
            yield


def _containers(pod: Object) -> list[Object]:
    spec = pod["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]
