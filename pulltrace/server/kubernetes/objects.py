"""Pods and events in the API server's JSON, reduced to the fields that are used, and the changes that a watch reports.
Sans-I/O.

msgspec decodes JSON directly into these classes, so unused fields never occupy memory. The API server writes ``null``
for empty lists and times, so many fields may be None.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

Kind: TypeAlias = Literal["init", "app", "ephemeral", "volume"]
MAX_CONTAINERS = 256
"""Maximum number of containers to examine per pod. The API server accepts pods with thousands of containers."""

MAX_IMAGE_VOLUMES = 64
"""Maximum number of image volumes to examine per pod."""

Instant: TypeAlias = Annotated[datetime, Meta(tz=True)]


class _Object(Struct, rename="camel", frozen=True, gc=False):
    """The base class of all JSON objects.

    The classes set ``gc=False``, because decoded objects do not form reference cycles.
    """


class OwnerReference(_Object, frozen=True, gc=False):
    """The owner of a pod."""

    kind: str
    name: str
    controller: bool | None = None


class Labels(_Object, frozen=True, gc=False):
    """An object's labels, reduced to the only one that the server uses."""

    pod_template_hash: str = field(name="pod-template-hash", default="")


class Annotations(_Object, frozen=True, gc=False):
    """An object's annotations, reduced to the only one that the server uses. On a mirror pod, it contains the uid that
    the kubelet uses for the static pod.
    """

    mirror: str = field(name="kubernetes.io/config.mirror", default="")


class Metadata(_Object, frozen=True, gc=False):
    """The metadata of an object."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: Labels | None = None
    annotations: Annotations | None = None
    owner_references: list[OwnerReference] | None = None
    creation_timestamp: Instant | None = None
    deletion_timestamp: Instant | None = None


class VolumeMount(_Object, frozen=True, gc=False):
    """One of a container's volume mounts."""

    name: str


class ContainerSpec(_Object, frozen=True, gc=False):
    """A container in the pod's specification."""

    name: str
    image: str = ""
    volume_mounts: list[VolumeMount] | None = None


class ImageSource(_Object, frozen=True, gc=False):
    """The image that an image volume mounts."""

    reference: str = ""


class Volume(_Object, frozen=True, gc=False):
    """A volume in the pod's specification."""

    name: str
    image: ImageSource | None = None


class PodSpec(_Object, frozen=True, gc=False):
    """The pod's specification."""

    node_name: str = ""
    init_containers: list[ContainerSpec] | None = None
    containers: list[ContainerSpec] | None = None
    ephemeral_containers: list[ContainerSpec] | None = None
    volumes: list[Volume] | None = None


class Waiting(_Object, frozen=True, gc=False):
    """The reason why a container is not running yet."""

    reason: str = ""
    message: str = ""


class Run(_Object, frozen=True, gc=False):
    """A container that is running or has run."""

    started_at: Instant | None = None


class ContainerState(_Object, frozen=True, gc=False):
    """The state of a container; exactly one of the three fields is set."""

    waiting: Waiting | None = None
    running: Run | None = None
    terminated: Run | None = None


class ContainerStatus(_Object, frozen=True, gc=False):
    """A container's status, as reported by the kubelet.

    ``image_id`` is empty until the container is created for the first time.
    """

    name: str
    state: ContainerState | None = None
    image_id: str = field(name="imageID", default="")
    last_state: ContainerState | None = None
    restart_count: int = 0


class Condition(_Object, frozen=True, gc=False):
    """A condition of a pod, such as ``PodScheduled``."""

    type: str
    status: str = ""
    last_transition_time: Instant | None = None


class PodStatus(_Object, frozen=True, gc=False):
    """The pod's status, as reported by the kubelet.

    ``start_time`` is the time when the kubelet accepted the pod, before any pull.
    """

    phase: str = ""
    start_time: Instant | None = None
    conditions: list[Condition] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    container_statuses: list[ContainerStatus] | None = None
    ephemeral_container_statuses: list[ContainerStatus] | None = None


class Pod(_Object, frozen=True, gc=False):
    """A pod (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/)."""

    metadata: Metadata
    spec: PodSpec
    status: PodStatus | None = None

    @property
    def key(self) -> str:
        """The pod's uid, as used in kubelet events. For a static pod, this uid differs from the mirror pod's uid in the
        API.
        """
        annotations = self.metadata.annotations
        return (annotations and annotations.mirror) or self.metadata.uid

    @property
    def owner(self) -> str | None:
        """The owner, in the form ``Deployment/web``.

        A ReplicaSet that belongs to a Deployment is recognised by its name.
        """
        for reference in self.metadata.owner_references or ():
            if reference.controller:
                labels = self.metadata.labels
                suffix = f"-{labels.pod_template_hash}" if labels and labels.pod_template_hash else ""
                if reference.kind == "ReplicaSet" and suffix and reference.name.endswith(suffix):
                    return f"Deployment/{reference.name.removesuffix(suffix)}"
                return f"{reference.kind}/{reference.name}"
        return None

    @property
    def scheduled_at(self) -> float | None:
        """Return the time at which the pod was bound to its node, in Unix seconds. If this time is unknown, return the
        time at which the kubelet accepted the pod.
        """
        if self.status is None:
            return None
        times = [item.last_transition_time for item in self.status.conditions or () if item.type == "PodScheduled"]
        at = next((time for time in times if time), self.status.start_time)
        return at.timestamp() if at else None

    def containers(self) -> Iterator[tuple[Kind, ContainerSpec, ContainerStatus | None]]:
        """Yield the containers in the order in which the kubelet starts them. Each container is paired with its status,
        or with None if the pod does not have a status for it yet.
        """
        return islice(self._every_container(), MAX_CONTAINERS)

    def _every_container(self) -> Iterator[tuple[Kind, ContainerSpec, ContainerStatus | None]]:
        spec, status = self.spec, self.status or PodStatus()
        groups: tuple[tuple[Kind, list[ContainerSpec] | None, list[ContainerStatus] | None], ...] = (
            ("init", spec.init_containers, status.init_container_statuses),
            ("app", spec.containers, status.container_statuses),
            ("ephemeral", spec.ephemeral_containers, status.ephemeral_container_statuses),
        )
        for kind, specs, statuses in groups:
            by_name = {item.name: item for item in statuses or ()}
            for container in specs or ():
                yield kind, container, by_name.get(container.name)

    def image_volumes(self) -> Iterator[tuple[str, str, list[ContainerStatus | None]]]:
        """Yield each image volume's name and image, and the statuses of the containers that mount the volume.

        The kubelet pulls the images of volumes before any container images.
        """
        volumes = ((item.name, item.image.reference) for item in self.spec.volumes or () if item.image)
        named = list(islice(((name, image) for name, image in volumes if image), MAX_IMAGE_VOLUMES))
        if not named:
            return
        mounted: dict[str, list[ContainerStatus | None]] = {name: [] for name, _ in named}
        for _, spec, status in self.containers():
            for name in {mount.name for mount in spec.volume_mounts or ()} & mounted.keys():
                mounted[name].append(status)
        for name, image in named:
            yield name, image, mounted[name]


class InvolvedObject(_Object, frozen=True, gc=False):
    """The object to which an event refers; ``field_path`` has the form ``spec.containers{web}``."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    field_path: str = ""


class EventSource(_Object, frozen=True, gc=False):
    """The component that sent an event. ``host`` is the kubelet's node name."""

    component: str = ""
    host: str = ""


class EventSeries(_Object, frozen=True, gc=False):
    """The series of an event in the newer API: its count and the time of the last occurrence."""

    count: int = 0
    last_observed_time: Instant | None = None


class Event(_Object, frozen=True, gc=False):
    """A core/v1 event. When an event recurs, the kubelet updates the event's count and time. In the newer API, the
    event's series contains the count and the time.
    """

    metadata: Metadata
    involved_object: InvolvedObject
    reason: str = ""
    message: str = ""
    source: EventSource | None = None
    count: int | None = None
    first_timestamp: Instant | None = None
    last_timestamp: Instant | None = None
    event_time: Instant | None = None
    series: EventSeries | None = None
    reporting_instance: str = ""

    @property
    def at(self) -> float | None:
        """Return the time of the event's last occurrence, by the node's clock, in Unix seconds. Current kubelets write
        whole seconds.
        """
        latest = (
            (self.series and self.series.last_observed_time)
            or self.last_timestamp
            or self.event_time
            or self.first_timestamp
            or self.metadata.creation_timestamp
        )
        return latest.timestamp() if latest else None

    @property
    def first_at(self) -> float | None:
        """Return the time of the event's first occurrence, by the node's clock, or None if the event does not contain
        this time.
        """
        return self.first_timestamp.timestamp() if self.first_timestamp else None

    @property
    def times(self) -> int:
        """Return how many times the event has occurred, at least 1."""
        return max((self.series and self.series.count) or self.count or 1, 1)

    @property
    def node(self) -> str:
        """The node whose kubelet emitted the event, or an empty string."""
        return (self.source and self.source.host) or self.reporting_instance


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod was listed, added or modified."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class PodGone:
    """A pod was deleted, or it has finished and is no longer selected by the watch.

    ``key`` is the pod's ``Pod.key``.
    """

    key: str


@dataclass(frozen=True, slots=True)
class EventSeen:
    """An event. ``fresh`` is true if a watch has just reported it as added or updated, and false if it comes from a
    list.
    """

    event: Event
    fresh: bool


@dataclass(frozen=True, slots=True)
class PodsListed:
    """All pods in ``namespace`` (None means all namespaces) have been listed; pods that are not in ``keys`` no longer
    exist.
    """

    namespace: str | None
    keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class EventsHeard:
    """Whether the events in ``namespace`` (None means all namespaces) can be read. Events are assumed to be readable
    until the first ``EventsHeard`` arrives.
    """

    namespace: str | None
    heard: bool


@dataclass(frozen=True, slots=True)
class EventsExpected:
    """The server is about to list the events in ``namespace`` (None means all namespaces) for the first time."""

    namespace: str | None


Change: TypeAlias = PodSeen | PodGone | EventSeen | PodsListed | EventsHeard | EventsExpected
