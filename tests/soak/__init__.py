"""The soak test runs real processes under the demo's load, causes random faults selected by a seed, and checks
invariants.
"""
