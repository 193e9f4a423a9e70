"""The plot of the rates: boxes, axis and times for every size."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rtun_core.view.history import HistoryPicture
from rtun_core.view.units import Look
from rtun_tui.draw.frame import Brush
from rtun_tui.draw.throughput import Scales, throughput_strips, time_marks, traffic_of
from rtun_tui.palette import MONO

BRUSH = Brush(MONO)
ASCII = Brush(MONO, ascii=True)


def history(count=300, up=5e6, down=25e6):
    known = min(count, 300)
    shape = np.sin(np.arange(known) / 20) ** 2
    return HistoryPicture(
        step=1.0,
        end=1e9,
        up=(shape * up).astype(np.float32),
        down=(shape * down).astype(np.float32),
        drops=np.zeros(known, np.float32),
        count=count,
    )


def texts(picture, width, height, *, brush=BRUSH, look=None, framed=True):
    scales = Scales(look or Look())
    return [strip.text for strip in throughput_strips(picture, scales, width, height, brush, framed=framed)]


@pytest.mark.parametrize("framed", [True, False])
@pytest.mark.parametrize("brush", [BRUSH, ASCII])
@pytest.mark.parametrize("count", [0, 1, 45, 100, 300, 5000])
def test_every_size_is_filled(count, brush, framed):
    for width in (20, 55, 60, 80, 97, 98, 160):
        for height in (3, 5, 6, 7, 8, 9, 14):
            strips = throughput_strips(history(count), Scales(Look()), width, height, brush, framed=framed)
            assert {strip.cell_length for strip in strips} == {width}
            assert len(strips) == height or height - framed > 3
            assert brush is BRUSH or all(strip.text.isascii() for strip in strips)


def test_up_rises_and_down_hangs_where_it_is_narrow():
    lines = texts(history(), 60, 6)
    assert lines[0].startswith("┌─ Up and down  bit/s  5 min ─")
    assert "peak 40.0Mb / 200Mb" in lines[0]
    assert lines[1].startswith("│ 200Mb ┤")
    assert lines[2].startswith("│up   0 ┤")
    assert lines[3].startswith("│    dn ┤")
    assert lines[4].startswith("│ 200Mb ┤")


def test_an_odd_height_has_the_times_on_the_zero_line():
    lines = texts(history(), 70, 9)
    assert lines[4].startswith("│     0 ┼-5m ─")
    assert lines[4].endswith("now│")
    assert "-3m" in lines[4]
    assert lines[2].startswith("│ 100Mb ┤")
    assert texts(history(), 70, 9, brush=ASCII)[4].startswith("|     0 +-5m -")


def test_two_boxes_where_it_is_wide():
    lines = texts(history(), 120, 9)
    left, right = lines[0][:60], lines[0][60:]
    assert left.startswith("┌─ Up  bit/s  5 min ─")
    assert right.startswith("┌─ Down  bit/s  5 min ─")
    assert lines[1][:8] == "│40.0Mb "
    assert lines[1][60:68] == "│ 200Mb "
    assert lines[4][60:68] == "│ 100Mb "
    assert lines[6][60:68] == "│     0 "
    assert lines[7].count("-5m") == lines[7].count("now") == 2


def test_single_lines_where_it_is_low():
    lines = texts(history(), 80, 3, framed=False)
    assert lines[0].startswith("── Up and down")
    assert lines[1].startswith(" up ")
    assert "Mb/s" in lines[1]
    assert "peak  40.0Mb" in lines[1]
    assert lines[2].startswith(" dn ")
    assert "peak   200Mb" in lines[2]
    assert "peak" not in texts(history(), 40, 3, framed=False)[1]


def test_the_unit_is_the_users():
    assert "byte/s" in texts(history(), 60, 6, look=Look(bits=False))[0]
    assert "25.0MB" in texts(history(), 60, 6, look=Look(bits=False))[1]
    assert "200Mib" in texts(history(), 60, 6, look=Look(iec=True))[1]


@pytest.mark.parametrize(("count", "minutes"), [(1, "1 min"), (60, "1 min"), (61, "2 min"), (121, "5 min")])
def test_a_young_history_is_shown_larger(count, minutes):
    traffic = traffic_of(history(count), Look())
    assert traffic.minutes == minutes
    assert np.isfinite(traffic.up).sum() == count
    assert math.isfinite(traffic.up[-1])


def test_directions_have_their_own_roles():
    palette = MONO.__class__("test", dark=True, colour=True, styles=dict(MONO.styles))
    palette.styles["plot-up"] = palette.styles["accent"]
    strips = throughput_strips(history(), Scales(Look()), 60, 6, Brush(palette))
    assert any(segment.style == palette.style("plot-up") for segment in strips[2])
    assert not any(segment.style == palette.style("plot-up") for segment in strips[3])


@pytest.mark.parametrize("seconds", [60, 120, 300])
@pytest.mark.parametrize("width", [0, 3, 8, 20, 60, 200])
def test_marks_of_time_fit(seconds, width):
    line = time_marks(seconds, width)
    assert len(line) == width
    assert width < 3 or line.endswith("now")
    assert width < 20 or line.lstrip().startswith("-")


def test_marks_stand_where_their_time_is():
    line = time_marks(300, 101)
    for minute in range(1, 5):
        mark = f"-{minute}m"
        assert abs(line.index(mark) + 1 - (100 - minute * 20)) <= 1
