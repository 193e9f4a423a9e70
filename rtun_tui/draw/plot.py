"""Plots made of characters: filled areas in braille, or a ramp of signs where only ASCII may be used.

A column stands for some samples, and which of them belong together is counted from the very first
one (`count`), not from the newest. So a plot moves by whole columns, and what is drawn once keeps its
shape until it leaves on the left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]

RAMP: Final = " .:-=+*#"
BARS: Final = " ▁▂▃▄▅▆▇█"
COARSE: Final = (1.0, 2.0, 5.0)
FINE: Final = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)  # for low plots, where every line counts

_BLANK: Final = 0x2800  # braille without a dot
# Dots of the left and right half of a braille cell filled to a height of 0-4, from below and from above.
_RISING: Final = (np.array([0, 0x40, 0x44, 0x46, 0x47]), np.array([0, 0x80, 0xA0, 0xB0, 0xB8]))
_HANGING: Final = (np.array([0, 0x01, 0x03, 0x07, 0x47]), np.array([0, 0x08, 0x18, 0x38, 0xB8]))
_RAMP_CODES: Final = np.array([ord(sign) for sign in RAMP])
_BAR_CODES: Final = np.array([ord(sign) for sign in BARS])
_SHRINK: Final = 0.4  # of its top: a scale whose maximum stays below becomes smaller
_SMALLEST: Final = 1e-9
_ROOM: Final = 1.1  # times the maximum, which a scale must hold after it became smaller


def plot_lines(
    series: Floats,
    width: int,
    height: int,
    *,
    top: float,
    ascii: bool = False,
    hanging: bool = False,
    count: int | None = None,
) -> list[str]:
    """A filled area of `width` x `height` cells, the newest sample at the right.

    Values from 0 to `top`. A value that is there has a dot at least; NaN has none: a gap. `hanging`
    draws down from the upper edge. `count` numbers the newest sample (see above).
    """
    if width < 1 or height < 1:
        return []
    if ascii:
        levels = _levels(binned(series, width, count), top, height * (len(RAMP) - 1))
        codes = _RAMP_CODES[_filled(levels, height, len(RAMP) - 1, hanging=hanging)]
    else:
        levels = _levels(binned(series, width * 2, count), top, height * 4)
        fill = _filled(levels, height, 4, hanging=hanging)
        left, right = _HANGING if hanging else _RISING
        codes = _BLANK + left[fill[:, 0::2]] + right[fill[:, 1::2]]
        codes[codes == _BLANK] = ord(" ")  # some fonts draw rings for empty dots
    return [_text(row) for row in codes]


def sparkline(
    series: Floats,
    width: int,
    *,
    top: float | None = None,
    ascii: bool = False,
    count: int | None = None,
) -> str:
    """A series in one line. Without `top`, its own scale."""
    if width < 1:
        return ""
    codes = _RAMP_CODES if ascii else _BAR_CODES
    scale = scale_top(series) if top is None else top
    return _text(codes[_levels(binned(series, width, count), scale, len(codes) - 1)])


def binned(series: Floats, columns: int, count: int | None = None) -> NDArray[np.float64]:
    """A series as `columns` values, the newest at the right: means of as many samples as a column needs.

    With more columns than samples the line between them is drawn. Samples that are missing (NaN)
    count for nothing; a column without any is NaN.
    """
    values = np.asarray(series, np.float64)
    if not len(values):
        return np.full(columns, np.nan)
    if len(values) <= columns:
        return _stretched(values, columns)
    end = len(values) if count is None else count
    places = np.arange(end - len(values), end) * columns // len(values)
    places -= places[-1] - columns + 1
    known = np.isfinite(values) & (places >= 0)
    sums = np.bincount(places[known], values[known], minlength=columns)
    counts = np.bincount(places[known], minlength=columns)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def scale_top(series: Floats, *, base: float = 1000.0) -> float:
    """The least nice number that no value exceeds; 1 for a series without one above zero."""
    return nice_above(highest(series), base=base)


def highest(series: Floats) -> float:
    """The greatest known value, 0 without one."""
    known = series[np.isfinite(series)]
    return float(known.max()) if len(known) else 0.0


def nice_above(value: float, *, base: float = 1000.0, steps: Sequence[float] = COARSE) -> float:
    """One of `steps` times a power of ten times a power of `base`, at least `value`; 1 for nothing.

    >>> nice_above(212.6e6), nice_above(1500, base=1024), nice_above(212.6e6, steps=FINE)
    (500000000.0, 2048.0, 250000000.0)
    """
    if not 0 < value < math.inf:
        return 1.0
    unit = 1.0
    while value > steps[-1] * 100 * unit and value > base * unit / 2:
        unit *= base
    while unit > _SMALLEST and value <= unit / 10 * steps[-1]:
        unit /= 10
    for power in (1, 10, 100):
        for step in steps:
            if value <= step * power * unit:
                return step * power * unit
    return base * unit


class Scale:
    """The top of a scale that stands still: it grows at once and shrinks late.

    It shrinks only when the maximum is below 40 % of it, and then to one that leaves some room, so that
    a maximum that moves around one of its steps does not make the plot jump. `least` is never undercut.
    """

    def __init__(self, *, least: float = 1.0, base: float = 1000.0, steps: Sequence[float] = COARSE) -> None:
        self.least = least
        self.base = base
        self.steps = steps
        self.top = self._nice(least)

    def fit(self, maximum: float) -> float:
        """The top for this maximum."""
        if maximum > self.top:
            self.top = self._nice(maximum)
        elif max(maximum, self.least) < self.top * _SHRINK:
            self.top = min(self.top, self._nice(max(maximum * _ROOM, self.least)))
        return self.top

    def _nice(self, value: float) -> float:
        return nice_above(value, base=self.base, steps=self.steps)


def _stretched(values: NDArray[np.float64], columns: int) -> NDArray[np.float64]:
    """More columns than values. A column near a gap takes the nearest value: gaps keep their width."""
    places = np.linspace(0, len(values) - 1, columns)
    known = np.isfinite(values)
    nearest = known[np.rint(places).astype(np.intp)]
    if not known.any():
        return np.full(columns, np.nan)
    indices = np.arange(len(values))
    between = np.interp(places, indices[known], values[known])
    return np.where(nearest, between, np.nan)


def _levels(values: NDArray[np.float64], top: float, most: int) -> NDArray[np.intp]:
    """Heights of 1 to `most`, 0 for what is not known."""
    known = np.isfinite(values)
    scaled = np.where(known, values, 0.0) * (most / top if top > 0 else 0.0)
    return np.where(known, np.clip(np.rint(scaled), 1, most), 0).astype(np.intp)


def _filled(levels: NDArray[np.intp], height: int, steps: int, *, hanging: bool) -> NDArray[np.intp]:
    """How far the cells of each line are filled, 0 to `steps`."""
    below = np.arange(height) * steps if hanging else np.arange(height - 1, -1, -1) * steps
    filled: NDArray[np.intp] = np.clip(levels[np.newaxis, :] - below[:, np.newaxis], 0, steps)
    return filled


def _text(codes: NDArray[np.intp]) -> str:
    return codes.astype("<u4").tobytes().decode("utf-32-le")
