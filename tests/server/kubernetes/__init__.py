"""Tests for pods, events and failures, and for the watches that deliver them."""
