"""Track which pods are waiting for which images on which nodes, which pulls have failed, and when each will be retried.
Sans-I/O.

The cluster's state is derived from pods and kubelet events. ``Cluster.apply`` processes one change from a watch, and
returns the nodes whose visible state changed. ``Cluster.demands`` returns the images that one node's kubelet needs.
Only pods that are waiting for an image are stored.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence

from pulltrace.server.kubernetes.demand import ImageDemand, WaitingPod
from pulltrace.server.kubernetes.errors import about
from pulltrace.server.kubernetes.node_demands import UNSEEN_POD, Budget, NodeDemands, Outcome, Place
from pulltrace.server.kubernetes.objects import (
    Change,
    Event,
    EventSeen,
    EventsExpected,
    EventsHeard,
    Pod,
    PodGone,
    PodSeen,
    PodsListed,
)

CLOCK_TOLERANCE = 30.0
"""The maximum age, in seconds, of a new event when it arrives. If the event is older, or its time is in the future, the
node's clock is assumed to be wrong.
"""

EVENT_LATE = 100.0
"""Maximum delay, in seconds, of an event from a node whose clock is correct. Kubelets keep trying to reach the API
server for two minutes, and Pulltrace's own watch may have been interrupted. This delay must be shorter than ``LINGER``.
"""

MAX_DELETED = 50_000
"""Maximum number of deleted pods to remember in order to recognise late events about them."""

_REASONS = frozenset({"Pulling", "Pulled", "Failed", "BackOff", "InspectFailed", "ErrImageNeverPull"})


class Cluster:
    """The containers that are waiting for images, as reported by the API server.

    The hub owns this object, which is not thread-safe.
    """

    def __init__(self) -> None:
        self.revision = 0
        """A number that increases with every visible change."""
        self._nodes: dict[str, NodeDemands] = {}
        self._node_of: dict[str, str] = {}  # pod key → node, for every stored pod
        self._unreadable = set[str | None]()  # namespaces (None means all) whose events cannot be read
        self._expected = set[str | None]()  # namespaces (None means all) whose events are being listed
        self._deleted: dict[str, float] = {}  # key of each deleted pod → time of deletion, oldest first
        self._due: list[tuple[float, str, Place]] = []  # heap: when to examine each request again
        self._budget = Budget()

    @property
    def dropped(self) -> int:
        """How many image requests were dropped because the limit had been reached."""
        return self._budget.dropped

    def apply(self, change: Change, now: float) -> set[str]:
        """Process one change. Return the names of the nodes whose ``demands`` may have changed."""
        changed = self._apply(change, now)
        self.revision += bool(changed)
        return changed

    def _apply(self, change: Change, now: float) -> set[str]:
        match change:
            case PodSeen(pod):
                return self._take_pod(pod, now)
            case EventSeen(event, fresh):
                return self._take_event(event, fresh, now)
            case PodGone(key):
                return self._forget(key, now)
            case EventsExpected(namespace):
                self._expected.add(namespace)
                return set()
            case EventsHeard(namespace, heard):
                self._expected.discard(namespace)
                (self._unreadable.discard if heard else self._unreadable.add)(namespace)
                return set(self._nodes)
            case PodsListed(namespace, keys):
                nodes = self._nodes
                gone = [
                    key for key, name in self._node_of.items() if key not in keys and nodes[name].is_in(namespace, key)
                ]
                return set().union(*(self._forget(key, now) for key in gone))

    def expire(self, now: float) -> set[str]:
        """Forget requests for images that arrived a while ago, and requests from pods that never appeared.

        Return the nodes whose requests changed.
        """
        changed = set()
        while self._deleted and next(iter(self._deleted.values())) + UNSEEN_POD <= now:
            del self._deleted[next(iter(self._deleted))]
        while self._due and self._due[0][0] <= now:
            _, name, place = heapq.heappop(self._due)
            node = self._nodes.get(name)
            if node and self._took(node, place[1], node.expire(place, now)):
                changed.add(name)
        self.revision += bool(changed)
        return changed

    def demands(self, node: str) -> Sequence[ImageDemand]:
        """Return the images that a node's kubelet needs, in the order of the kubelet's requests.

        While the server is listing a namespace's events, the images of the pods in that namespace are omitted, because
        a pod's status does not contain the attempt number.
        """
        known = self._nodes.get(node)
        if not known:
            return ()
        demands = known.demands(self._unreadable)
        if not self._expected:
            return demands
        return [demand for demand in demands if not self._is_expected(demand)]

    def _is_expected(self, demand: ImageDemand) -> bool:
        waiting = {pod.namespace for pod in (*demand.pods, *demand.waited)}
        return None in self._expected or not self._expected.isdisjoint(waiting)

    def nodes(self) -> Iterable[str]:
        """Return the names of the nodes that need images."""
        return self._nodes.keys()

    def waiting(self) -> Iterator[WaitingPod]:
        """Yield every pod with containers that have never been created, in arbitrary order."""
        for node in self._nodes.values():
            yield from node.pods.values()

    def _take_pod(self, pod: Pod, now: float) -> set[str]:
        key, name = pod.key, pod.spec.node_name
        if not name or not key or pod.metadata.deletion_timestamp:  # a pod that is being deleted is no longer waiting
            return self._forget(key, now)
        # A static pod may keep its key when it moves to a different node.
        moved = self._forget(key, now) if self._node_of.get(key, name) != name else set()
        self._deleted.pop(key, None)
        node = self._nodes.get(name) or NodeDemands(name, self._budget)
        unheard = not self._unreadable.isdisjoint({None, pod.metadata.namespace})
        return moved | {name} if self._took(node, key, node.take_pod(pod, now, unheard=unheard)) else moved

    def _take_event(self, event: Event, fresh: bool, now: float) -> set[str]:
        raw, key = event.at, event.involved_object.uid
        name = self._node_of.get(key) or (event.node if fresh else "")
        # If a pod is no longer waiting, a listed event about the pod is outdated. If the pod was deleted, the only
        # event that still matters is one that reports the end of the pod's pull.
        if not name or raw is None or event.reason not in _REASONS or not about(event.message)[0]:
            return set()
        if key in self._deleted:
            node = self._nodes.get(name)
            ends = node is not None and fresh and event.reason in ("Pulled", "Failed")
            return {name} if node and ends and self._took(node, key, node.take_end(event, raw, now)) else set()
        node = self._nodes.get(name) or NodeDemands(name, self._budget)
        in_time = now - (EVENT_LATE if node.clock_right else CLOCK_TOLERANCE) <= raw
        at = min(raw, now) if in_time or not fresh else now
        outcome = node.take_event(event, raw, at, fresh=fresh)
        node.clock_right |= outcome.changed and fresh and in_time and raw <= now
        return {name} if self._took(node, key, outcome) else set()

    def _forget(self, key: str, now: float) -> set[str]:
        """Forget a deleted pod."""
        name = self._node_of.get(key)
        self._deleted.setdefault(key, now)
        if len(self._deleted) > MAX_DELETED:
            del self._deleted[next(iter(self._deleted))]
        if name is None:
            return set()
        node = self._nodes[name]
        return {name} if self._took(node, key, node.forget(key, now)) else set()

    def _took(self, node: NodeDemands, key: str, outcome: Outcome) -> bool:
        """Apply the result of a change to a pod on this node. Return whether anything visible has changed."""
        for due, place in outcome.due:
            heapq.heappush(self._due, (due, node.name, place))
        if node.knows(key):
            self._nodes[node.name] = node
            self._node_of[key] = node.name
            return outcome.changed
        self._node_of.pop(key, None)
        if node.is_empty:
            self._nodes.pop(node.name, None)
        return outcome.changed
