"""The half that hears all nodes, and tells the world."""
