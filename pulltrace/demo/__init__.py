"""A simulated cluster: each node has a containerd with a real gRPC server, and a kubelet. It needs neither a real
cluster nor root privileges.

``grpc_server``, ``apiserver`` and ``run`` do I/O; all other modules are sans-I/O. Tests use the same nodes in virtual
time.
"""
