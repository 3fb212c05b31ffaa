"""The server merges the reports from all nodes and serves the API, the event stream, the dashboard and the metrics."""
