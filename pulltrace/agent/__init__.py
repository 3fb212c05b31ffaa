"""The agent runs on each node. It polls containerd, determines which images are being pulled, and reports them.

It never writes to containerd.
"""
