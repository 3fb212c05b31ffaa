"""Fixtures for all tests, and the Hypothesis profiles. Every Hypothesis profile disables the deadline.

By default, every run of the tests uses the same examples. ``EXAMPLES_PROFILE=quick`` (`make unit`) uses fewer examples.
``EXAMPLES_PROFILE=random`` (the nightly run) uses new examples and prints how to reproduce a failure.
"""

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.real.fixtures"]

settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("random", parent=settings.get_profile("steady"), derandomize=False, print_blob=True)
settings.register_profile("quick", parent=settings.get_profile("steady"), max_examples=20)
settings.load_profile(os.environ.get("EXAMPLES_PROFILE", "steady"))
