"""Pods and events as the API server sends them, only the fields that are used, and the changes that a watch reports.

Sans-I/O. msgspec decodes JSON straight into these, so the other fields never exist in memory. The API server's Go
writes ``null`` for empty lists and times, hence the many Nones.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

Kind: TypeAlias = Literal["init", "app", "ephemeral", "volume"]
MAX_CONTAINERS = 256
"""Containers of one pod that are looked at. The API server accepts thousands."""

MAX_IMAGE_VOLUMES = 64
"""Image volumes of one pod that are looked at."""

Instant: TypeAlias = Annotated[datetime, Meta(tz=True)]


class _Object(Struct, rename="camel", frozen=True, gc=False):
    """One JSON object. ``gc=False``: decoded trees have no cycles, the collector need not look at them."""


class OwnerReference(_Object, frozen=True, gc=False):
    """The owner of a pod."""

    kind: str
    name: str
    controller: bool | None = None


class Labels(_Object, frozen=True, gc=False):
    """The one label read."""

    pod_template_hash: str = field(name="pod-template-hash", default="")


class Annotations(_Object, frozen=True, gc=False):
    """The one annotation read: the uid by which the kubelet knows a static pod, whose mirror has another."""

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
    """Where a container uses a volume."""

    name: str


class ContainerSpec(_Object, frozen=True, gc=False):
    """A container in the pod's specification."""

    name: str
    image: str = ""
    volume_mounts: list[VolumeMount] | None = None


class ImageSource(_Object, frozen=True, gc=False):
    """The image that a volume is made from."""

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
    """Why a container does not run yet."""

    reason: str = ""
    message: str = ""


class Run(_Object, frozen=True, gc=False):
    """A container that runs or has run."""

    started_at: Instant | None = None


class ContainerState(_Object, frozen=True, gc=False):
    """Exactly one of the three is set."""

    waiting: Waiting | None = None
    running: Run | None = None
    terminated: Run | None = None


class ContainerStatus(_Object, frozen=True, gc=False):
    """A container as its kubelet sees it. ``image_id`` is empty until the container was once created."""

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
    """The pod as its kubelet sees it. ``start_time``: when the kubelet took the pod on, before any pull."""

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
        """The uid that the kubelet's events name: of a static pod it is not that of its mirror in the API."""
        annotations = self.metadata.annotations
        return (annotations and annotations.mirror) or self.metadata.uid

    @property
    def owner(self) -> str | None:
        """The owner, ``Deployment/web``. A ReplicaSet of a Deployment is recognised by its name."""
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
        """When the pod was bound to its node, or else when the kubelet accepted it. Unix seconds."""
        if self.status is None:
            return None
        times = [item.last_transition_time for item in self.status.conditions or () if item.type == "PodScheduled"]
        at = next((time for time in times if time), self.status.start_time)
        return at.timestamp() if at else None

    def containers(self) -> Iterator[tuple[Kind, ContainerSpec, ContainerStatus | None]]:
        """Yield containers in the order in which the kubelet starts them, each with its status if there is one."""
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
        """Yield volumes made from images: name, image, and the statuses of the containers that mount it.

        The kubelet pulls them before any container's image.
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
    """What an event is about; ``field_path`` like ``spec.containers{web}``."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    field_path: str = ""


class EventSource(_Object, frozen=True, gc=False):
    """The sender of an event. ``host`` is the kubelet's node name."""

    component: str = ""
    host: str = ""


class EventSeries(_Object, frozen=True, gc=False):
    """How often, in events written with the newer API."""

    count: int = 0
    last_observed_time: Instant | None = None


class Event(_Object, frozen=True, gc=False):
    """A core/v1 event. If it recurs, the kubelet updates its count and its time; newer events have a series."""

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
        """When it happened last, by the node's clock, unix seconds; whole seconds in events of today's kubelets."""
        latest = (
            (self.series and self.series.last_observed_time)
            or self.last_timestamp
            or self.event_time
            or self.first_timestamp
            or self.metadata.creation_timestamp
        )
        return latest.timestamp() if latest else None

    @property
    def times(self) -> int:
        """How often it happened, at least 1."""
        return max((self.series and self.series.count) or self.count or 1, 1)

    @property
    def node(self) -> str:
        """The node whose kubelet emitted it, or nothing."""
        return (self.source and self.source.host) or self.reporting_instance


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod was listed, added or modified."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class PodGone:
    """A pod was deleted, or left the watch's selection (finished). ``key`` as in ``Pod.key``."""

    key: str


@dataclass(frozen=True, slots=True)
class EventSeen:
    """An event was listed (``fresh`` false), or just added or updated."""

    event: Event
    fresh: bool


@dataclass(frozen=True, slots=True)
class PodsListed:
    """A list of pods is complete: pods of ``namespace`` (None: of all) that are not among ``keys`` are gone."""

    namespace: str | None
    keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class EventsHeard:
    """Whether events of ``namespace`` (None: of all) can be read; assumed until this reports otherwise."""

    namespace: str | None
    heard: bool


@dataclass(frozen=True, slots=True)
class EventsExpected:
    """Events of ``namespace`` (None: of all) are about to be listed for the first time."""

    namespace: str | None


Change: TypeAlias = PodSeen | PodGone | EventSeen | PodsListed | EventsHeard | EventsExpected
