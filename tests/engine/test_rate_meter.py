import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.engine.rate_meter import MIN_PERIOD, RateMeter
from rtun_core.model import Rates, Traffic


def metered(*samples):
    meter = RateMeter()
    for now, counters in samples:
        meter.sample(counters.items(), now)
    return meter


def test_nothing_is_known_before_the_second_sample():
    meter = metered((0.0, {"t1": Traffic(1, 1000, 2, 2000)}))
    assert meter.rates("t1") == meter.rates("t2") == Rates()


def test_growth_over_the_time_between_two_samples():
    meter = metered((10.0, {"t1": Traffic(1, 100, 2, 200)}), (12.0, {"t1": Traffic(5, 1100, 12, 2200)}))
    assert meter.rates("t1") == Rates(up_packets=2.0, up_bytes=500.0, down_packets=5.0, down_bytes=1000.0)


def test_what_is_new_began_at_nothing():
    meter = metered((0.0, {}), (1.0, {"t1": Traffic(up_bytes=700)}))
    assert meter.rates("t1").up_bytes == 700.0


def test_what_began_anew_has_no_negative_rate():
    meter = metered(
        (0.0, {"t1": Traffic(up_bytes=900, down_bytes=10)}), (1.0, {"t1": Traffic(up_bytes=5, down_bytes=30)})
    )
    assert meter.rates("t1") == Rates(down_bytes=20.0)


def test_what_is_gone_is_forgotten():
    meter = metered((0.0, {"t1": Traffic()}), (1.0, {"t1": Traffic(up_bytes=9)}), (2.0, {}))
    assert meter.rates("t1") == Rates()


def test_a_sample_that_comes_too_early_is_ignored():
    first, second = {"t1": Traffic()}, {"t1": Traffic(up_bytes=100)}
    meter = metered((0.0, first), (MIN_PERIOD - 0.01, second))
    assert meter.rates("t1") == Rates()
    meter.sample(second.items(), 1.0)
    assert meter.rates("t1").up_bytes == 100.0


def test_an_idle_second_ends_the_rate():
    busy = {"t1": Traffic(up_bytes=100)}
    assert metered((0.0, {}), (1.0, busy), (2.0, busy)).rates("t1") == Rates()


@given(
    growth=st.lists(st.tuples(st.floats(0, 3), st.integers(0, 10**9)), max_size=30),
)
def test_the_rates_add_up_to_the_counter(growth):
    """Every byte is in exactly one rate, whatever the beat."""
    meter, now, count = RateMeter(), 0.0, 0
    meter.sample([("t1", Traffic())], now)
    told, last, sampled = 0.0, 0.0, 0
    for seconds, size in growth:
        now, count = now + seconds, count + size
        meter.sample([("t1", Traffic(up_bytes=count))], now)
        if now - last >= MIN_PERIOD:
            told += meter.rates("t1").up_bytes * (now - last)
            last, sampled = now, count
    assert told == pytest.approx(sampled)
