"""What holds for every test."""

from hypothesis import HealthCheck, settings

# A deadline for one example measures how busy the machine is.
settings.register_profile("rtun", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rtun")
