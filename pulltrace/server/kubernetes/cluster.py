"""Who waits for which image on which node, what failed, when is the next try: all from pods and kubelet events.

PURE. ``Cluster.apply`` takes one change as the watch tells it and answers with the nodes on which something
visible changed; ``Cluster.demands`` tells what one node's kubelet wants. Only pods that wait for an image are kept.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec.structs import replace

from pulltrace.images import normalise
from pulltrace.server.kubernetes.attempts import ImageRequest
from pulltrace.server.kubernetes.demand import (
    ImageDemand,
    WaitingContainer,
    WaitingPod,
    begun,
    has_image,
    merge,
    not_requested,
    waiting_pod,
)
from pulltrace.server.kubernetes.errors import COMBINED, WAITING_REASONS, about
from pulltrace.server.kubernetes.objects import Change, Event, EventSeen, EventsHeard, Pod, PodGone, PodSeen, PodsListed
from pulltrace.wire import PodCorrelation

LINGER = 120.0
"""Seconds for which a want that ended is still told: an agent's last report may come later than the kubelet's word."""

UNSEEN_POD = 600.0
"""Seconds for which an event is believed whose pod was never seen."""

CLOCK_TOLERANCE = 30.0
"""An event that arrives is of now. One older than this, or of the future, comes from a node whose clock is off."""

EVENT_LATE = 100.0
"""Seconds for which an event of a node whose clock is right may have been under way: kubelets try for two minutes to
tell the API server, and our watch may have been broken. Less than ``LINGER``."""

_REASONS = frozenset({"Pulling", "Pulled", "Failed", "BackOff", "InspectFailed", "ErrImageNeverPull"})


class _Place(NamedTuple):
    """Where an ask is kept. ``key`` is the pod's, as in ``Pod.key``; ``image`` is normalised."""

    node: str
    image: str
    key: str


@dataclass(slots=True)
class _Node:
    requests: dict[str, dict[str, ImageRequest]] = field(default_factory=dict)  # image → pod's key → ask
    pods: dict[str, WaitingPod] = field(default_factory=dict)  # by key
    present: dict[str, set[str]] = field(default_factory=dict)  # pod's key → images the node had already
    in_step: bool = False  # an event came in time: its clock is right


class Cluster:
    """What the API server said, reduced to the containers that wait for images. Owned by the hub; not thread-safe."""

    def __init__(self) -> None:
        self.revision = 0
        """Grows with every change that could be seen."""
        self._nodes: dict[str, _Node] = {}
        self._node_of: dict[str, str] = {}  # pod's key → node, of every pod that is kept
        self._deaf = set[str | None]()
        """Where events cannot be read (None: nowhere): there a container that waits is taken to wait for its image."""
        self._gone: dict[str, float] = {}  # keys of pods that are no more, oldest first, and since when
        self._ends: list[tuple[float, _Place]] = []  # heap: when to look at an ask again

    def apply(self, change: Change, now: float) -> set[str]:
        """Take in one change. Answers the nodes whose ``demands`` may differ from before."""
        changed = self._apply(change, now)
        self.revision += bool(changed)
        return changed

    def _apply(self, change: Change, now: float) -> set[str]:
        match change:
            case PodSeen(pod):
                return self._pod(pod, now)
            case EventSeen(event, fresh):
                return self._event(event, fresh, now)
            case PodGone(key):
                return self._forget(key, now)
            case EventsHeard(namespace, heard):
                (self._deaf.discard if heard else self._deaf.add)(namespace)
                return set(self._nodes)
            case PodsListed(namespace, keys):
                gone = [key for key in self._node_of if key not in keys and self._is_in(namespace, key)]
                return set().union(*(self._forget(key, now) for key in gone))

    def expire(self, now: float) -> set[str]:
        """Forget what was pulled, or never had a pod, a while ago. Next to nothing when there is nothing."""
        changed = set()
        while self._gone and next(iter(self._gone.values())) + UNSEEN_POD <= now:
            del self._gone[next(iter(self._gone))]
        while self._ends and self._ends[0][0] <= now:
            place = heapq.heappop(self._ends)[1]
            request = self._request_at(place)
            if not request:
                continue
            over = request.pulled_at is not None and request.pulled_at + LINGER <= now
            unseen = place.key not in self._nodes[place.node].pods
            if over or (unseen and request.since + UNSEEN_POD <= now):
                self._drop_request(place)
                changed.add(place.node)
            elif unseen and request.pulled_at is None:  # tried again meanwhile
                heapq.heappush(self._ends, (request.since + UNSEEN_POD, place))
        self.revision += bool(changed)
        return changed

    def demands(self, node: str) -> Sequence[ImageDemand]:
        """What the node's kubelet wants, in the order in which it began to (same order as its leases).

        What it was not yet heard to ask for comes last.
        """
        known = self._nodes.get(node)
        if not known:
            return ()
        waiting: dict[str, list[tuple[str, WaitingPod, WaitingContainer]]] = {}
        for key, pod in known.pods.items():
            for container in pod.containers:
                if container.ref not in known.present.get(key, ()):
                    waiting.setdefault(container.ref, []).append((key, pod, container))
        asked = sorted(known.requests.items(), key=lambda item: begun(item[1]))
        demands = [merge(node, image, requests, waiting.pop(image, [])) for image, requests in asked]
        deaf = self._deaf
        others = [
            not_requested(node, image, waiters, pulling=any(deaf & {None, pod.namespace} for _, pod, _ in waiters))
            for image, waiters in waiting.items()
        ]
        return demands + sorted(others, key=lambda demand: demand.since)

    def nodes(self) -> Iterable[str]:
        """Nodes that have wants."""
        return self._nodes.keys()

    def waiting(self) -> Iterator[WaitingPod]:
        """Every pod with containers that were never created, in no order."""
        for node in self._nodes.values():
            yield from node.pods.values()

    # Pods.

    def _pod(self, pod: Pod, now: float) -> set[str]:
        key, name = pod.key, pod.spec.node_name
        if not name or not key or pod.metadata.deletion_timestamp:  # what is being deleted waits for nothing
            return self._forget(key, now)
        # Under its old key a static pod comes back, on another node perhaps.
        moved = self._forget(key, now) if self._node_of.get(key, name) != name else set()
        self._gone.pop(key, None)
        before = self._nodes[name].pods.get(key) if key in self._node_of and name in self._nodes else None
        after = waiting_pod(pod, before, now)
        changed = before != after
        if key in self._node_of:
            changed |= self._settle(pod, after, now)
        if after:
            self._nodes.setdefault(name, _Node()).pods[key] = after
            self._node_of[key] = name
            for container in after.containers:
                place = _Place(name, container.ref, key)
                changed |= self._status(place, after, container, before, now)
        elif before:
            self._drop_pod(name, key)
        return moved | {name} if changed else moved

    def _settle(self, pod: Pod, after: WaitingPod | None, now: float) -> bool:
        """End the asks for images that containers were created with, and for those that the pod no longer names."""
        changed, name = False, pod.spec.node_name
        # Another container of the pod may have it from before, and this one must have it pulled again.
        failing = {item.ref for item in after.containers if item.reason in WAITING_REASONS} if after else set()
        users = [(spec.image, [status]) for _, spec, status in pod.containers()]
        users += [(image, mounted_by) for _, image, mounted_by in pod.image_volumes()]
        for image, statuses in users:
            if any(map(has_image, statuses)) and normalise(image) not in failing:
                changed |= self._succeed(_Place(name, normalise(image), pod.key), None, now)
        named = {normalise(image) for image, _ in users}
        for image in self._images_of(name, pod.key):
            place = _Place(name, image, pod.key)
            request = self._request_at(place)
            if request and image not in named and request.pulled_at is None:
                self._drop_request(place)
                changed = True
        return changed

    def _status(
        self, place: _Place, pod: WaitingPod, container: WaitingContainer, before: WaitingPod | None, now: float
    ) -> bool:
        """A failure that a container's status tells. It goes on telling the old one while the next attempt runs."""
        request = self._request_at(place)
        if request:
            request.pod = pod.correlation(container)
        if container.reason not in WAITING_REASONS:
            return False
        told = before is None or container in before.containers or container.reason == "ImagePullBackOff"
        if request and request.failure and told:
            return False
        request = request or self._new_request(place, pod.correlation(container), now)
        request.fail(None, now, about(container.message)[1] or container.message, container.reason)
        return True

    # Events.

    def _event(self, event: Event, fresh: bool, now: float) -> set[str]:
        image, said = about(event.message)
        raw, key = event.at, event.involved_object.uid
        name = self._node_of.get(key) or (event.node if fresh else "")
        # A listed event of a pod that no longer waits is history; of a pod that is no more, even a new one is.
        if not name or key in self._gone or event.reason not in _REASONS or not image or raw is None:
            return set()
        node = self._nodes.get(name)
        in_time = now - (EVENT_LATE if node and node.in_step else CLOCK_TOLERANCE) <= raw
        at = min(raw, now) if in_time or not fresh else now
        place = _Place(name, normalise(image), key)
        if event.reason == "Pulled":
            return {name} if self._succeed(place, raw, at) or self._already_there(place) else set()
        # Had one before it failed, a status or a listed event would have told.
        earlier = event.times - 1 if fresh and event.reason == "Pulling" else 0
        request = self._request_at(place) or self._new_request(place, self._pod_of(event, image, place), at, earlier)
        self._nodes[name].in_step |= fresh and in_time and raw <= now
        match event.reason:
            case "Pulling":
                request.begin(raw, at, event.times)
            case "Failed":
                times = 1 if event.message.startswith(COMBINED) else event.times  # of all that were combined
                request.fail(raw, at, said, "ErrImagePull", times)
            case "BackOff":
                request.back_off(raw, at, said or event.message)
            case "ErrImageNeverPull":
                request.fail(raw, at, event.message, event.reason)
            case _:  # InspectFailed
                invalid = event.message.startswith("Failed to apply default image tag")
                request.fail(raw, at, said or event.message, "InvalidImageName" if invalid else "ImageInspectError")
        return {name}

    def _pod_of(self, event: Event, image: str, place: _Place) -> PodCorrelation:
        """The pod as it is known, or else as the event names it."""
        about_pod = event.involved_object
        container = about_pod.field_path.partition("{")[2].removesuffix("}")
        node = self._nodes.get(place.node)
        pod = node.pods.get(place.key) if node else None
        known = next((item for item in pod.containers if item.ref == place.image), None) if pod else None
        if pod and known:
            return pod.correlation(known)
        return PodCorrelation(
            namespace=about_pod.namespace, pod_name=about_pod.name, container=container, image=image, uid=about_pod.uid
        )

    def _already_there(self, place: _Place) -> bool:
        """The node had the image: the pod waits for something else."""
        node = self._nodes.get(place.node)
        if not node or place.key not in node.pods:
            return False
        node.present.setdefault(place.key, set()).add(place.image)
        return True

    # Asks.

    def _request_at(self, place: _Place) -> ImageRequest | None:
        node = self._nodes.get(place.node)
        return node.requests.get(place.image, {}).get(place.key) if node else None

    def _new_request(self, place: _Place, pod: PodCorrelation, at: float, earlier: int = 0) -> ImageRequest:
        request = ImageRequest(pod, at, earlier)
        self._nodes.setdefault(place.node, _Node()).requests.setdefault(place.image, {})[place.key] = request
        self._node_of[place.key] = place.node
        heapq.heappush(self._ends, (at + UNSEEN_POD, place))
        return request

    def _succeed(self, place: _Place, raw: float | None, at: float) -> bool:
        request = self._request_at(place)
        if not request or (raw is None and request.pulled_at is not None):
            return False
        request.succeed(raw, at)
        request.pod = replace(request.pod, waiting_reason=None)
        heapq.heappush(self._ends, (at + LINGER, place))
        return True

    def _images_of(self, name: str, key: str) -> list[str]:
        node = self._nodes.get(name)
        return [image for image, requests in node.requests.items() if key in requests] if node else []

    # Forgetting.

    def _is_in(self, namespace: str | None, key: str) -> bool:
        name = self._node_of[key]
        pod = self._nodes[name].pods.get(key)
        if namespace is None or pod:
            return pod is None or namespace in (None, pod.namespace)
        return any(
            self._nodes[name].requests[image][key].pod.namespace == namespace for image in self._images_of(name, key)
        )

    def _forget(self, key: str, now: float) -> set[str]:
        """The pod is gone. What it got lingers, what it waited for nobody waits for any more."""
        name = self._node_of.get(key)
        self._gone.setdefault(key, now)
        if name is None:
            return set()
        for image in self._images_of(name, key):
            if self._nodes[name].requests[image][key].pulled_at is None:
                self._drop_request(_Place(name, image, key))
        self._drop_pod(name, key)
        return {name}

    def _drop_request(self, place: _Place) -> None:
        requests = self._nodes[place.node].requests
        del requests[place.image][place.key]
        if not requests[place.image]:
            del requests[place.image]
        self._tidy(place.node, place.key)

    def _drop_pod(self, name: str, key: str) -> None:
        node = self._nodes.get(name)
        if node:
            node.pods.pop(key, None)
            node.present.pop(key, None)
            self._tidy(name, key)

    def _tidy(self, name: str, key: str) -> None:
        node = self._nodes[name]
        if key not in node.pods and not self._images_of(name, key):
            self._node_of.pop(key, None)
        if not node.pods and not node.requests:
            del self._nodes[name]
