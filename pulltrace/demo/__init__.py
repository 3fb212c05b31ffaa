"""A simulated cluster. Each simulated node has a kubelet and a containerd with a real gRPC server. The simulation needs
neither a real cluster nor root privileges.

``grpc_server``, ``apiserver`` and ``run`` do I/O; all other modules are sans-I/O. Tests run the same simulated nodes in
virtual time.
"""
