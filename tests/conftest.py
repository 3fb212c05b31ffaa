"""Fixtures of every test, and Hypothesis without time limits: the same examples each time, or with
``EXAMPLES_PROFILE=random`` (the nightly run) new ones, whose seed a failing test prints."""

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.real.fixtures"]

settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("random", parent=settings.get_profile("steady"), derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("EXAMPLES_PROFILE", "steady"))
