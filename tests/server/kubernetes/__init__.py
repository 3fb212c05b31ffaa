"""Pods, events, failures, and the watching of them."""
