"""gRPC stubs of the CRI's ImageService, with which tests pull like the kubelet. pulltrace.agent.containerd_api contains
the same kind of stubs.
"""
