"""What a pod that cannot start looks like, and what one node's kubelet wants for all of its pods together.

PURE. Frozen values, made by ``pods.Cluster`` from pods and from ``requests.ImageRequest``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TypeAlias

from pulltrace.images import normalise
from pulltrace.server.kubernetes.attempts import Failure, ImageRequest
from pulltrace.server.kubernetes.errors import WAITING_REASONS, about
from pulltrace.server.kubernetes.objects import ContainerStatus, Kind, Pod, Waiting
from pulltrace.wire import PodCorrelation

# The kubelet's words for a container before its first try (kubelet_pods.go), and for none.
_NOT_CREATED = ("ContainerCreating", "PodInitializing", "")


@dataclass(frozen=True, slots=True)
class ImageDemand:
    """One image that containers on one node wait for, or failed to get, or just got."""

    node: str
    image: str
    """Normalised, ``pulltrace.images.normalise``."""
    pods: tuple[PodCorrelation, ...]
    since: float
    """When the kubelet said Pulling for the attempt that runs; otherwise when the container was first seen waiting."""
    pulling: bool
    """The kubelet said Pulling and has not yet said Pulled or Failed. It says so *before* the pull's turn comes."""
    failure: Failure | None
    """Stands until the image is there; a new attempt that starts leaves it, with ``pulling`` true."""
    pulled_at: float | None
    """The kubelet said Pulled, or the container started."""
    attempt: int = 1
    """Which attempt runs now, or ran last, from 1."""
    heard: bool = True
    """Events tell of it, so ``since`` is its beginning. Otherwise a status did, which comes late."""

    @property
    def asked(self) -> bool:
        """The kubelet was heard to ask for it. Otherwise the container may as well wait for a volume."""
        return self.pulling or self.failure is not None or self.pulled_at is not None


@dataclass(frozen=True, slots=True)
class WaitingContainer:
    """A container that was never created, or a volume made from an image.

    ``image`` as written in the pod, ``ref`` normalised.
    """

    name: str
    image: str
    ref: str
    kind: Kind
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class WaitingPod:
    """A pod on a node with containers that do not run yet, in the order in which the kubelet starts them."""

    namespace: str
    name: str
    uid: str
    owner: str | None
    node: str
    since: float
    """When the kubelet took it on, unix seconds."""
    containers: tuple[WaitingContainer, ...]

    def correlation(self, container: WaitingContainer) -> PodCorrelation:
        """The pod and one of its containers, as the wire tells them."""
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
    """The container was created at least once, or fails for a reason that comes after its image."""
    if not status or not status.state:
        return False
    waiting = status.state.waiting
    if not waiting:
        return status.state.running is not None or status.state.terminated is not None
    if waiting.reason in WAITING_REASONS:
        return False
    return bool(status.image_id) or waiting.reason not in _NOT_CREATED


def waiting_pod(pod: Pod, before: WaitingPod | None, now: float) -> WaitingPod | None:
    volumes = list(_waiting_volumes(pod))
    containers = list(volumes)
    for kind, spec, status in pod.containers():
        waiting = _waiting(status)
        if waiting:
            if any(_tells_of(waiting, volume.ref) for volume in volumes):
                waiting = Waiting()  # for the volume; its own image was not asked for yet
            containers.append(
                WaitingContainer(spec.name, spec.image, normalise(spec.image), kind, waiting.reason, waiting.message)
            )
    if not containers:
        return None
    started = pod.status.start_time if pod.status else None
    since = before.since if before else min(started.timestamp(), now) if started else now
    meta = pod.metadata
    return WaitingPod(meta.namespace, meta.name, meta.uid, pod.owner, pod.spec.node_name, since, tuple(containers))


def _waiting_volumes(pod: Pod) -> Iterator[WaitingContainer]:
    """Volumes whose image nobody got who mounts it. Their state is told by those containers' statuses."""
    for name, image, mounted_by in pod.image_volumes():
        ref = normalise(image)
        waiting = [waiting for status in mounted_by if (waiting := _waiting(status))]
        failed = next((item for item in waiting if _tells_of(item, ref)), None)
        if failed or (waiting and not any(map(has_image, mounted_by))):
            told = failed or Waiting()
            yield WaitingContainer(name, image, ref, "volume", told.reason, told.message)


def _waiting(status: ContainerStatus | None) -> Waiting | None:
    """Why the container was never created; None when it was, or nothing is told of it."""
    return status.state.waiting if status and status.state and not has_image(status) else None


def _tells_of(waiting: Waiting, ref: str) -> bool:
    """This image could not be had, the status says. containerd quotes the normalised reference."""
    if waiting.reason not in WAITING_REASONS:
        return False
    image = about(waiting.message)[0]
    return normalise(image) == ref if image else f'"{ref}"' in waiting.message


Waiters: TypeAlias = Sequence[tuple[str, WaitingPod, WaitingContainer]]
"""Containers that wait for one image, each with its pod and the pod's key."""


def not_requested(node: str, image: str, waiters: Waiters, *, pulling: bool) -> ImageDemand:
    """A want of which the kubelet was not yet heard."""
    pods = tuple(pod.correlation(item) for _, pod, item in waiters)
    since = min(pod.since for _, pod, _ in waiters)
    return ImageDemand(node, image, pods, since, pulling, failure=None, pulled_at=None)


def begun(requests: Mapping[str, ImageRequest]) -> float:
    """When, by the node's clock, the kubelet began to want the image: for attempts that run, or else for all."""
    every = requests.values()
    return min(request.started for request in [request for request in every if request.pulling] or every)


def merge(node: str, image: str, requests: Mapping[str, ImageRequest], waiters: Waiters) -> ImageDemand:
    """All pods of one node that ask for one image are one want: the node pulls it once for all of them."""
    pods = [pod.correlation(item) for _, pod, item in waiters]
    waiting = {key for key, _, _ in waiters}
    pods += [request.pod for key, request in requests.items() if key not in waiting]
    every = list(requests.values())
    running = [request for request in every if request.pulling]
    # Who asked first of those that ask now, for whom it has been under way; or else who asked last.
    newest = min(running, key=attrgetter("since")) if running else max(every, key=attrgetter("since"))
    failure = _newest([request.failure for request in every if request.failure])
    pulled_at = max((request.pulled_at for request in every if request.pulled_at is not None), default=None)
    if running or (failure and pulled_at is not None and pulled_at < failure.at):
        pulled_at = None  # it is wanted again; otherwise who still backs off will find it there
    return ImageDemand(
        node=node,
        image=image,
        pods=tuple(pods),
        since=newest.since,
        pulling=bool(running),
        failure=None if pulled_at is not None else failure,
        pulled_at=pulled_at,
        attempt=max(request.attempt for request in every),
        heard=newest.heard,
    )


def _newest(failures: Sequence[Failure]) -> Failure | None:
    """The newest failure, with the most attempts of any pod, and the soonest next try of any."""
    if not failures:
        return None
    newest = max(failures, key=lambda item: item.at)
    soonest = min((item.next_retry_at for item in failures if item.next_retry_at is not None), default=None)
    return replace(newest, attempt=max(item.attempt for item in failures), next_retry_at=soonest)
