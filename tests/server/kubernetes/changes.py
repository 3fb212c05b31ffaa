"""Build pod and event changes as the API server would send them."""

import msgspec

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes.objects import Event, EventSeen, Pod, PodSeen

T = 1_700_000_000.0
NGINX = "docker.io/library/nginx:1.27"
NOT_FOUND = (
    'rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/library/nginx:1.27": '
    'failed to resolve reference "docker.io/library/nginx:1.27": docker.io/library/nginx:1.27: not found'
)


def seen(arrival):
    """Return the change that a watch reports for a pod."""
    item = arrival.pod if isinstance(arrival, PodEvents) else arrival
    return PodSeen(msgspec.convert(item, Pod))


def event(item, *, fresh=True):
    """Return the change that a watch reports for an event."""
    return EventSeen(msgspec.convert(item, Event), fresh)


def web(name="web-1", **more):
    """Return a ``PodEvents`` for a pod on n1 that has one nginx container."""
    return PodEvents(pod(name, "n1", {"app": "nginx:1.27"}, at=T, **more))


def only(cluster, node="n1"):
    """Return the node's only image demand."""
    (demand,) = cluster.demands(node)
    return demand
