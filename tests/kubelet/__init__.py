"""Tests with a real kubelet, which compare Pulltrace's API, metrics and log lines with the kubelet's own log."""
