"""Hours compressed: the demo's load on real processes, faults drawn from a seed, and what must hold all the time."""
