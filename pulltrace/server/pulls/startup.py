"""The start-up phases of pods, from scheduling until all containers are running. Sans-I/O.

The times come from the watched pods and events and from the pulls that agents report. Every instant of a start-up
belongs to exactly one phase, so a pod's phases add up to its start-up time. ``docs/kubernetes.md`` describes the
phases.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from pulltrace.images import normalise
from pulltrace.server.kubernetes.errors import about
from pulltrace.server.kubernetes.objects import Change, ContainerStatus, Event, EventSeen, Pod, PodGone, PodSeen
from pulltrace.server.models import PullStatus
from pulltrace.server.pulls.clocks import WHOLE_SECONDS
from pulltrace.server.pulls.node import Pull
from pulltrace.server.responses import PodStart, StartPhase, StartPhaseName
from pulltrace.wire import PullPhase, to_time

KEPT = 1800.0
"""How long, in seconds, a pod is listed after it has started."""
MAX_PODS = 5000
"""Maximum number of pods whose start-up is tracked at the same time. The oldest pods are dropped first."""
LONGEST = 24 * 3600.0
"""How long, in seconds, a waiting pod is considered to be starting."""

_EXPIRE_EVERY = 30.0
_REPORTED_WITHIN = 1.0
"""Maximum time, in seconds, between the end of a pull and the time in the kubelet's event. The event's time is in whole
seconds.
"""
_TOOK = re.compile(r" in (\S+) \((\S+) including waiting\)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|µs|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6}
_PRIORITY = (StartPhaseName.PULLING, StartPhaseName.UNPACKING, StartPhaseName.QUEUED)


@dataclass(slots=True)
class _Image:
    """One image of a pod, with the times at which its pull was announced, started, received its last byte and ended.

    Times are in Unix seconds.
    """

    announced_at: float | None = None
    began_at: float | None = None
    unpacking_at: float | None = None
    ended_at: float | None = None
    present_at: float | None = None
    """When the kubelet reported that the image is present."""

    def spans(self, now: float) -> Iterator[tuple[float, float, StartPhaseName]]:
        """Yield the parts of the pull, each with its start, end and phase. There are no gaps between the parts."""
        if self.announced_at is None:
            return
        end = now if self.present_at is None else self.present_at
        pulled = end if self.ended_at is None else max(self.ended_at, self.announced_at)
        if self.ended_at is not None and end - pulled <= _REPORTED_WITHIN:
            end = pulled
        began = min(max(self.began_at, self.announced_at), pulled) if self.began_at is not None else None
        if began is None and self.present_at is not None:
            began = self.announced_at  # no agent observed when the pull began
        yield self.announced_at, end if began is None else began, StartPhaseName.QUEUED
        if began is not None:
            unpacking = pulled if self.unpacking_at is None else min(max(self.unpacking_at, began), pulled)
            yield began, unpacking, StartPhaseName.PULLING
            yield unpacking, pulled, StartPhaseName.UNPACKING
            # The image has been pulled for another pod, but the kubelet's call to the runtime for this pod is still
            # queued.
            yield pulled, end, StartPhaseName.QUEUED


@dataclass(slots=True)
class _Pod:
    namespace: str
    name: str
    uid: str
    node: str
    owner: str | None
    scheduled_at: float
    images: dict[str, _Image] = field(default_factory=dict)
    first_run_at: float | None = None
    started_at: float | None = None
    """When the last of the pod's app containers first ran; None until all app containers have run."""
    restarted: bool = False

    def phases(self, now: float) -> list[StartPhase]:
        """Return the time the pod spent in each phase until it started or, if it has not started, until now."""
        end = now if self.started_at is None else self.started_at
        spans = [
            (max(start, self.scheduled_at), min(stop, end), phase)
            for image in self.images.values()
            for start, stop, phase in image.spans(now)
        ]
        known = [image.announced_at or image.present_at for image in self.images.values()]
        requested = min((at for at in known if at is not None), default=end)
        marks = {self.scheduled_at, end, requested, self.first_run_at or end}
        marks.update(mark for start, stop, _ in spans if start < stop for mark in (start, stop))
        edges = sorted(mark for mark in marks if self.scheduled_at <= mark <= end)
        found: dict[StartPhaseName, tuple[float, float]] = {}
        last = StartPhaseName.SCHEDULED
        for start, stop in pairwise(edges):
            running = {phase for first, after, phase in spans if first <= start and stop <= after}
            last = next((phase for phase in _PRIORITY if phase in running), self._between(start, requested))
            began, seconds = found.get(last, (start, 0.0))
            found[last] = began, seconds + stop - start
        return [
            StartPhase(
                phase=phase,
                started_at=to_time(found[phase][0]),
                seconds=None if self.started_at is None and phase is last else round(found[phase][1], 3),
            )
            for phase in StartPhaseName
            if phase in found
        ]

    def _between(self, at: float, requested: float) -> StartPhaseName:
        if at < requested:
            return StartPhaseName.SCHEDULED
        ran = self.first_run_at is not None and at >= self.first_run_at
        return StartPhaseName.STARTED if ran else StartPhaseName.CREATED


class Startup:
    """Every pod that is starting or has recently started. ``born`` is the time when this server started."""

    def __init__(self, born: float) -> None:
        self.finished: list[list[StartPhase]] = []
        """The phases of pods that have started since the last call to ``take_finished``."""
        self.revision = 0
        """A number that increases whenever a pod starts."""
        self._born = born
        self._pods: dict[str, _Pod] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._expires_at = 0.0

    def apply(self, change: Change, now: float) -> None:
        """Process one change to a pod or an event."""
        match change:
            case PodSeen(pod):
                self._pod(pod, now)
            case PodGone(key):
                self._drop(key)
            case EventSeen(event):
                self._event(event)
            case _:
                pass

    def observe(self, status: PullStatus, pull: Pull | None) -> None:
        """Record the times of an observed pull for the pods that are waiting for its image."""
        if pull is None:
            return
        for waiting in (*(status.pods or ()), *(status.waited or ())):
            pod = self._pods.get(self._names.get((waiting.namespace, waiting.pod_name), ""))
            if pod is None or pod.started_at is not None:
                continue
            image = pod.images.setdefault(normalise(waiting.image), _Image())
            if image.present_at is not None and image.ended_at is not None:
                continue
            if image.began_at is None or status.attempt == 1:
                image.began_at = pull.started_at
            image.unpacking_at = pull.unpacking_at
            image.ended_at = pull.ended_at if pull.phase is PullPhase.COMPLETED else None

    def phases_of(self, namespace: str, name: str, now: float) -> list[StartPhase] | None:
        """Return the phases of a pod that is starting, or None if the phases are unknown."""
        pod = self._pods.get(self._names.get((namespace, name), ""))
        return pod.phases(now) if pod and pod.started_at is None else None

    def started(self, now: float) -> Iterator[PodStart]:
        """Yield the pods that have started in the last half hour, newest first."""
        found = [pod for pod in self._pods.values() if pod.started_at is not None and pod.started_at > now - KEPT]
        found.sort(key=lambda pod: (-(pod.started_at or 0.0), pod.namespace, pod.name))
        return (_wire(pod) for pod in found if _is_known(pod))

    def take_finished(self) -> list[list[StartPhase]]:
        """Return the phases of pods that have started since the last call."""
        finished, self.finished = self.finished, []
        return finished

    def expire(self, now: float) -> None:
        """Drop pods that started more than half an hour ago. If there are still too many pods, drop the oldest ones as
        well.
        """
        if now < self._expires_at and len(self._pods) <= MAX_PODS:
            return
        self._expires_at = now + _EXPIRE_EVERY
        for key, pod in list(self._pods.items()):
            if len(self._pods) <= MAX_PODS and (pod.started_at or pod.scheduled_at + LONGEST) > now - KEPT:
                continue
            self._drop(key)

    def _pod(self, pod: Pod, now: float) -> None:
        key, status = pod.key, pod.status
        if not pod.spec.node_name or not status or pod.metadata.deletion_timestamp:
            self._drop(key)
            return
        known = self._pods.get(key)
        if known and known.started_at is not None:
            return
        starts = list(_starts(pod))
        ran = [at for at in starts if at is not None]
        started_at = max(ran) if ran and len(ran) == len(starts) else None
        if known is None:
            scheduled = pod.scheduled_at
            if scheduled is None or scheduled < now - LONGEST or (started_at or now) < now - KEPT:
                return
            meta = pod.metadata
            known = _Pod(meta.namespace, meta.name, meta.uid, pod.spec.node_name, pod.owner, scheduled)
            known.restarted = any(item.restart_count for _, _, item in pod.containers() if item)
            self._pods[key], self._names[meta.namespace, meta.name] = known, key
        known.first_run_at = min((at for _, _, item in pod.containers() if (at := _ran_at(item))), default=None)
        if started_at is None:
            return
        known.started_at = max(started_at, known.scheduled_at)
        self.revision += 1
        if started_at >= self._born and _is_known(known):
            self.finished.append(known.phases(now))

    def _event(self, event: Event) -> None:
        pod = self._pods.get(event.involved_object.uid)
        image, _ = about(event.message)
        at = event.at
        if pod is None or not image or at is None or pod.started_at is not None:
            return
        known = pod.images.setdefault(normalise(image), _Image())
        if event.reason == "Pulling" and known.announced_at is None:
            known.announced_at = event.first_at or at  # an earlier event may have arrived before the pod
        elif event.reason == "Pulled":
            known.present_at = at
            if took := _TOOK.search(event.message):
                announced = at - _seconds(took[2])
                if known.announced_at is None or abs(announced - known.announced_at) < WHOLE_SECONDS:
                    known.announced_at = announced  # more precise than the event's time
                known.began_at = known.began_at or at - _seconds(took[1])

    def _drop(self, key: str) -> None:
        pod = self._pods.pop(key, None)
        if pod:
            self._names.pop((pod.namespace, pod.name), None)


def _starts(pod: Pod) -> Iterable[float | None]:
    """For each app container of the pod, yield the time at which it first ran, or None if it has not run yet."""
    for kind, _, status in pod.containers():
        if kind == "app":
            yield _ran_at(status)


def _ran_at(status: ContainerStatus | None) -> float | None:
    for state in (status and status.last_state, status and status.state):
        ran = state and (state.running or state.terminated)
        if ran and ran.started_at:
            return ran.started_at.timestamp()
    return None


def _is_known(pod: _Pod) -> bool:
    """Return whether the pod's phases are known. They are known if the kubelet has reported an image as present and no
    container has restarted.
    """
    return not pod.restarted and any(image.present_at is not None for image in pod.images.values())


def _seconds(text: str) -> float:
    """Parse a duration in Go's notation, such as ``1m2.5s``."""
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))


def _wire(pod: _Pod) -> PodStart:
    started_at = pod.started_at or 0.0
    return PodStart(
        namespace=pod.namespace,
        pod_name=pod.name,
        node_name=pod.node,
        scheduled_at=to_time(pod.scheduled_at),
        started_at=to_time(started_at),
        seconds=round(started_at - pod.scheduled_at, 3),
        phases=pod.phases(started_at),
        uid=pod.uid,
        owner=pod.owner,
    )
