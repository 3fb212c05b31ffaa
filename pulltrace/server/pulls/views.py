"""The waiting pods of ``/pods`` and the rollouts of ``/images``, derived from the feed for each request. Sans-I/O."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from statistics import median
from typing import TypeAlias

from pulltrace.server.kubernetes.demand import WaitingContainer, WaitingPod
from pulltrace.server.models import ContainerWait, ImageRollout, PodWait, PullStatus, RolloutNodes, WaitState
from pulltrace.server.pulls.startup import Startup
from pulltrace.wire import PullPhase, to_time

_NOT_WAITED_FOR = (WaitState.WAITING, WaitState.COMPLETED)

_Key: TypeAlias = tuple[str, str, str, str]
"""Namespace, pod, container or volume, and the image as written: a volume and a container may have the same name."""


def pods_waiting(
    pods: Iterable[WaitingPod], pulls: Iterable[PullStatus], now: float, startup: Startup | None = None
) -> Iterator[PodWait]:
    """Yield the pods in which a container waits for an image that the kubelet has requested, starting with the longest
    wait.

    A container whose image has not been requested may be waiting for a volume instead. It is listed only if another
    container of its pod waits for an image.
    """
    by_container: dict[_Key, PullStatus] = {}
    for pull in pulls:
        for pod in (*(pull.pods or ()), *(pull.waited or ())):
            key = (pod.namespace, pod.pod_name, pod.container, pod.image)
            known = by_container.get(key)
            if known is None or known.started_at < pull.started_at:
                by_container[key] = pull
    for pod in sorted(pods, key=lambda pod: (pod.since, pod.namespace, pod.name)):
        row = _pod(pod, by_container, startup, now)
        if any(item.state not in _NOT_WAITED_FOR for item in row.containers):
            yield row


def count_waiting(pods: Iterable[WaitingPod], pulls: Iterable[PullStatus]) -> int:
    """Return the number of pods that ``pods_waiting`` yields."""
    wanted = {
        (pod.namespace, pod.pod_name, pod.container, pod.image)
        for pull in pulls
        if pull.status is not PullPhase.COMPLETED
        for pod in pull.pods or ()
    }
    return sum(any(_key(pod, item) in wanted for item in pod.containers) for pod in pods)


def count_slow_nodes(pulls: Iterable[PullStatus], since: datetime) -> dict[str | None, int]:
    """Count, by registry, the nodes with an unusually slow pull that is live or ended after ``since``."""
    nodes: dict[str | None, set[str]] = {}
    for pull in pulls:
        if pull.slower_than_usual and (pull.completed_at is None or pull.completed_at >= since):
            nodes.setdefault(pull.registry, set()).add(pull.node_name)
    return {registry: len(names) for registry, names in nodes.items()}


def rollouts(pulls: Iterable[PullStatus]) -> Iterator[ImageRollout]:
    """Yield one row per image, based on the newest pull on each node; unfinished rollouts are first."""
    images: dict[str, dict[str, PullStatus]] = {}
    for pull in pulls:
        nodes = images.setdefault(pull.image_ref, {})
        known = nodes.get(pull.node_name)
        if known is None or known.started_at < pull.started_at:
            nodes[pull.node_name] = pull
    for image in sorted(images, key=lambda image: (-_unfinished(images[image].values()), image)):
        yield _rollout(image, list(images[image].values()))


def _key(pod: WaitingPod, container: WaitingContainer) -> _Key:
    return pod.namespace, pod.name, container.name, container.image


def _pod(pod: WaitingPod, pulls: Mapping[_Key, PullStatus], startup: Startup | None, now: float) -> PodWait:
    containers = [_container(item, pulls.get(_key(pod, item))) for item in pod.containers]
    estimates = [item.eta_seconds for item in containers if item.state not in _NOT_WAITED_FOR]
    known = [eta for eta in estimates if eta is not None]
    eta = max(known) if known and len(known) == len(estimates) else None
    return PodWait(
        namespace=pod.namespace,
        pod_name=pod.name,
        node_name=pod.node,
        waiting_since=to_time(pod.since),
        containers=containers,
        uid=pod.uid,
        owner=pod.owner,
        eta_seconds=eta,
        ready_estimate=None if eta is None else to_time(now + eta),
        phases=startup.phases_of(pod.namespace, pod.name, now) if startup else None,
    )


def _container(container: WaitingContainer, pull: PullStatus | None) -> ContainerWait:
    if pull is None:
        state = WaitState.WAITING
        return ContainerWait(
            container=container.name,
            image=container.image,
            kind=container.kind,
            state=state,
            waiting_reason=container.reason or None,
        )
    return ContainerWait(
        container=container.name,
        image=container.image,
        kind=container.kind,
        state=WaitState(pull.status.value),
        waiting_reason=container.reason or None,
        pull_id=pull.id,
        percent=pull.percent,
        eta_seconds=pull.eta_seconds,
        error=pull.error,
        error_reason=pull.error_reason,
        next_retry_at=pull.next_retry_at,
    )


def _rollout(image: str, pulls: list[PullStatus]) -> ImageRollout:
    phases = [pull.status for pull in pulls]
    ended, queued = phases.count(PullPhase.COMPLETED), phases.count(PullPhase.QUEUED)
    unobserved = phases.count(PullPhase.UNOBSERVED)
    failed = phases.count(PullPhase.FAILED)
    # A pull to a node that already had the image does not show how long a download takes.
    took = [_seconds(pull) for pull in pulls if pull.status is PullPhase.COMPLETED and pull.downloaded_bytes]
    slowest = max(pulls, key=_need)
    return ImageRollout(
        image_ref=image,
        nodes=RolloutNodes(
            done=ended,
            pulling=len(pulls) - ended - queued - failed - unobserved,
            queued=queued,
            failed=failed,
            unobserved=unobserved,
        ),
        total_bytes=sum(pull.total_bytes for pull in pulls),
        image_bytes=max(pull.image_bytes for pull in pulls),
        registry=pulls[0].registry,
        repository=pulls[0].repository,
        slowest_node=slowest.node_name if len(pulls) > 1 else None,
        median_seconds=round(median(took), 3) if took else None,
        worst_seconds=max(took, default=None),
    )


def _need(pull: PullStatus) -> tuple[int, float]:
    """Return how much a node delays a rollout: failures count most, then the longest estimate, then the slowest
    pull.
    """
    if pull.status is PullPhase.FAILED:
        return 2, 0.0
    if pull.status is PullPhase.COMPLETED:
        return 0, _seconds(pull)
    return 1, float("inf") if pull.eta_seconds is None else pull.eta_seconds


def _seconds(pull: PullStatus) -> float:
    return (pull.completed_at - pull.started_at).total_seconds() if pull.completed_at else 0.0


def _unfinished(pulls: Iterable[PullStatus]) -> int:
    return sum(pull.status is not PullPhase.COMPLETED for pull in pulls)
