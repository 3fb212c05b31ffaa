"""Pulltrace with a real kubelet: its API, metrics and log lines compared with the kubelet's own log."""
