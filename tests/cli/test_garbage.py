"""Garbage collection around the start of a program."""

import gc

import pytest

from rtun_core.cli.garbage import settled, starting


@pytest.fixture(autouse=True)
def _as_before():
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_seldom_while_starting_and_as_ever_afterwards():
    starting()
    seldom = gc.get_threshold()[0]
    settled()
    assert seldom > gc.get_threshold()[0] > 0


def test_what_was_made_before_is_looked_through_no_more():
    gc.unfreeze()
    kept = [[] for _ in range(1000)]
    settled()
    assert gc.get_freeze_count() > len(kept)
