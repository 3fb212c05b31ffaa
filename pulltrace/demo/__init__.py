"""A simulated cluster: nodes whose containerd answers over real gRPC, and a kubelet on each. No cluster, no root.

PURE: ``images``, ``registries``, ``node``, ``pull``, ``kubelet``, ``scenario``. EDGE: ``containerd``, ``cluster``,
``run``. The tests use the same nodes, step by step, in time of their own.
"""
