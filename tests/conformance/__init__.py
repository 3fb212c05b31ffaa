"""What containerd reports about a pull: one suite that the real containerds and the demo's simulated one all pass."""
