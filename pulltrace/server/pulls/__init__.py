"""Maintain the state of all pulls: merge the agents' reports, join them with the pods, and publish the result."""
