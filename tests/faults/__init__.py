"""Faults injected into real processes: the server, the agent, and the programs that they communicate with."""
