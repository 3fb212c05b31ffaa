"""A soak test: real processes under the demo's load, random faults that a seed selects, and invariants that always
hold.
"""
