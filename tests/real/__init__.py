"""Real parts for tests: a registry, a containerd, an API server, each private, on loopback and bounded in time."""
