"""What containerd reports about a pull. The real containerds and the simulated one of the demo must all pass this
suite.
"""
