"""Faults injected into real processes: `python -m pulltrace server` and `agent`, and the programs that they communicate
with.
"""
