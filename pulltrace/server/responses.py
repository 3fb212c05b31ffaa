"""The JSON objects that the server sends in response to ``GET /api/v1/…``: lists of pulls, nodes, pods and images.
Sans-I/O.

The classes follow the same rules as those in ``models``, which contains the pulls themselves.
"""

from enum import StrEnum

from pulltrace.server.models import PullStatus
from pulltrace.wire import ErrorReason, JsonObject, NodeLoad, Time


class PullList(JsonObject, frozen=True):
    """Response to ``GET /api/v1/pulls``."""

    pulls: list[PullStatus]


class NodeState(StrEnum):
    """The state of a node's agent: it reports on time, is late, or has stopped reporting. A conflict means that two
    agents use the same node name.
    """

    REPORTING = "reporting"
    LATE = "late"
    LOST = "lost"
    CONFLICT = "conflict"


class NodeStatus(JsonObject, frozen=True):
    """One node, as described by its agent's reports."""

    name: str
    state: NodeState
    last_seen: Time
    active_pulls: int
    bytes_per_sec: float
    agent_version: str = ""
    containerd_version: str = ""
    snapshotter: str = ""
    load: NodeLoad | None = None
    problem: str | None = None


class OwnerPulls(JsonObject, frozen=True):
    """One owner's number of pulls from one registry in the last hour."""

    owner: str
    pulls: int


class RegistryStatus(JsonObject, frozen=True):
    """One registry, with figures combined across all nodes.

    ``pulls_last_hour`` counts all finished attempts, including those for which every layer was cached, because
    registries count these as well. ``owners`` lists the owners with the most pulls.
    """

    registry: str
    active_pulls: int
    bytes_per_sec: float
    pulls_last_hour: int = 0
    owners: list[OwnerPulls] | None = None


class UnobservedNodes(JsonObject, frozen=True):
    """Nodes where pods are waiting for images but no agent is reporting. ``names`` contains the names of at most one
    hundred nodes.
    """

    count: int
    names: list[str]
    reason: str


class NodeList(JsonObject, frozen=True):
    """Response to ``GET /api/v1/nodes``."""

    nodes: list[NodeStatus]
    registries: list[RegistryStatus]
    unobserved: list[UnobservedNodes] | None = None


class RegistryThroughput(JsonObject, frozen=True):
    """The download rate from one registry in each step, in bytes per second. The oldest step comes first.

    ``downloaded_bytes`` counts the bytes that have arrived from the registry since the first step, including those of
    the current step. If ``registry`` is ``other``, the figures are the totals of all registries that have no entry of
    their own.
    """

    registry: str
    bytes_per_sec: list[float]
    downloaded_bytes: int


class ThroughputList(JsonObject, frozen=True):
    """Response to ``GET /api/v1/throughput``: the last ten minutes, divided into steps of ``step`` seconds. The first
    step begins at ``since``.

    ``completed``, ``failed`` and ``canceled`` count the attempts that have finished since ``since``.
    ``downloaded_bytes`` counts the bytes that have arrived since ``since``.
    """

    since: Time
    step: float
    registries: list[RegistryThroughput]
    completed: int
    failed: int
    canceled: int
    downloaded_bytes: int


class WaitState(StrEnum):
    """The state of the pull that a container is waiting for. ``waiting`` means that the kubelet has not requested the
    image.
    """

    WAITING = "waiting"
    QUEUED = "queued"
    UNOBSERVED = "unobserved"
    RESOLVING = "resolving"
    DOWNLOADING = "downloading"
    EXTRACTING = "extracting"
    COMPLETED = "completed"
    FAILED = "failed"


class ContainerWait(JsonObject, frozen=True):
    """A container that has not started, or an image volume that still needs its image.

    ``kind`` is init, app, ephemeral or volume. For a volume, ``container`` is the volume's name. All other fields
    describe the pull of the container's image.
    """

    container: str
    image: str
    kind: str
    state: WaitState
    waiting_reason: str | None = None
    pull_id: str | None = None
    percent: float | None = None
    eta_seconds: float | None = None
    error: str | None = None
    error_reason: ErrorReason | None = None
    next_retry_at: Time | None = None
    attempt: int = 1
    failing_since: Time | None = None


class StartPhaseName(StrEnum):
    """The phases of a pod's start-up, in order. ``docs/kubernetes.md`` describes the phases."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    PULLING = "pulling"
    UNPACKING = "unpacking"
    CREATED = "created"
    STARTED = "started"


class StartPhase(JsonObject, frozen=True):
    """The time a pod spent in one phase of its start-up. ``seconds`` is absent while the phase is in progress."""

    phase: StartPhaseName
    started_at: Time
    seconds: float | None = None


class PodStart(JsonObject, frozen=True):
    """A pod that started in the last half hour.

    The pod's phases add up to ``seconds``, the time from the pod's scheduling to the start of its last app container.
    """

    namespace: str
    pod_name: str
    node_name: str
    scheduled_at: Time
    started_at: Time
    seconds: float
    phases: list[StartPhase]
    uid: str = ""
    owner: str | None = None


class PodWait(JsonObject, frozen=True):
    """A pod that is waiting for at least one image. ``containers`` lists all of the pod's containers that have not
    started, in the order of the pod spec.

    ``eta_seconds`` is the longest remaining time among the pod's pulls. ``ready_estimate`` is the same estimate as a
    timestamp. If any of the pod's pulls has no estimate, ``eta_seconds`` and ``ready_estimate`` are absent.
    """

    namespace: str
    pod_name: str
    node_name: str
    waiting_since: Time
    containers: list[ContainerWait]
    uid: str = ""
    owner: str | None = None
    eta_seconds: float | None = None
    ready_estimate: Time | None = None
    phases: list[StartPhase] | None = None


class PodList(JsonObject, frozen=True):
    """Response to ``GET /api/v1/pods``. ``reason`` explains why the server cannot see pods or events.

    ``pods`` lists the pods that are waiting for an image. ``started`` lists the pods that started in the last half
    hour.
    """

    pods: list[PodWait]
    watching: bool
    reason: str | None = None
    started: list[PodStart] | None = None


class RolloutNodes(JsonObject, frozen=True):
    """The number of nodes in each state of a rollout."""

    done: int
    pulling: int
    queued: int
    failed: int
    unobserved: int = 0


class ImageRollout(JsonObject, frozen=True):
    """The rollout of one image across all nodes. Each node is counted according to its newest pull.

    ``completed_pulls`` counts all completed pulls that the server keeps. Durations are based only on the pulls that
    fetched at least one byte.

    ``total_bytes`` is the total number of bytes that all nodes have to fetch. ``image_bytes`` is the compressed size of
    the image.
    """

    image_ref: str
    nodes: RolloutNodes
    total_bytes: int
    image_bytes: int
    registry: str | None = None
    repository: str | None = None
    completed_pulls: int = 0
    slowest_node: str | None = None
    median_seconds: float | None = None
    worst_seconds: float | None = None


class ImageList(JsonObject, frozen=True):
    """Response to ``GET /api/v1/images``."""

    images: list[ImageRollout]
