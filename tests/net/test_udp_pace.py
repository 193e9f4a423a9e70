"""When datagrams are let gather, and for how long."""

from hypothesis import given
from hypothesis import strategies as st

from rtun_core.net.udp_pace import ENOUGH, MAX_PAUSE, MIN_RATE, Pace


def steady(rate, count, turns=50):
    """The pauses of a watch that reads `count` datagrams `rate / count` times a second."""
    pace, now = Pace(), 100.0
    pauses = []
    for _ in range(turns):
        now += count / rate
        pauses.append(pace.pause(count, now))
    return pauses


def test_a_quiet_socket_never_waits():
    assert not any(steady(MIN_RATE * 0.9, 1))


def test_many_small_batches_wait():
    assert steady(50_000, 2)[-1] == MAX_PAUSE
    assert 0 < steady(400_000, 2)[-1] <= ENOUGH / 400_000 * 1.1


def test_large_batches_do_not_wait():
    assert not any(steady(100_000, ENOUGH))


def test_after_a_silence_the_first_datagrams_pass_at_once():
    pace, now = Pace(), 100.0
    for _ in range(50):
        now += 1e-5
        pace.pause(2, now)
    assert pace.pause(2, now + 0.05) == 0.0


@given(st.lists(st.tuples(st.integers(0, 64), st.floats(0, 1)), max_size=50))
def test_a_pause_is_bounded(turns):
    pace, now = Pace(), 0.0
    for count, elapsed in turns:
        now += elapsed
        assert 0.0 <= pace.pause(count, now) <= MAX_PAUSE
