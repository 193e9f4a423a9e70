import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_tui.governor import FASTEST, SLOWEST, Governor


def test_cheap_looks_come_as_often_as_asked():
    governor = Governor(0.25)
    for _ in range(50):
        governor.spent(0.005)
    assert governor.pause == 0.25


def test_dear_looks_come_later_and_recover():
    governor = Governor(0.25)
    for _ in range(50):
        governor.spent(0.05)
    assert governor.pause == pytest.approx(1.0, rel=0.01)
    for _ in range(50):
        governor.spent(0.001)
    assert governor.pause == 0.25


def test_the_first_looks_are_not_judged():
    governor = Governor(0.25)
    for cost in (0.3, 0.08, 0.006, 0.006):
        governor.spent(cost)
        assert governor.pause == 0.25


def test_looks_that_are_dear_from_the_first_on_are_seen_soon():
    governor = Governor(0.25)
    for _ in range(4):
        governor.spent(0.05)
    assert governor.pause == pytest.approx(1.0)


def test_hiccups_change_nothing():
    governor = Governor(0.25)
    for cost in (0.005, 0.4, 0.005, 0.3, 0.005, 0.005, 0.2):
        governor.spent(cost)
    assert governor.pause == 0.25


@given(interval=st.floats(FASTEST, SLOWEST), costs=st.lists(st.floats(0, 1), max_size=30))
def test_never_sooner_than_asked_nor_dearer_than_allowed(interval, costs):
    governor = Governor(interval, share=0.1)
    for cost in costs:
        governor.spent(cost)
    assert interval <= governor.pause <= max(interval, 10 * max(costs, default=0)) + 1e-9


def test_the_steps_go_to_both_ends_and_stay_there():
    governor, seen = Governor(0.25), []
    for _ in range(7):
        governor.slower()
        seen.append(governor.interval)
    assert seen == [0.5, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0]
    for _ in range(7):
        governor.faster()
    assert governor.interval == FASTEST


@pytest.mark.parametrize(("interval", "faster", "slower"), [(0.3, 0.25, 0.5), (0.1, 0.1, 0.25), (9, 5, 5)])
def test_an_interval_between_the_steps(interval, faster, slower):
    one, other = Governor(interval), Governor(interval)
    one.faster()
    other.slower()
    assert (one.interval, other.interval) == (faster, slower)
