"""How long tests wait for other processes."""

PATIENCE = 180.0
"""A condition that depends on another process must become true within this many seconds. A wait ends as soon as its
condition is true, so only a failing test waits this long, even on a busy machine.
"""
