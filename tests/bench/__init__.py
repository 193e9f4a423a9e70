"""Measurements, run by `make bench`. Nothing here is asserted by the test suite."""
