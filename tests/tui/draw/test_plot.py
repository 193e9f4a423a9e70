"""Plots: shape, gaps, scales, and that what is drawn once keeps its shape."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_tui.draw.plot import (
    COARSE,
    FINE,
    Scale,
    binned,
    highest,
    nice_above,
    plot_lines,
    scale_top,
    sparkline,
)

NAN = math.nan
values = st.floats(0, 1e12) | st.just(NAN)


def series(*samples):
    return np.array(samples, np.float32)


def test_an_area_rises_from_below():
    ramp = np.arange(1, 9)  # two columns of dots a cell, four dots high
    assert plot_lines(ramp, 4, 2, top=8) == ["  ⣠⣾", "⣠⣾⣿⣿"]


def test_an_area_hangs_from_above():
    assert plot_lines(np.arange(1, 9), 4, 2, top=8, hanging=True) == ["⠙⢿⣿⣿", "  ⠙⢿"]


def test_ascii_has_a_ramp():
    assert plot_lines(np.arange(1, 15), 14, 2, top=14, ascii=True) == ["       .:-=+*#", ".:-=+*########"]


def test_a_gap_is_blank_and_a_zero_is_not():
    assert plot_lines(series(0, 0, NAN, NAN, 1, 1), 3, 1, top=1) == ["⣀ ⣿"]
    assert plot_lines(series(0, NAN, 1), 3, 1, top=1, ascii=True) == [". #"]


def test_values_above_the_top_fill_the_column():
    assert plot_lines(series(99, 99), 1, 2, top=1) == ["⣿", "⣿"]


@pytest.mark.parametrize(("width", "height"), [(0, 3), (3, 0), (-1, 2)])
def test_no_room_is_no_line(width, height):
    assert plot_lines(series(1, 2), width, height, top=2) == []


@given(st.lists(values, max_size=700), st.integers(1, 180), st.integers(1, 12), st.booleans(), st.booleans())
def test_lines_have_their_size(samples, width, height, plain, hanging):
    lines = plot_lines(
        np.array(samples), width, height, top=scale_top(np.array(samples)), ascii=plain, hanging=hanging
    )
    assert [len(line) for line in lines] == [width] * height
    assert not plain or "".join(lines).isascii()
    assert (
        not np.isfinite(np.array(samples, float)).all() or not samples or any(line.strip() for line in lines)
    )


def test_a_sparkline_has_eight_heights():
    assert sparkline(np.arange(1, 9), 8, top=8) == "▁▂▃▄▅▆▇█"
    assert sparkline(series(0, NAN, 5), 3) == "▁ █"
    assert sparkline(np.arange(1, 8), 7, top=7, ascii=True) == ".:-=+*#"
    assert sparkline(series(1), 0) == ""
    assert sparkline(series(), 4) == "    "


def test_columns_are_means_of_what_is_known():
    np.testing.assert_allclose(binned(series(1, 3, 10, NAN, NAN, NAN), 3), [2, 10, NAN])


def test_fewer_samples_than_columns_are_joined_by_a_line():
    np.testing.assert_allclose(binned(series(0, 2, 4), 5), [0, 1, 2, 3, 4])
    drawn = binned(series(1, NAN, NAN, 4), 10)
    assert np.isnan(drawn[4:6]).all()
    assert drawn[0] == 1
    assert drawn[-1] == 4


def test_nothing_known_is_drawn_as_nothing():
    assert np.isnan(binned(series(), 4)).all()
    assert np.isnan(binned(series(NAN, NAN), 4)).all()


@pytest.mark.parametrize("columns", [37, 100, 140, 299, 300])
def test_a_column_keeps_its_value_while_it_moves_left(columns):
    rng = np.random.default_rng(7)
    everything = rng.random(400)
    before = binned(everything[:300], columns, 300)
    for count in range(301, 330):
        after = binned(everything[count - 300 : count], columns, count)
        moved = count * columns // 300 - (300 * columns) // 300
        shift = (count - 1) * columns // 300 - 299 * columns // 300
        assert shift in (moved, moved - 1, moved + 1)
        # All but the oldest column, which loses samples, and the newest, which was not full.
        kept = columns - shift
        np.testing.assert_array_equal(after[1 : kept - 1], before[shift + 1 : columns - 1])


@pytest.mark.parametrize(
    ("value", "top"),
    [
        *((0, 1), (-1, 1), (NAN, 1), (math.inf, 1), (0.3, 0.5), (1, 1), (1.5, 2), (3, 5), (9, 10)),
        *((499, 500), (501, 1000), (1500, 2000), (212.6e6, 500e6), (7e8, 1e9)),
    ],
)
def test_a_scale_is_1_2_5(value, top):
    assert nice_above(value) == pytest.approx(top)


def test_a_scale_of_1024_is_round_in_its_units():
    assert nice_above(600, base=1024) == 1024
    assert nice_above(1500, base=1024) == 2048
    assert nice_above(3 * 1024**2, base=1024) == 5 * 1024**2


@given(st.floats(1e-6, 1e15), st.sampled_from([1000.0, 1024.0]), st.sampled_from([COARSE, FINE]))
def test_a_scale_holds_its_maximum_and_is_not_far_above(value, base, steps):
    top = nice_above(value, base=base, steps=steps)
    assert top >= value
    assert top <= value * 2.6


def test_top_of_a_series_ignores_gaps():
    assert scale_top(series(NAN, 3)) == 5
    assert scale_top(series(NAN)) == 1
    assert highest(series()) == 0


def test_a_scale_grows_at_once_and_shrinks_late():
    scale = Scale()
    assert scale.fit(90) == 100
    assert scale.fit(101) == 200
    assert scale.fit(81) == 200
    assert scale.fit(79) == 100
    assert scale.fit(0) == 1


def test_a_scale_never_undercuts_its_least():
    scale = Scale(least=1000)
    assert scale.top == 1000
    assert scale.fit(3) == 1000


@given(st.floats(1, 1e9), st.sampled_from([COARSE, FINE]), st.lists(st.floats(0.96, 1.04), min_size=5))
def test_a_maximum_that_moves_a_little_does_not_make_the_scale_jump(middle, steps, factors):
    scale = Scale(steps=steps)
    scale.fit(middle * 30)
    tops = [scale.fit(middle * factor) for factor in factors]
    assert sum(before != after for before, after in pairwise(tops)) <= 1
