"""The server: merges the reports of all nodes, and serves the API, the event stream, the dashboard and the metrics."""
