"""The pods on one node that are waiting for images, and their image requests. Sans-I/O.

``NodeDemands`` contains everything that is known about the pods on one node. ``cluster.Cluster`` decides which node a
change belongs to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from msgspec.structs import replace

from pulltrace.images import normalise
from pulltrace.server.kubernetes.attempts import ImageRequest, PullFacts
from pulltrace.server.kubernetes.demand import (
    ImageDemand,
    WaitingContainer,
    WaitingPod,
    first_start,
    has_image,
    merge,
    not_requested,
    waiting_pod,
)
from pulltrace.server.kubernetes.errors import COMBINED, WAITING_REASONS, about, pulled_in
from pulltrace.server.kubernetes.objects import Event, Pod
from pulltrace.server.models import PodCorrelation

Place: TypeAlias = tuple[str, str]
"""A normalised image reference, paired with a pod's key (``Pod.key``)."""


LINGER = 120.0
"""Time, in seconds, for which a demand is kept after its image has arrived. The agent's last report may arrive later
than the kubelet's event.
"""

UNSEEN_POD = 600.0
"""Time, in seconds, after which a request is forgotten if its pod has never been seen."""

ABANDONED = 3600.0
"""Maximum time, in seconds, that a deleted pod's pull may spend in the kubelet's queue."""

MAX_REQUESTS = 20_000
"""Maximum number of requests to store across all nodes. Events and statuses beyond this limit are dropped and
counted.
"""


@dataclass(slots=True)
class Budget:
    """How many more image requests can be stored across all nodes."""

    left: int = MAX_REQUESTS
    dropped: int = 0
    """How many image requests were dropped because the limit had been reached."""


@dataclass(slots=True)
class Outcome:
    """The result of processing one pod or event on a node."""

    changed: bool = False
    """True if anything visible has changed."""
    due: list[tuple[float, Place]] = field(default_factory=list)
    """The times at which requests must be examined again, each paired with the request's key."""


class RequestIndex:
    """All image requests of a node, indexed by image and by pod."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.by_image: dict[str, dict[str, ImageRequest]] = {}
        self._images: dict[str, set[str]] = {}  # by pod key

    def __bool__(self) -> bool:
        return bool(self.by_image)

    def get(self, place: Place) -> ImageRequest | None:
        """Return a pod's request for an image, or None if the pod has not requested it."""
        image, key = place
        return self.by_image.get(image, {}).get(key)

    def add(self, place: Place, request: ImageRequest) -> bool:
        """Add a request. Return False if the limit has been reached."""
        if self._budget.left <= 0:
            self._budget.dropped += 1
            return False
        self._budget.left -= 1
        image, key = place
        self.by_image.setdefault(image, {})[key] = request
        self._images.setdefault(key, set()).add(image)
        return True

    def remove(self, place: Place) -> None:
        """Forget a request."""
        self._budget.left += 1
        image, key = place
        del self.by_image[image][key]
        if not self.by_image[image]:
            del self.by_image[image]
        self._images[key].remove(image)
        if not self._images[key]:
            del self._images[key]

    def images(self, key: str) -> list[str]:
        """Return the images that a pod has requested."""
        return list(self._images.get(key, ()))


class NodeDemands:
    """One node's waiting pods and their image requests."""

    def __init__(self, name: str, budget: Budget) -> None:
        self.name = name
        self.requests = RequestIndex(budget)
        self.pods: dict[str, WaitingPod] = {}
        """The waiting pods, keyed by ``Pod.key``."""
        self.clock_right = False
        """True once an event has arrived on time, which proves that the node's clock is correct."""
        self._present: dict[str, set[str]] = {}  # pod key → images that the node already had

    @property
    def is_empty(self) -> bool:
        """Return whether nothing is known about the node's pods."""
        return not self.pods and not self.requests

    def knows(self, key: str) -> bool:
        """Return whether anything is known about a pod."""
        return key in self.pods or bool(self.requests.images(key))

    def demands(self, unreadable: set[str | None]) -> Sequence[ImageDemand]:
        """Return the images that the kubelet needs, in the order of the kubelet's requests. containerd creates its
        leases in the same order.

        Images that the kubelet might not have requested yet come last. Events in the ``unreadable`` namespaces cannot
        be read, so every container that is waiting there is assumed to be waiting for its image.
        """
        waiting: dict[str, list[tuple[str, WaitingPod, WaitingContainer]]] = {}
        for key, pod in self.pods.items():
            for container in pod.containers:
                if container.ref not in self._present.get(key, ()):
                    waiting.setdefault(container.ref, []).append((key, pod, container))
        requested = sorted(self.requests.by_image.items(), key=lambda item: first_start(item[1]))
        demands = [merge(self.name, image, requests, waiting.pop(image, [])) for image, requests in requested]
        others = [
            not_requested(
                self.name, image, waiters, pulling=any(unreadable & {None, pod.namespace} for _, pod, _ in waiters)
            )
            for image, waiters in waiting.items()
        ]
        return demands + sorted(others, key=lambda demand: demand.since)

    def take_pod(self, pod: Pod, now: float, *, unheard: bool = False) -> Outcome:
        """Process a pod's latest state. ``unheard`` is true if the events of the pod's namespace cannot be read."""
        key = pod.key
        before = self.pods.get(key)
        after = waiting_pod(pod, before, now)
        if unheard and before:
            self._assume_requests(key, before, after)
        outcome = self._settle(pod, after, now) if self.knows(key) else Outcome()
        outcome.changed |= before != after
        if after is None:
            self.pods.pop(key, None)
            self._present.pop(key, None)
            return outcome
        self.pods[key] = after
        for container in after.containers:
            self._take_status((container.ref, key), after, container, now, outcome)
        return outcome

    def take_event(self, event: Event, raw: float, at: float, *, fresh: bool) -> Outcome:
        """Process an event about an image.

        ``at`` is the event's time by the server's clock. ``fresh`` is false if the event comes from a list.
        """
        image, text = about(event.message)
        place = normalise(image), event.involved_object.uid
        request = self.requests.get(place)
        if event.reason == "Pulled":
            return self._take_pulled(place, request, text, raw, at)
        outcome = Outcome(changed=True)
        if request is None:
            # An earlier failure would have created a request, so the earlier Pulling events belong to pulls that
            # succeeded.
            earlier = event.times - 1 if fresh and event.reason == "Pulling" else 0
            request = ImageRequest(self._pod_of(event, image, place), at, earlier)
            if not self.requests.add(place, request):
                return Outcome()
            outcome.due.append((at + UNSEEN_POD, place))
        match event.reason:
            case "Pulling":
                request.take_pulling(raw, at, event.times)
            case "Failed":
                # The count of a combined event includes failures with different messages.
                times = 1 if event.message.startswith(COMBINED) else event.times
                request.take_failed(raw, at, text, times, listed=not fresh, first=event.first_at)
                self._forget_abandoned(request.start)
            case "BackOff":
                request.take_back_off(raw, at, text or event.message)
            case "ErrImageNeverPull":
                request.take_refusal(raw, at, event.message, event.reason, event.first_at)
            case _:  # InspectFailed
                invalid = event.message.startswith("Failed to apply default image tag")
                reason = "InvalidImageName" if invalid else "ImageInspectError"
                request.take_refusal(raw, at, text or event.message, reason, event.first_at)
        return outcome

    def forget(self, key: str, now: float) -> Outcome:
        """Forget a deleted pod. Its requests are kept for now if their images have arrived or are being pulled."""
        outcome = Outcome(changed=key in self.pods)
        for image in self.requests.images(key):
            request = self.requests.get((image, key))
            if request is None or request.abandoned or request.pulled_at is not None:
                continue
            outcome.changed = True
            if request.pulling:
                request.abandoned = True
                outcome.due.append((now + ABANDONED, (image, key)))
            else:
                self.requests.remove((image, key))
        self.pods.pop(key, None)
        self._present.pop(key, None)
        return outcome

    def take_end(self, event: Event, raw: float, at: float) -> Outcome:
        """Process an event that reports the end of a deleted pod's pull."""
        image, text = about(event.message)
        place = normalise(image), event.involved_object.uid
        request = self.requests.get(place)
        if request is None or not request.abandoned:
            return Outcome()
        if event.reason == "Pulled":
            return self._take_pulled(place, request, text, raw, at)
        self.requests.remove(place)
        return Outcome(changed=True)

    def expire(self, place: Place, now: float) -> Outcome:
        """Forget the request if its image arrived a while ago, or if its pod never appeared."""
        request = self.requests.get(place)
        if request is None:
            return Outcome()
        unseen = place[1] not in self.pods
        over = request.pulled_at is not None and request.pulled_at + LINGER <= now
        until = request.since + (ABANDONED if request.abandoned else UNSEEN_POD)
        if over or (unseen and until <= now):
            self.requests.remove(place)
            return Outcome(changed=True)
        again = unseen and request.pulled_at is None  # another attempt has since begun
        return Outcome(due=[(until, place)] if again else [])

    def is_in(self, namespace: str | None, key: str) -> bool:
        """Return whether a pod is in the namespace; None means any namespace."""
        if namespace is None:
            return True
        pod = self.pods.get(key)
        if pod:
            return pod.namespace == namespace
        requests = (self.requests.get((image, key)) for image in self.requests.images(key))
        return any(request.pod.namespace == namespace for request in requests if request)

    def _assume_requests(self, key: str, before: WaitingPod, after: WaitingPod | None) -> None:
        """Assume that the pod has requested each image for which its containers are no longer waiting. For an image
        that is already present, the kubelet emits no Pulling event.
        """
        waits = {container.ref for container in after.containers} if after else set()
        for container in before.containers:
            place = container.ref, key
            if container.ref not in waits and self.requests.get(place) is None:
                self.requests.add(place, ImageRequest(before.correlation(container), before.since))

    def _settle(self, pod: Pod, after: WaitingPod | None, now: float) -> Outcome:
        """End the pod's request for an image if its container has been created or the pod no longer uses the image."""
        outcome, key = Outcome(), pod.key
        # One container of the pod may already be using the image while another container needs a new pull.
        failing = {item.ref for item in after.containers if item.reason in WAITING_REASONS} if after else set()
        users = [(normalise(spec.image), [status]) for _, spec, status in pod.containers()]
        users += [(normalise(image), mounted_by) for _, image, mounted_by in pod.image_volumes()]
        for image, statuses in users:
            request = self.requests.get((image, key))
            if request and image not in failing and any(map(has_image, statuses)) and request.take_created(now):
                self._end(request, (image, key), now, outcome)
        named = {image for image, _ in users}
        for image in self.requests.images(key):
            request = self.requests.get((image, key))
            if request and image not in named and request.pulled_at is None:
                self.requests.remove((image, key))
                outcome.changed = True
        return outcome

    def _take_status(
        self, place: Place, pod: WaitingPod, container: WaitingContainer, now: float, outcome: Outcome
    ) -> None:
        """Process a failure that is reported in a container's status. The status still reports the previous failure
        while the next attempt is running.
        """
        request = self.requests.get(place)
        if request:
            request.pod = pod.correlation(container)
        if container.reason not in WAITING_REASONS:
            return
        if request is None:
            request = ImageRequest(pod.correlation(container), now)
            if not self.requests.add(place, request):
                return
            outcome.due.append((now + UNSEEN_POD, place))
        outcome.changed |= request.take_status(now, container.reason, container.message)

    def _take_pulled(self, place: Place, request: ImageRequest | None, text: str, raw: float, at: float) -> Outcome:
        outcome = Outcome()
        if request:
            if request.take_pulled(raw, at, PullFacts(*pulled_in(text))):
                self._end(request, place, at, outcome)
                self._forget_abandoned(request.start)
            return outcome
        image, key = place
        if key in self.pods:  # the image was already present, so the pod is waiting for something else
            self._present.setdefault(key, set()).add(image)
            outcome.changed = True
        return outcome

    def _forget_abandoned(self, start: float) -> None:
        """Forget the deleted pods' pulls that began before ``start``, because a pull that began at ``start`` has ended.

        After a restart, a kubelet never reports the end of its earlier pulls. If a forgotten pull is still running, it
        keeps the image name that was inferred for it.
        """
        for image in list(self.requests.by_image):
            for key, request in list(self.requests.by_image[image].items()):
                if request.abandoned and request.pulling and request.start < start:
                    self.requests.remove((image, key))

    @staticmethod
    def _end(request: ImageRequest, place: Place, at: float, outcome: Outcome) -> None:
        request.pod = replace(request.pod, waiting_reason=None)
        outcome.changed = True
        outcome.due.append((at + LINGER, place))

    def _pod_of(self, event: Event, image: str, place: Place) -> PodCorrelation:
        """Return the event's pod if the pod is known. Otherwise, create a minimal pod from the names in the event."""
        about_pod = event.involved_object
        container = about_pod.field_path.partition("{")[2].removesuffix("}")
        pod = self.pods.get(place[1])
        known = next((item for item in pod.containers if item.ref == place[0]), None) if pod else None
        if pod and known:
            return pod.correlation(known)
        return PodCorrelation(
            namespace=about_pod.namespace, pod_name=about_pod.name, container=container, image=image, uid=about_pod.uid
        )
