import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.model import Rates, Snapshot, TunnelState, TunnelView
from rtun_core.view.history import KEEP_GONE, MAX_TUNNELS, SAMPLES, History

NAN = math.nan


def tunnel(name="t1", **fields):
    known = {"rule": "r1", "agent": "a", "state": TunnelState.UP, "kind": "p2p", "opened_at": 0.0}
    return TunnelView(id=name, **known | fields)


def snapshot(ts, *, up=0.0, down=0.0, packets=0.0, drops=0, tunnels=()):
    return Snapshot(
        seq=0,
        ts=ts,
        uptime_s=ts,
        pid=1,
        version="0",
        services=("relay",),
        rates=Rates(up_bytes=up, down_bytes=down, up_packets=packets),
        drops={"full": drops},
        tunnels=tuple(tunnels),
    )


def observed(*snapshots):
    history = History()
    for each in snapshots:
        history.observe(each)
    return history.picture()


def test_nothing_is_known_at_first():
    picture = History().picture()
    assert len(picture.up) == len(picture.packets) == picture.count == 0
    assert not picture.tunnels
    assert picture.drop_share() is None


def test_samples_are_oldest_first():
    picture = observed(*(snapshot(100 + second, up=second, down=10 * second) for second in range(3)))
    assert picture.up.tolist() == [0, 1, 2]
    assert picture.down.tolist() == [0, 10, 20]
    assert (picture.end, picture.count, picture.step) == (102, 3, 1.0)


def test_a_call_too_early_is_ignored():
    picture = observed(snapshot(100, up=1), snapshot(100.89, up=2), snapshot(100.9, up=3))
    assert picture.up.tolist() == [1, 3]


@pytest.mark.parametrize(("later", "missed"), [(1.5, 0), (1.7, 1), (2.0, 1), (5.1, 4)])
def test_missing_seconds_are_gaps(later, missed):
    picture = observed(snapshot(100, up=1), snapshot(100 + later, up=2))
    np.testing.assert_array_equal(picture.up, [1, *[NAN] * missed, 2])


def test_a_long_gap_is_bounded_and_forgets_the_rest():
    picture = observed(snapshot(100, up=1), snapshot(1e9, up=2))
    assert len(picture.up) == SAMPLES
    assert picture.up[-1] == 2
    assert np.isnan(picture.up[:-1]).all()


def test_a_clock_set_back_starts_from_there():
    picture = observed(snapshot(1000, up=1), snapshot(500, up=2), snapshot(501, up=3))
    assert picture.up.tolist() == [1, 2, 3]
    assert picture.end == 501


@pytest.mark.parametrize("ts", [NAN, math.inf])
def test_a_time_that_is_none_is_ignored(ts):
    assert observed(snapshot(100, up=1), snapshot(ts, up=2)).up.tolist() == [1]


def test_the_ring_never_grows():
    picture = observed(*(snapshot(100 + second, up=second) for second in range(SAMPLES + 7)))
    assert picture.up.tolist() == list(range(7, SAMPLES + 7))
    assert picture.count == SAMPLES + 7


def test_drops_are_growth_per_second():
    picture = observed(
        snapshot(100, drops=50), snapshot(101, drops=60), snapshot(103, drops=80), snapshot(104, drops=5)
    )
    np.testing.assert_array_equal(picture.drops, [NAN, 10, NAN, 10, 0])


def test_share_of_drops_counts_the_last_minute():
    old = [snapshot(second, drops=second * 1000, packets=1) for second in range(100)]
    new = [snapshot(100 + second, drops=99_000 + second, packets=99) for second in range(61)]
    assert observed(*old, *new).drop_share() == pytest.approx(0.01)


def test_tunnels_have_the_worse_loss_and_their_rates():
    first = tunnel(rtt_ms=20.0, loss_up=0.1, loss_down=0.3, rates=Rates(up_bytes=5, down_bytes=6))
    each = observed(snapshot(1, tunnels=[first]), snapshot(2, tunnels=[tunnel()])).tunnels["t1"]
    np.testing.assert_array_equal(each.rtt, [20, NAN])
    np.testing.assert_allclose(each.loss, [0.3, NAN], rtol=1e-6)
    assert each.up.tolist() == [5, 0]
    assert each.down.tolist() == [6, 0]


def test_series_of_a_young_tunnel_are_as_long_as_all():
    picture = observed(snapshot(1), snapshot(2), snapshot(3, tunnels=[tunnel(rtt_ms=7.0)]))
    np.testing.assert_array_equal(picture.tunnels["t1"].rtt, [NAN, NAN, 7])


def test_a_tunnel_that_is_gone_stays_a_minute():
    history = History()
    history.observe(snapshot(0, tunnels=[tunnel()]))
    for second in range(1, KEEP_GONE + 1):
        history.observe(snapshot(second))
    assert "t1" in history.picture().tunnels
    history.observe(snapshot(KEEP_GONE + 1))
    assert not history.picture().tunnels


def test_tunnels_are_bounded_and_those_gone_make_way():
    names = [f"t{number}" for number in range(MAX_TUNNELS + 5)]
    history = History()
    history.observe(snapshot(0, tunnels=[tunnel(name) for name in names]))
    assert list(history.picture().tunnels) == names[:MAX_TUNNELS]
    history.observe(snapshot(1, tunnels=[tunnel(name) for name in names[1:MAX_TUNNELS]]))
    history.observe(snapshot(2, tunnels=[tunnel(name) for name in [*names[1:MAX_TUNNELS], "new"]]))
    kept = history.picture().tunnels
    assert "new" in kept
    assert "t0" not in kept
    assert len(kept) == MAX_TUNNELS


def test_a_picture_does_not_change():
    history = History()
    history.observe(snapshot(1, up=1, tunnels=[tunnel()]))
    picture = history.picture()
    history.observe(snapshot(2, up=2))
    assert picture.up.tolist() == [1]
    with pytest.raises(ValueError, match="read-only"):
        picture.up[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        picture.tunnels["t1"].up[0] = 5


@given(st.lists(st.floats(-5, 400), max_size=40))
def test_any_times_give_series_of_one_length(steps):
    history, ts = History(), 1e6
    for step in steps:
        ts += step
        history.observe(snapshot(ts, up=1.0, tunnels=[tunnel()]))
    picture = history.picture()
    assert len(picture.up) == min(picture.count, SAMPLES)
    for each in picture.tunnels.values():
        assert len(each.rtt) == len(each.up) == len(picture.up)
