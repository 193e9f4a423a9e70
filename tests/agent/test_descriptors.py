"""The limit of open files."""

import resource
import sys

import pytest

from rtun_core.agent.descriptors import ENOUGH, RESERVE, flows_within, raise_descriptor_limit


@pytest.fixture
def limits(monkeypatch):
    """Pretend limits: what was there, and what is set."""

    class Limits:
        now = (1024, 4096)
        set_to = None
        refuses = False

        def set(self, _what, pair):
            if self.refuses:
                raise ValueError("not allowed")
            self.set_to = pair

    pretended = Limits()
    monkeypatch.setattr(resource, "getrlimit", lambda _what: pretended.now)
    monkeypatch.setattr(resource, "setrlimit", pretended.set)
    return pretended


def test_the_soft_limit_becomes_the_hard_one(limits):
    assert raise_descriptor_limit() == 4096
    assert limits.set_to == (4096, 4096)


def test_without_a_hard_limit_it_stays_reasonable(limits):
    limits.now = (1024, resource.RLIM_INFINITY)
    assert raise_descriptor_limit() == ENOUGH
    assert limits.set_to == (ENOUGH, resource.RLIM_INFINITY)


@pytest.mark.parametrize("now", [(4096, 4096), (resource.RLIM_INFINITY, resource.RLIM_INFINITY)])
def test_what_is_high_enough_stays(limits, now):
    limits.now = now
    assert raise_descriptor_limit() == now[0]
    assert limits.set_to is None


def test_a_system_that_refuses_keeps_its_limit(limits):
    limits.refuses = True
    assert raise_descriptor_limit() == 1024


def test_systems_without_such_limits_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert raise_descriptor_limit() is None


@pytest.mark.parametrize(
    ("limit", "wanted", "flows"),
    [(None, 5000, 5000), (100_000, 5000, 5000), (1024, 5000, 1024 - RESERVE), (10, 5000, 1)],
)
def test_flows_leave_descriptors_for_everything_else(limit, wanted, flows):
    assert flows_within(limit, wanted) == flows
