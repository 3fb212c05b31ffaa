"""Tests for the data that containerd reports about a pull. The real containerds and the demo's simulated one must all
pass this suite.
"""
