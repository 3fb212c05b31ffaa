"""A soak test: the demo's load on real processes, random faults from a seed, and invariants that always hold."""
