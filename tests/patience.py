"""How long tests wait for other processes."""

PATIENCE = 180.0
"""Maximum time, in seconds, until a condition that depends on another process must be true. A wait ends as soon as its
condition is true, so only a failing test waits this long, even on a busy machine.
"""
