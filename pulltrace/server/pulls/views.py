"""The waiting pods for ``/pods`` and the rollouts for ``/images``, derived from the feed on each request. Sans-I/O."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from statistics import median
from typing import TypeAlias

from pulltrace.server.kubernetes.demand import WaitingContainer, WaitingPod
from pulltrace.server.models import PullStatus
from pulltrace.server.pulls.startup import Startup
from pulltrace.server.responses import ContainerWait, ImageRollout, PodWait, RolloutNodes, WaitState
from pulltrace.wire import ErrorReason, PullPhase, to_time

_NOT_WAITED_FOR = (WaitState.WAITING, WaitState.COMPLETED)

_Key: TypeAlias = tuple[str, str, str, str]
"""The namespace, the pod's name, the name of the container or volume, and the image as written in the pod. The key
includes the image because a volume and a container may have the same name.
"""


def pods_waiting(
    pods: Iterable[WaitingPod], pulls: Iterable[PullStatus], now: float, startup: Startup | None = None
) -> Iterator[PodWait]:
    """Yield the pods in which a container is waiting for a requested image, starting with the longest wait.

    A container whose image has not been requested may be waiting for a volume instead. Such a container is listed only
    if another container of its pod is waiting for an image.
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
    """Return the number of pods that ``pods_waiting`` would yield."""
    wanted = {
        (pod.namespace, pod.pod_name, pod.container, pod.image)
        for pull in pulls
        if pull.status is not PullPhase.COMPLETED
        for pod in pull.pods or ()
    }
    return sum(any(_key(pod, item) in wanted for item in pod.containers) for pod in pods)


def count_slow_nodes(pulls: Iterable[PullStatus], since: datetime) -> dict[str | None, int]:
    """For each registry, count the nodes on which an unusually slow pull is running or ended after ``since``."""
    nodes: dict[str | None, set[str]] = {}
    for pull in pulls:
        if pull.slower_than_usual and (pull.completed_at is None or pull.completed_at >= since):
            nodes.setdefault(pull.registry, set()).add(pull.node_name)
    return {registry: len(names) for registry, names in nodes.items()}


def running(pulls: Iterable[PullStatus]) -> list[PullStatus]:
    """Return the running pulls in the same order as on the page (web/src/model/pullRows.ts). The page lists running
    pulls before all other pulls.

    Stalled pulls come first, followed by pulls that a pod is waiting for. Within each group, the newest pull comes
    first.
    """
    return sorted(
        filter(_is_running, pulls),
        key=lambda pull: (pull.stalled_since is None, not pull.pods, -pull.started_at.timestamp(), pull.id),
    )


def _is_running(pull: PullStatus) -> bool:
    """Return whether the pull is stalled or in progress. A retry that has not downloaded anything yet does not count,
    because the page lists it among the failed pulls.
    """
    if pull.status == "resolving" and pull.attempt > 1 and not pull.downloaded_bytes:
        return False
    return not pull.status.ended and (
        pull.stalled_since is not None or pull.status in ("resolving", "downloading", "extracting")
    )


def rollouts(pulls: Iterable[PullStatus]) -> Iterator[ImageRollout]:
    """Yield one row per image. Unfinished rollouts come first.

    Each node is counted according to its newest pull. The durations are those of all completed pulls.
    """
    images: dict[str, dict[str, PullStatus]] = {}
    completed: dict[str, list[PullStatus]] = {}
    live: dict[str, list[PullStatus]] = {}
    for pull in pulls:
        if not pull.status.ended:
            live.setdefault(pull.node_name, []).append(pull)
        if pull.status is PullPhase.COMPLETED:
            completed.setdefault(pull.image_ref, []).append(pull)
        nodes = images.setdefault(pull.image_ref, {})
        known = nodes.get(pull.node_name)
        if known is None or known.started_at < pull.started_at:
            nodes[pull.node_name] = pull
    for image in sorted(images, key=lambda image: (-_unfinished(images[image].values()), image)):
        yield _rollout(image, list(images[image].values()), completed.get(image, []), live)


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
        attempt=pull.attempt,
        failing_since=pull.failing_since,
    )


def _rollout(
    image: str, pulls: list[PullStatus], completed: list[PullStatus], live: Mapping[str, list[PullStatus]]
) -> ImageRollout:
    phases = [pull.status for pull in pulls]
    ended, queued = phases.count(PullPhase.COMPLETED), phases.count(PullPhase.QUEUED)
    unobserved = phases.count(PullPhase.UNOBSERVED)
    failed = phases.count(PullPhase.FAILED)
    # If a node already had the image, the duration of its pull does not indicate how long a download takes.
    took = [_seconds(pull) for pull in completed if pull.downloaded_bytes]
    slowest = max(pulls, key=lambda pull: _need(pull, live.get(pull.node_name, [])))
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
        completed_pulls=len(completed),
        slowest_node=slowest.node_name if len(pulls) > 1 else None,
        median_seconds=round(median(took), 3) if took else None,
        worst_seconds=max(took, default=None),
    )


def _need(pull: PullStatus, live: list[PullStatus]) -> tuple[int, float, bool]:
    """Return how much a node delays a rollout: failures count most, followed by the longest estimate and the slowest
    pull. A queued pull without an estimate is assumed to end later than a running pull. A cancelled pull that no pod is
    waiting for does not delay the rollout.

    ``live`` contains the live pulls of the node.
    """
    if pull.status is PullPhase.FAILED:
        is_needed = pull.error_reason is not ErrorReason.CANCELED or pull.pods
        return 2 if is_needed else -1, 0.0, False
    if pull.status is PullPhase.COMPLETED:
        return 0, _seconds(pull), False
    if pull.status is PullPhase.QUEUED:
        return 1, _queue_seconds(pull, live), True
    return 1, _estimate(pull), False


def _queue_seconds(pull: PullStatus, live: list[PullStatus]) -> float:
    """Return the number of seconds until the image of a queued pull is ready. The estimate assumes that the node
    continues to pull as many images at once as it does now, and that each pull takes its usual time
    (web/src/model/queue.ts).
    """
    ends = [_estimate(other) for other in live if other.status is not PullPhase.QUEUED]
    queue = sorted((other for other in live if other.status is PullPhase.QUEUED), key=_turn)
    end = 0.0
    for other in queue[: queue.index(pull) + 1]:
        ends.sort()
        end = (ends.pop(0) if ends else 0.0) + _estimate(other)
        ends.append(end)
    return end


def _turn(pull: PullStatus) -> tuple[datetime, str]:
    return pull.started_at, pull.id


def _estimate(pull: PullStatus) -> float:
    seconds = pull.usual_seconds if pull.status is PullPhase.QUEUED else pull.eta_seconds
    return float("inf") if seconds is None else seconds


def _seconds(pull: PullStatus) -> float:
    return (pull.completed_at - pull.started_at).total_seconds() if pull.completed_at else 0.0


def _unfinished(pulls: Iterable[PullStatus]) -> int:
    return sum(pull.status is not PullPhase.COMPLETED for pull in pulls)
