"""Pulltrace shows in real time which images the nodes of a Kubernetes cluster are pulling.

The path of the data, from containerd to the browser::

    agent/poller               polls containerd every second
    agent/containerd           makes the gRPC calls and converts the responses to our types
    agent/attribution          determines which image a lease's pull fetches
    agent/layers               derives the state of each layer
    agent/tracker              follows each pull from poll to poll
    agent/conclusion           decides how a pull ended
    agent/reporter             posts reports to the server
    server/api/reports         receives and validates reports
    server/pulls/hub           owns the state; every change passes through it
    server/pulls/inventory     merges the reports from all nodes
    server/kubernetes/watch    lists and watches pods and kubelet events
    server/kubernetes/cluster  derives which images each node needs, and which pods wait for them
    server/kubernetes/attempts counts the attempts to pull an image for a pod, and their failures
    server/pulls/image_names   determines which of these images a pull fetches
    server/pulls/correlation   assigns each pull, and the pods that wait for it, to an arrival
    server/pulls/matching      decides which attempt of the arrival the pull is
    server/pulls/arrival       follows one image on one node, attempt after attempt
    server/pulls/correction    corrects the times and the result of the pull, based on the kubelet's reports
    server/pulls/row           records who waits for the image, what is ahead of it in the queue, and earlier attempts
    server/pulls/status        calculates the published figures: percentage, rate, stall, time left
    server/pulls/analysis      adds what limits the pull (server/pulls/limiting), and whether it is slower than usual
    server/pulls/feed          numbers the changes; each client has a cursor
    server/pulls/batch         compresses changes once for all clients
    server/api/subscription    selects the changes that one client has not received yet
    server/api/events          sends these changes to the client
    web/src/stream             receives the events in a worker
    web/src/wire               validates the events
    web/src/store              keeps the current state of all pulls
    web/src/model              decides what the views show: order, groups, texts
    web/src/views              render the page from the parts in web/src/components

``docs/architecture.md`` shows the same list. A test sends a report through every Python module in this list.
"""

__version__ = "0.2.0"
