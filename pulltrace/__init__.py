"""Pulltrace shows, live, every image that the nodes of a Kubernetes cluster are pulling.

The path of the data, from containerd to the browser::

    agent/poller               polls containerd every second
    agent/containerd           makes the gRPC calls and converts the responses to our types
    agent/attribution          finds the image that a lease is pulling
    agent/layers               derives the state of each layer
    agent/tracker              follows each pull from the first poll to its end
    agent/reporter             posts reports to the server
    server/api/reports         receives and validates reports
    server/pulls/hub           owns the state; every change passes through it
    server/pulls/inventory     merges the reports of all nodes
    server/kubernetes/watch    lists and watches pods and kubelet events
    server/kubernetes/cluster  derives which image each node needs, and which pods wait for it
    server/kubernetes/attempts counts the attempts to pull an image for a pod, and their failures
    server/pulls/image_names   determines which of these images a pull fetches
    server/pulls/correlation   assigns each pull, and the pods that wait for it, to an arrival
    server/pulls/arrival       follows one image on one node, attempt after attempt
    server/pulls/status        calculates the published figures: percentage, rate, stall, time left
    server/pulls/feed          numbers the changes; each client has a cursor
    server/pulls/batch         compresses changes once for all clients
    server/api/subscription    selects what one client has not received yet
    server/api/events          sends it to the client
    web/src/stream             receives the events in a worker
    web/src/wire               checks them
    web/src/store              keeps the current state of all pulls
    web/src/views              draws it

``docs/architecture.md`` shows the same list. A test sends a report through every Python module in this list.
"""

__version__ = "0.2.0"
