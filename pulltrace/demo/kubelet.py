"""A simulated kubelet that pulls its pods' images and reports the same events and statuses as a real kubelet. Sans-I/O.

Each pod has a worker that *syncs* the pod. A sync first writes the status that the pod had at the end of the previous
sync. Next, the sync tries to start every container that is not running. Therefore, the reason for a failed pull appears
in the status only at the next sync, usually 10 to 15 s later. Pulls belong to the kubelet rather than to pods: if a pod
is deleted, its pull continues.

The kubelet puts its reports into ``outbox``, and the demo passes them on to the API server. The constants and the order
of the steps are the same as in pkg/kubelet (Kubernetes 1.37). ``tests/kubelet`` compares the simulated kubelet with a
real one.
"""

import copy
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pulltrace.demo.pod_events import Object, PodEvents
from pulltrace.demo.pull import Pull
from pulltrace.demo.virtual_containerd import VirtualContainerd
from pulltrace.images import InvalidReferenceError, normalise, parse
from pulltrace.wire import PullPhase

FIRST_BACK_OFF, LONGEST_BACK_OFF = 10.0, 300.0
SYNC_AGAIN, SYNC_JITTER = 10.0, 0.5
"""How long the kubelet waits after a failed sync, in seconds, and the maximum jitter as a fraction of that time."""
SYNC_SOON = 1.0
"""The next sync begins this many seconds after the kubelet notices that a sandbox or container has started."""
START_TAKES = 0.4

Work = Generator[None, None, bool]
Wait = Generator[None, None, None]


@dataclass(frozen=True, slots=True)
class Said:
    """A change to an object. If ``gone`` is true, the object was deleted; otherwise, it was created or replaced."""

    resource: str
    object: Object
    gone: bool = False


@dataclass(slots=True)
class _BackOff:
    delay: float
    until: float


@dataclass(slots=True, eq=False)
class _Request:
    """A requested pull, which starts once a slot is free and all earlier requests have started."""

    reference: str
    began: float = 0.0
    pull: Pull | None = None

    @property
    def over(self) -> bool:
        return self.pull is not None and self.pull.state is not None


@dataclass(slots=True, eq=False)
class _Pod:
    reports: PodEvents
    policy: str
    worker: Work
    deleted: bool = False
    pulls: bool = False
    """True while the worker is waiting for a pull. The worker continues to wait even if the pod is deleted."""
    changed: bool = True
    """True if the pod's sandbox or one of its containers has started since the sync began."""
    running: set[str] = field(default_factory=set)
    events: dict[str, Object] = field(default_factory=dict)
    back_offs: dict[str, _BackOff] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.reports.pod["metadata"]["name"])


class Kubelet:
    """A node's kubelet, which runs up to ``parallel`` pulls at once. The default is the same as for a real kubelet."""

    def __init__(self, node: VirtualContainerd, *, parallel: int = 1) -> None:
        self.node = node
        self.outbox: list[Said] = []
        self._parallel = parallel
        self._pods: list[_Pod] = []
        self._requests: list[_Request] = []
        self.runs = True
        self._elapsed = 0.0

    def add(self, pod: Object, *, policy: str = "IfNotPresent") -> None:
        """Accept a pod that has been scheduled on this node. ``policy`` is the pull policy of all containers in the
        pod.
        """
        added = _Pod(PodEvents(pod), policy, worker=_nothing())
        if self.runs:
            added.worker = self._work(added)
        self._pods.append(added)
        self._write(added)

    def remove(self, name: str) -> None:
        """Delete a pod and its events. If the pod is waiting for a pull, that pull continues, and its result is
        reported before the events are deleted.
        """
        for pod in self._pods:
            if pod.name == name and not pod.deleted:
                pod.deleted = True
                self.outbox.append(Said("pods", pod.reports.pod, gone=True))
                if not pod.pulls:
                    self._forget(pod)
                return

    def stop(self) -> None:
        """Stop the kubelet. Stopping the kubelet also cancels its pulls, because containerd notices immediately that
        its client has disconnected.
        """
        self.runs = False
        for request in self._requests:
            if request.pull is not None and not request.over:
                request.pull.cancel()
        self._requests.clear()
        for pod in [pod for pod in self._pods if pod.deleted]:
            self._forget(pod)
        for pod in self._pods:
            pod.worker.close()
            pod.worker = _nothing()

    def start(self) -> None:
        """Start the kubelet again after ``stop``. The restarted kubelet has forgotten all back-offs, so it requests
        every pod's images immediately.
        """
        self.runs = True
        for pod in self._pods:
            pod.back_offs.clear()
            pod.reports.kubelet_restarts()
            pod.changed = False
            pod.worker = self._work(pod)

    def tidy(self, image: str) -> None:
        """Remove an image, unless a pod on this node uses it."""
        reference = normalise(image)
        used = {normalise(item["image"]) for pod in self._pods for item in _containers(pod.reports.pod)}
        if reference in self.node.store.records and reference not in used:
            self.node.remove(reference)

    def advance(self, seconds: float) -> None:
        """Run the kubelet for ``seconds`` of simulated time."""
        self._elapsed = seconds
        self._start_pulls()
        for pod in list(self._pods):
            if next(pod.worker, True) and pod.deleted:
                self._forget(pod)

    def _start_pulls(self) -> None:
        self._requests = [request for request in self._requests if not request.over]
        for request in self._requests[: self._parallel]:
            if request.pull is None:
                request.began, request.pull = self.node.now, self.node.pull(request.reference)

    def _forget(self, pod: _Pod) -> None:
        pod.worker.close()
        self._pods.remove(pod)
        self.outbox += [Said("events", event, gone=True) for event in pod.events.values()]

    def _work(self, pod: _Pod) -> Work:
        """Sync the pod repeatedly until all its containers are running or the pod has been deleted."""
        while not (yield from self._sync(pod)):
            if pod.deleted:
                break
            later = SYNC_AGAIN * (1 + SYNC_JITTER * self.node.random.random())
            yield from self._wait(SYNC_SOON if pod.changed else later)
            pod.changed = False
        return True

    def _sync(self, pod: _Pod) -> Work:
        """Try to start the containers that are not running: the init containers first, one at a time, then the others.
        Return whether all containers are running.
        """
        self._write(pod)
        spec = pod.reports.pod["spec"]
        for container in spec.get("initContainers", []):
            if not (yield from self._start(pod, container)):
                return False
        started = True
        for container in spec["containers"]:
            started &= yield from self._start(pod, container)
        return started

    def _start(self, pod: _Pod, container: Object) -> Work:
        name = container["name"]
        if name in pod.running:
            return True
        if not (yield from self._get(pod, name, container["image"])):
            return False
        yield from self._wait(START_TAKES)
        pod.running.add(name)
        pod.changed = True
        pod.reports.started(name, self.node.now)
        self._write(pod)
        return True

    def _get(self, pod: _Pod, name: str, image: str) -> Work:
        """Pull the image if necessary. Return whether the image is now present."""
        try:
            reference = str(parse(image))
        except InvalidReferenceError:
            return self._refuse(pod, pod.reports.invalid, name)
        if reference in self.node.store.records and pod.policy != "Always":
            self._report(pod, pod.reports.already_present, name)
            return True
        if pod.policy == "Never":
            return self._refuse(pod, pod.reports.never, name)
        back_off = pod.back_offs.get(reference)
        if back_off and self.node.now < back_off.until:
            return self._refuse(pod, pod.reports.backing_off, name)
        return (yield from self._pull(pod, name, reference))

    def _pull(self, pod: _Pod, name: str, reference: str) -> Work:
        self._report(pod, pod.reports.pulling, name)
        request = _Request(reference)
        self._requests.append(request)
        pod.pulls = True
        yield from self._until(lambda: request.over)
        pod.pulls = False
        pull = request.pull
        if pull and pull.state is PullPhase.COMPLETED and pull.image:
            took = self.node.now - request.began
            self._report(pod, partial(pod.reports.pulled, seconds=took, size=pull.image.size), name)
            return not pod.deleted
        self._refuse(pod, partial(pod.reports.failed, error=pull.error if pull else ""), name)
        before = pod.back_offs.get(reference)
        delay = min(LONGEST_BACK_OFF, 2 * before.delay) if before else FIRST_BACK_OFF
        pod.back_offs[reference] = _BackOff(delay, self.node.now + delay)
        return False

    def _refuse(self, pod: _Pod, happened: Callable[..., Object], container: str) -> bool:
        self._report(pod, happened, container)
        self._report(pod, pod.reports.not_started, container)
        return False

    def _report(self, pod: _Pod, happened: Callable[..., Object], container: str) -> None:
        event = happened(container, self.node.now)
        pod.events[event["metadata"]["name"]] = event
        self.outbox.append(Said("events", event))

    def _write(self, pod: _Pod) -> None:
        """Report a copy of the pod's current status. Later changes to the status are not reported until the next call
        of this method.
        """
        if not pod.deleted:
            self.outbox.append(Said("pods", copy.deepcopy(pod.reports.pod)))

    def _wait(self, seconds: float) -> Wait:
        while seconds > 0:
            seconds -= self._elapsed
            yield

    def _until(self, done: Callable[[], Any]) -> Wait:
        while not done():
            yield


def _nothing() -> Work:
    """Do nothing, because the kubelet is not running."""
    while True:
        yield


def _containers(pod: Object) -> list[Object]:
    spec = pod["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]
