"""The agent runs on each node, polls containerd, determines which images are being pulled, and reports them.

The agent never writes to containerd.
"""
