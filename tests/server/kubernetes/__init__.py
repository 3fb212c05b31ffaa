"""Pods, events, failures, and the watches on them."""
