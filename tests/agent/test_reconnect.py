"""The delays between attempts to reach the signalling server."""

from hypothesis import given
from hypothesis import strategies as st

from rtun_core.agent.reconnect import FIRST_DELAY, LONGEST_DELAY, Backoff


def test_delays_double_up_to_the_longest():
    backoff = Backoff()
    assert [backoff.failed(0.0) for _ in range(7)] == [0.5, 1, 2, 4, 8, 15, 15]


def test_jitter_takes_up_to_half():
    backoff = Backoff()
    assert backoff.failed(1.0) == 0.25
    assert backoff.failed(0.5) == 0.75


def test_success_starts_over():
    backoff = Backoff()
    for _ in range(5):
        backoff.failed(0.0)
    backoff.succeeded()
    assert backoff.failed(0.0) == FIRST_DELAY


def test_a_refusal_waits_longest_until_a_success():
    backoff = Backoff()
    assert backoff.failed(0.0, refused=True) == LONGEST_DELAY
    assert backoff.failed(0.0) == LONGEST_DELAY
    backoff.succeeded()
    assert backoff.failed(0.0) == FIRST_DELAY


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans()), max_size=50))
def test_every_delay_is_within_bounds(steps):
    backoff = Backoff()
    for jitter, refused, success in steps:
        if success:
            backoff.succeeded()
        assert FIRST_DELAY / 2 <= backoff.failed(jitter, refused=refused) <= LONGEST_DELAY
