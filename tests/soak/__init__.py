"""Hours compressed: the demo's load on real processes, with faults drawn from a seed and invariants held all the time."""
