"""Tests of Pulltrace with a real kubelet. They compare Pulltrace's API, metrics and log lines with the kubelet's own
log.
"""
