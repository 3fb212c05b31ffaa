"""Tests of pods, events and failures, and of watching them."""
