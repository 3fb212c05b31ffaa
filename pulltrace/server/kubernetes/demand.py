"""Pods that are waiting for images, and the images that one node's kubelet needs for all of its pods. Sans-I/O.

All values are immutable. ``node_demands.NodeDemands`` creates them from pods and from ``attempts.ImageRequest``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TypeAlias

from pulltrace.images import normalise
from pulltrace.server.kubernetes.attempts import Failure, ImageRequest
from pulltrace.server.kubernetes.errors import WAITING_REASONS, about, shorten
from pulltrace.server.kubernetes.objects import ContainerStatus, Kind, Pod, Waiting
from pulltrace.server.models import PodCorrelation

# The waiting reasons that the kubelet reports before a container first starts (kubelet_pods.go). The reason may also be
# empty.
_NOT_CREATED = ("ContainerCreating", "PodInitializing", "")


@dataclass(frozen=True, slots=True)
class ImageDemand:
    """An image that containers on one node are waiting for, could not get, or have just received."""

    node: str
    image: str
    """The image's name, normalised by ``pulltrace.images.normalise``."""
    pods: tuple[PodCorrelation, ...]
    """Containers that are currently waiting."""
    since: float
    """The time of the kubelet's Pulling event for the current attempt. If no such event has arrived, this is the time
    at which the container was first seen waiting.
    """
    pulling: bool
    """True if the kubelet's latest event about the image is Pulling, rather than Pulled or Failed.

    The kubelet emits Pulling *before* the pull enters the kubelet's queue.
    """
    failure: Failure | None
    """The last failure, kept until the image is present, even while a new attempt is running."""
    pulled_at: float | None
    """The time of the kubelet's Pulled event, or the time at which the container was created."""
    attempt: int = 1
    """The number of the current or last attempt, counted from 1."""
    since_exact: bool = True
    """True if ``since`` comes from an event rather than from a container status, which arrives later."""
    waited: tuple[PodCorrelation, ...] = ()
    """Containers that were waiting for the image when it arrived."""
    pull_seconds: float | None = None
    """The duration of the pull, according to the kubelet's event."""
    image_bytes: int | None = None
    """The image's size, according to the kubelet's event."""
    assumed: bool = False
    """True if no pull was reported and the creation of a container is the only evidence of the request."""
    starts: tuple[float, ...] = ()
    """The times of the kubelet's Pulling events for all pods whose pulls have not ended, earliest first."""
    abandoned: bool = False
    """True if all pods that requested the image were deleted. The kubelet still pulls the image."""
    awaited: bool = False
    """True if a container is waiting even though the image is already present. The kubelet has not requested the image
    for that container yet.
    """

    @property
    def ended_at(self) -> float | None:
        """Return when the last attempt ended, according to the kubelet, or None if this is unknown."""
        return self.failure.at if self.failure else self.pulled_at

    @property
    def requested(self) -> bool:
        """Return whether the kubelet is known to have requested the image. A container whose image has not been
        requested may be waiting for a volume instead.
        """
        return self.pulling or self.failure is not None or self.pulled_at is not None

    def from_first_request(self, ended_at: float) -> "ImageDemand":
        """Return this demand with the time of the first request since the last pull, which ended at ``ended_at``.

        That request counts even if its pod has been deleted, because the kubelet keeps it in its queue.
        """
        first = next((start for start in self.starts if start > ended_at), self.since)
        return replace(self, since=first) if self.pulling and first < self.since else self


@dataclass(frozen=True, slots=True)
class WaitingContainer:
    """A container that has never been created, or an image volume.

    ``image`` is the image as written in the pod. ``ref`` is the normalised reference.
    """

    name: str
    image: str
    ref: str
    kind: Kind
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class WaitingPod:
    """A pod on a node. The containers that are not running yet are listed in the order in which the kubelet starts
    them.
    """

    namespace: str
    name: str
    uid: str
    owner: str | None
    node: str
    since: float
    """When the kubelet accepted the pod, in Unix seconds."""
    containers: tuple[WaitingContainer, ...]

    def correlation(self, container: WaitingContainer) -> PodCorrelation:
        """Return the pod and one of its containers in the wire format."""
        return PodCorrelation(
            namespace=self.namespace,
            pod_name=self.name,
            container=container.name,
            image=container.image,
            uid=self.uid,
            owner=self.owner,
            waiting_reason=container.reason or None,
        )


def has_image(status: ContainerStatus | None) -> bool:
    """Return whether the container has its image. A container has its image if it has been created before, or if the
    reason for its failure implies that the image is present.
    """
    if not status or not status.state:
        return False
    waiting = status.state.waiting
    if not waiting:
        return status.state.running is not None or status.state.terminated is not None
    if waiting.reason in WAITING_REASONS:
        return False
    return bool(status.image_id) or waiting.reason not in _NOT_CREATED


def waiting_pod(pod: Pod, before: WaitingPod | None, now: float) -> WaitingPod | None:
    """Return the waiting containers and volumes of a pod, or None if there are none."""
    containers = list(_waiting_volumes(pod))
    volumes = {volume.ref for volume in containers}
    for kind, spec, status in pod.containers():
        waiting = _waiting(status)
        if waiting:
            if _failed_image(waiting, volumes):
                # the status refers to the volume, because the container's own image has not been requested yet
                waiting = Waiting()
            ref, message = normalise(spec.image), _short_message(waiting)
            containers.append(WaitingContainer(spec.name, spec.image, ref, kind, waiting.reason, message))
    if not containers:
        return None
    started = pod.status.start_time if pod.status else None
    since = before.since if before else min(started.timestamp(), now) if started else now
    meta = pod.metadata
    return WaitingPod(meta.namespace, meta.name, meta.uid, pod.owner, pod.spec.node_name, since, tuple(containers))


def _waiting_volumes(pod: Pod) -> Iterator[WaitingContainer]:
    """Yield the image volumes whose image is missing in every container that mounts them.

    A failure is reported in the statuses of the containers that mount the volume.
    """
    for name, image, mounted_by in pod.image_volumes():
        ref = normalise(image)
        waiting = [waiting for status in mounted_by if (waiting := _waiting(status))]
        failed = next((item for item in waiting if _failed_image(item, {ref})), None)
        if failed or (waiting and not any(map(has_image, mounted_by))):
            shown = failed or Waiting()
            yield WaitingContainer(name, image, ref, "volume", shown.reason, _short_message(shown))


def _waiting(status: ContainerStatus | None) -> Waiting | None:
    """Return the reason why the container has not been created. Return None if the container has been created or has no
    status.
    """
    return status.state.waiting if status and status.state and not has_image(status) else None


def _short_message(waiting: Waiting) -> str:
    """Shorten the message if necessary, but keep the image name at its beginning readable."""
    image, cause = about(waiting.message)
    if not image or len(waiting.message) <= len(shorten(waiting.message)):
        return shorten(waiting.message)
    return shorten(waiting.message[: len(waiting.message) - len(cause)]) + shorten(cause)


def _failed_image(waiting: Waiting, refs: set[str]) -> bool:
    """Return whether the status reports that one of these images failed. containerd quotes the normalised reference."""
    if not refs or waiting.reason not in WAITING_REASONS:
        return False
    image = about(waiting.message)[0]
    if image:
        return normalise(image) in refs
    quoted = set(waiting.message[:_SEARCHED].split('"')[1::2])
    return not quoted.isdisjoint(refs)


_SEARCHED = 4096
"""Maximum number of characters of a waiting message to search for an image's name."""

Waiters: TypeAlias = Sequence[tuple[str, WaitingPod, WaitingContainer]]
"""The containers that are waiting for one image, each with its pod and the pod's key."""


def not_requested(node: str, image: str, waiters: Waiters, *, pulling: bool) -> ImageDemand:
    """Return the demand for an image that the kubelet might not have requested yet."""
    pods = tuple(pod.correlation(item) for _, pod, item in waiters)
    since = min(pod.since for _, pod, _ in waiters)
    starts = (since,) * len(pods) if pulling else ()
    return ImageDemand(
        node, image, pods, since, pulling, failure=None, pulled_at=None, since_exact=False, starts=starts
    )


def first_start(requests: Mapping[str, ImageRequest]) -> float:
    """Return the time of the kubelet's first request for the image, by the node's clock. This is the start of the
    earliest running attempt or, if no attempt is running, of the earliest attempt.
    """
    every = requests.values()
    return min(request.start for request in [request for request in every if request.pulling] or every)


def merge(node: str, image: str, requests: Mapping[str, ImageRequest], waiters: Waiters) -> ImageDemand:
    """Combine a node's requests for one image into a single demand, because the node pulls the image only once."""
    waiting = {key for key, _, _ in waiters}
    wanted = {key: request for key, request in requests.items() if not request.abandoned}
    starts = tuple(sorted(request.since for request in requests.values() if request.pulling))
    others = [request for key, request in wanted.items() if key not in waiting]
    every = list((wanted or requests).values())
    running = [request for request in every if request.pulling]
    # Use the earliest running request, because the pull began with this request. If no request is running, use the
    # latest request.
    newest = min(running, key=attrgetter("since")) if running else max(every, key=attrgetter("since"))
    # Leave out the pods that got the image before the newest request began, because they got it from an earlier pull.
    current = [
        request
        for request in every
        if request is newest or request.pulled_at is None or request.pulled_at >= newest.since
    ]
    failure = _newest([request.failure for request in every if request.failure])
    pulled_at = max((request.pulled_at for request in every if request.pulled_at is not None), default=None)
    if running or (failure and pulled_at is not None and pulled_at < failure.at):
        # Either the image must be pulled again, or a pod is still in back-off although the image is now present.
        pulled_at = None
    pods = [pod.correlation(item) for key, pod, item in waiters if pulled_at is None or key in requests]
    return ImageDemand(
        node=node,
        image=image,
        pods=tuple(pods + [request.pod for request in others if request.pulled_at is None]),
        waited=tuple(request.pod for request in others if request.pulled_at is not None and request in current),
        assumed=all(request.is_assumed for request in every),
        starts=starts,
        abandoned=not wanted and not waiters,
        awaited=len(pods) < len(waiters),
        since=newest.since,
        pulling=bool(running),
        failure=None if pulled_at is not None else failure,
        pulled_at=pulled_at,
        attempt=max(request.attempt for request in current),
        since_exact=newest.since_exact,
        pull_seconds=max((request.facts.seconds or 0.0 for request in current), default=0.0) or None,
        image_bytes=max((request.facts.image_bytes or 0 for request in current), default=0) or None,
    )


def _newest(failures: Sequence[Failure]) -> Failure | None:
    """Combine the failures of all pods into one: the newest failure, but with the highest attempt number, the earliest
    retry time and the earliest time of a first failure.
    """
    if not failures:
        return None
    newest = max(failures, key=lambda item: item.at)
    soonest = min((item.retry for item in failures if item.retry), default=None)
    first = min((item.first_at for item in failures if item.first_at is not None), default=None)
    attempt = max(item.attempt for item in failures)
    return replace(newest, attempt=attempt, retry=soonest, first_at=first)
