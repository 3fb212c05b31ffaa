"""Real components for tests: a registry, a containerd, an API server, all private, on loopback and time-limited."""
