"""The state of all pulls: merge reports, join them with pods, publish the result."""
