"""Pulltrace shows, live, what every node of a Kubernetes cluster is pulling.

The way of the data, top to bottom::

    agent/containerd    asks what is being pulled
    agent/attribution   works out which image each blob belongs to, and each layer's state
    agent/tracker       follows pulls through time: start, progress, end
    agent/reporter      posts a Report
    server/routes       receives it
    server/pulls        merges every node's reports: rates, ETA, stalls, history
    server/kube         lists and watches pods and kubelet events
    server/pods         knows who waits for which image where, and what failed
    server/correlation  joins pulls and pods
    server/feed         numbers the changes; readers hold a cursor
    server/routes       streams them
    web/src/stream      receives, checks, stores
    web/src/components  draws
"""

__version__ = "0.2.0"
