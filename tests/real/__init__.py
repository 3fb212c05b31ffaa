"""Real components for tests, such as a registry, a containerd and an API server. Each test run has its own components,
which run on loopback and are subject to time limits.
"""
