"""How long tests wait for other processes."""

PATIENCE = 180.0
"""Maximum time, in seconds, to wait for a condition that depends on a different process. A wait ends as soon as its
condition is true, so only a failing test waits this long, even on a busy machine.
"""
