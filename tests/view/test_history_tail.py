import numpy as np
import pytest

from rtun_core.model import Rates, Snapshot, TunnelState, TunnelView
from rtun_core.view.history import SAMPLES, History
from rtun_core.view.history_tail import joined, newest


def snapshot(second, tunnels=()):
    return Snapshot(
        seq=1,
        ts=1000.0 + second,
        uptime_s=1.0,
        pid=1,
        version="0",
        services=("relay",),
        rates=Rates(up_bytes=float(second), down_bytes=2.0 * second, up_packets=1.0),
        drops={"kernel": second * second},
        tunnels=tuple(
            TunnelView(
                id=name,
                rule=None,
                agent=None,
                state=TunnelState.UP,
                kind="p2p",
                opened_at=0.0,
                rtt_ms=10.0 + second,
                rates=Rates(up_bytes=second),
            )
            for name in tunnels
        ),
    )


def story(length):
    """A history sample by sample: t1 from the first second, t2 from the fifth to the ninth."""
    history = History()
    for second in range(1, length + 1):
        history.observe(snapshot(second, ("t1", "t2") if 5 <= second < 10 else ("t1",)))
        yield history.picture()


def same(one, other):
    assert (one.count, one.end, one.step) == (other.count, other.end, other.step)
    assert list(one.tunnels) == list(other.tunnels)
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("up", "down", "drops", "packets")]
    for name in one.tunnels:
        pairs += [
            (getattr(one.tunnels[name], part), getattr(other.tunnels[name], part))
            for part in ("rtt", "loss", "up", "down")
        ]
    for mine, theirs in pairs:
        np.testing.assert_array_equal(mine, theirs)
        assert not mine.flags.writeable


def nothing():
    return History().picture()


@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_instalments_add_up_to_the_whole(step):
    known = nothing()
    for picture in list(story(SAMPLES + 20))[step - 1 :: step]:
        tail = newest(picture, picture.count - known.count)
        assert len(tail.up) == min(step, picture.count)
        known = joined(known, newest(tail, step))
        same(known, picture)


def test_a_tail_that_overlaps_is_cut():
    *_, old, new = story(12)
    same(joined(old, newest(new, 8)), new)
    same(joined(new, newest(new, 3)), new)


def test_a_gap_begins_anew():
    pictures = list(story(12))
    tail = newest(pictures[11], 2)
    same(joined(pictures[3], tail), tail)
    same(joined(pictures[11], pictures[3]), pictures[3])


def test_the_newest_samples():
    *_, picture = story(12)
    assert newest(picture, 3).up.tolist() == [10, 11, 12]
    assert newest(picture, 3).tunnels["t1"].rtt.tolist() == [20, 21, 22]
    same(newest(picture, 99), picture)
    assert len(newest(picture, 0).up) == len(newest(picture, -5).up) == 0
