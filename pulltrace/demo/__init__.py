"""A simulated cluster: each node has a containerd with a real gRPC server, and a kubelet. The simulation needs neither
a real cluster nor root privileges.

``grpc_server``, ``apiserver`` and ``run`` do I/O. All other modules are sans-I/O. Tests use the same simulated nodes in
virtual time.
"""
