"""What every test may ask for, and how hypothesis tries: the same examples each time, and never by the clock."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.real.fixtures"]

settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
