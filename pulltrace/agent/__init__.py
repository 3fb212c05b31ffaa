"""The node half: asks containerd, works out what is being pulled, reports it. It only ever reads."""
