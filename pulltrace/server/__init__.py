"""The server: merges the reports of all nodes and serves API, stream, dashboard and metrics."""
