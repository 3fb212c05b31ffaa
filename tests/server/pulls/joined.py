"""A simulated hub that combines agents' reports with the pods and events of a cluster."""

from pulltrace.demo.pod_events import PodEvents, pod
from pulltrace.server.kubernetes.cluster import Cluster
from pulltrace.server.pulls.views import pods_waiting
from tests.server.build import NOW, SimulatedHub

UNSEEN = {"registry": None, "repository": None, "image_ref": "__pulling__", "total_known": False}


class Joined(SimulatedHub):
    """A simulated hub that also watches a cluster."""

    def __init__(self, **more):
        self.cluster = Cluster()
        super().__init__(cluster=self.cluster, **more)
        self.hub._agents_due = float("inf")  # an agent may report at any time

    def apply(self, *changes, at):
        self.at(at)
        for change in changes:
            self.hub.touch(self.cluster.apply(change, self.now))
        self.hub.tick(self.now)

    @property
    def waiting(self):
        return list(pods_waiting(self.cluster.waiting(), self.hub.feed.pulls(), self.now))


def web(name="web-1", image="nginx:1.27", node="node-1", **more):
    return PodEvents(pod(name, node, {"app": image}, at=NOW, **more))
