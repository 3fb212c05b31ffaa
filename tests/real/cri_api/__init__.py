"""The CRI's ImageService, used by tests to pull as the kubelet pulls. Stubs as in pulltrace.agent.containerd_api."""
