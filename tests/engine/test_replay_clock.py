import time
from datetime import datetime, timedelta

import pytest

from rtun_core.engine.replay_clock import ReplayClock, clock, moment
from rtun_core.errors import UsageError

NOON = datetime(2026, 3, 4, 12, 0, 0)
HERE = NOON.timestamp()
START, END = HERE - 600, HERE + 600.5


def meant(where, here=HERE, start=START, end=END):
    return moment(where, here=here, start=start, end=end)


@pytest.mark.parametrize(
    ("where", "offset"),
    [
        ("12:00:00", 0),
        ("12:05:30", 330),
        ("12:05", 300),
        ("11:50:00", -600),
        ("2026-03-04T12:01:00", 60),
        ("+30", 30),
        ("-0.5", -0.5),
        ("+1e9", 600.5),
        ("-1e9", -600),
        ("start", -600),
        ("end", 600.5),
    ],
)
def test_what_is_meant(where, offset):
    assert meant(where) == HERE + offset


def test_a_second_in_which_the_recording_begins():
    assert meant("11:50:00", start=START + 0.5) == START + 0.5


def test_the_nearest_of_several_days():
    yesterday, tomorrow = (NOON + timedelta(days=days) for days in (-1, 1))
    bounds = {"start": yesterday.timestamp() - 100, "end": tomorrow.timestamp() + 100}
    assert meant("12:00:00", here=HERE, **bounds) == HERE
    assert meant("12:00:00", here=tomorrow.timestamp() - 10, **bounds) == tomorrow.timestamp()
    assert meant("11:59:00", here=HERE, start=tomorrow.timestamp() - 90, end=END + 86400) > HERE


@pytest.mark.parametrize(
    "where", ["", "x", "25:00:00", "+", "-x", "+nan", "+inf", "12", "12:0:0:0", "2026-99T1"]
)
def test_what_nobody_can_mean(where):
    with pytest.raises(UsageError, match="is no time in a recording; accepted: HH:MM:SS"):
        meant(where)


@pytest.mark.parametrize("where", ["11:49:59", "13:00:00", "2025-03-04T12:00:00", "9999-01-01T00:00:00"])
def test_what_was_not_recorded(where):
    with pytest.raises(UsageError, match=f"{where} was not recorded; accepted: 11:50:00 to 12:10:00"):
        meant(where)


def test_time_of_day():
    assert clock(HERE) == "12:00:00" == time.strftime("%H:%M:%S", time.localtime(HERE))


def test_it_plays():
    player = ReplayClock(100.0, factor=2.0, now=5.0)
    assert player.advance(5.5) == 101.0
    assert player.advance(5.5) == 101.0
    player.play(6.5, 0.5)
    assert player.advance(8.5) == 104.0


def test_held_and_stopped():
    player = ReplayClock(100.0, factor=1.0, now=0.0)
    player.hold(1.0, on=True)
    assert (player.advance(9.0), player.plays) == (101.0, False)
    player.stop(9.0)
    player.hold(10.0, on=False)
    assert (player.advance(12.0), player.plays) == (103.0, True)
    player.stop(12.0)
    assert player.advance(20.0) == 103.0
    player.play(20.0, 1.0)
    assert player.advance(21.0) == 104.0
    player.restart(50.0)
    assert player.advance(51.0) == 105.0


def test_a_pause_is_not_ended_by_a_speed():
    player = ReplayClock(0.0, factor=1.0, now=0.0)
    player.hold(0.0, on=True)
    player.play(1.0, 10.0)
    assert player.advance(2.0) == 0.0


@pytest.mark.parametrize("factor", [0.0, -1.0, 0.09, 101.0, float("nan"), float("inf")])
def test_speeds_that_cannot_be(factor):
    with pytest.raises(UsageError, match=r"accepted: 0\.1 to 100"):
        ReplayClock(0.0, factor=factor, now=0.0)
    with pytest.raises(UsageError, match=r"accepted: 0\.1 to 100"):
        ReplayClock(0.0, factor=1.0, now=0.0).play(0.0, factor)
