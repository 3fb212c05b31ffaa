"""Real components for tests, such as a registry, a containerd and an API server. All components are private, run on
loopback, and have time limits.
"""
