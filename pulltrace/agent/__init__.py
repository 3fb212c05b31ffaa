"""The agent of each node: polls containerd, determines which images are pulled, and reports them.

It never writes to containerd.
"""
