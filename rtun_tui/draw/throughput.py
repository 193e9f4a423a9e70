"""The plot of what is carried: two boxes where it is wide, one area up and one down where it is not,
and two single lines where it is low.

The axis is in the unit of the user: bits or bytes, powers of 1000 or 1024, so its numbers are round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from rtun_core.view.history import SAMPLES, HistoryPicture
from rtun_core.view.units import Look, rate_text
from rtun_tui.draw.frame import Brush, bottom_line, rule_line, top_line, with_sides
from rtun_tui.draw.plot import FINE, Floats, Scale, binned, highest, plot_lines, sparkline

LABEL: Final = 7  # cells before the axis: "500Kib" and a space

_SPANS: Final = (60, 120, SAMPLES)  # samples that a plot shows: as many as there can be something in
_WIDE: Final = 96  # cells inside, from which on there are two boxes
_LOW: Final = 3  # lines inside, up to which there are single lines instead of areas
_TIMES_FROM: Final = 6  # lines inside a box, from which on one is for the times
_TIME_STEPS: Final = (15, 30, 60, 120, 300)  # seconds between two marks
_TIME_ROOM: Final = 9  # cells that a mark wants


class Scales:
    """The scales of one widget, which stand still from sample to sample. Made anew for another look."""

    def __init__(self, look: Look) -> None:
        self.look = look
        base = 1024.0 if look.iec else 1000.0
        self.up, self.down, self.both = (Scale(least=base, base=base, steps=FINE) for _ in range(3))


class Traffic(NamedTuple):
    """What is drawn, in the user's unit per second. `number` is that of the newest sample."""

    up: NDArray[np.float64]
    down: NDArray[np.float64]
    number: int
    step: float

    @property
    def minutes(self) -> str:
        """How much time it is, for a title."""
        return f"{round(len(self.up) * self.step / 60)} min"


def traffic_of(history: HistoryPicture, look: Look) -> Traffic:
    """The part of the history that is shown, in the unit of `look`, gaps where there is nothing yet."""
    span = next((span for span in _SPANS if len(history.up) <= span), SAMPLES)
    factor = 8.0 if look.bits else 1.0
    return Traffic(
        _window(history.up, span) * factor, _window(history.down, span) * factor, history.count, history.step
    )


def throughput_strips(
    history: HistoryPicture, scales: Scales, width: int, height: int, brush: Brush, *, framed: bool = True
) -> list[Strip]:
    """The whole pane, frame and all. `scales` follow what is drawn."""
    traffic = traffic_of(history, scales.look)
    inner = height - (2 if framed else 1)
    if inner > _LOW and framed and width - 2 >= _WIDE:
        return _two_boxes(traffic, scales, width, height, brush)
    unit = _unit(scales.look)
    heading, note = f"Up and down  {unit}  {traffic.minutes}", _peaks(traffic, scales.look)
    side = 2 if framed else 0
    if inner > _LOW:
        lines = mirrored(traffic, scales, width - side, inner, brush)
    else:
        lines, note = rate_lines(traffic, scales, width - side, brush)[: max(0, inner)], ""
    if not framed:
        return [rule_line(width, heading, note, brush), *lines]
    return _boxed(lines, width, heading, note, brush)


@dataclass(frozen=True, slots=True)
class _Panel:
    """One direction: what it is called, its values and its scale."""

    word: str
    role: str
    values: NDArray[np.float64]
    scale: Scale


def _panels(traffic: Traffic, scales: Scales) -> tuple[_Panel, _Panel]:
    return (
        _Panel("up", "plot-up", traffic.up, scales.up),
        _Panel("dn", "plot-down", traffic.down, scales.down),
    )


def rate_lines(traffic: Traffic, scales: Scales, width: int, brush: Brush) -> list[Strip]:
    """A line for each direction: rate now, its course, and the peak where there is room."""
    lines = []
    for panel in _panels(traffic, scales):
        now = rate_text(_bytes(_last(panel.values), scales.look), scales.look)
        peak = f"  peak {rate_text(_bytes(highest(panel.values), scales.look), scales.look):>7} "
        head = f" {panel.word} {now:>7}/s "
        peak = peak if width - len(head) - len(peak) >= len(peak) else " "
        room = max(0, width - len(head) - len(peak))
        top = panel.scale.fit(highest(binned(panel.values, max(1, room), traffic.number)))
        course = sparkline(panel.values, room, top=top, ascii=brush.ascii, count=traffic.number)
        text = brush.palette.style("text")
        lines.append(
            _strip(
                (head, text), (course, brush.palette.style(panel.role)), (peak, brush.palette.style("muted"))
            )
        )
    return lines


def mirrored(traffic: Traffic, scales: Scales, width: int, height: int, brush: Brush) -> list[Strip]:
    """Up above the zero line, down below it, on one scale. An odd height leaves a line for the times."""
    room, half = max(0, width - LABEL - 1), height // 2
    top = scales.both.fit(
        max(_drawn(values, room, brush, traffic.number) for values in (traffic.up, traffic.down))
    )
    label = _label(top, scales.look)
    between = height % 2
    up_labels, down_labels = [""] * half, [""] * half
    up_labels[0] = down_labels[-1] = label
    if half > 1:
        up_labels[-1] = "up" if between else "up   0"
        down_labels[0] = "dn"
    if half >= _LOW:
        middle = _label(top / 2, scales.look)
        up_labels[half // 2] = down_labels[(half - 1) // 2] = middle
    rising, hanging = (
        plot_lines(values, room, half, top=top, ascii=brush.ascii, hanging=down, count=traffic.number)
        for values, down in ((traffic.up, False), (traffic.down, True))
    )
    lines = _with_axis(up_labels, rising, brush, "plot-up")
    if between:
        lines.append(_time_line(traffic, room, brush, label="0"))
    return lines + _with_axis(down_labels, hanging, brush, "plot-down")


def _two_boxes(traffic: Traffic, scales: Scales, width: int, height: int, brush: Brush) -> list[Strip]:
    left = width // 2
    boxes = [
        _one_box(panel, traffic, scales.look, room, height, brush)
        for panel, room in zip(_panels(traffic, scales), (left, width - left), strict=True)
    ]
    return [Strip.join(pair) for pair in zip(*boxes, strict=True)]


def _one_box(
    panel: _Panel, traffic: Traffic, look: Look, width: int, height: int, brush: Brush
) -> list[Strip]:
    word = "Up" if panel.word == "up" else "Down"
    lines = _area(panel, traffic, look, width - 2, height - 2, brush)
    now, peak = (
        rate_text(_bytes(value, look), look) for value in (_last(panel.values), highest(panel.values))
    )
    return _boxed(lines, width, f"{word}  {_unit(look)}  {traffic.minutes}", f"now {now}  peak {peak}", brush)


def _area(panel: _Panel, traffic: Traffic, look: Look, width: int, height: int, brush: Brush) -> list[Strip]:
    """One direction with its axis, and the times below where there is room."""
    room = max(0, width - LABEL - 1)
    top = panel.scale.fit(_drawn(panel.values, room, brush, traffic.number))
    rows = height - 1 if height >= _TIMES_FROM else height
    labels = [""] * rows
    labels[0], labels[rows // 2], labels[-1] = _label(top, look), _label(top / 2, look), "0"
    drawn = plot_lines(panel.values, room, rows, top=top, ascii=brush.ascii, count=traffic.number)
    lines = _with_axis(labels, drawn, brush, panel.role)
    return lines if rows == height else [*lines, _time_line(traffic, room, brush)]


def time_marks(seconds: float, width: int, across: str = " ") -> str:
    """A line of `width` cells from `seconds` ago to now, with a mark at each round time.

    >>> time_marks(60, 30)
    '-1m         -30s           now'
    """
    step = next((step for step in _TIME_STEPS if seconds / step * _TIME_ROOM <= width), seconds)
    cells = list(across * width)
    taken = width + 1
    for number in range(int(seconds / step) + 1):
        text = _ago(number * step)
        place = round((1 - number * step / seconds) * (width - 1)) - len(text) // 2
        place = min(max(0, place), width - len(text))
        if place < 0 or place + len(text) >= taken:
            continue
        cells[place : place + len(text)] = text
        taken = place
        for gap in (place - 1, place + len(text)):
            if 0 <= gap < width:
                cells[gap] = " "
    return "".join(cells)


def _time_line(traffic: Traffic, room: int, brush: Brush, *, label: str = "") -> Strip:
    """The times; as the zero line between two areas when it has a label."""
    across, corner = ("-", "+") if brush.ascii else ("─", "┼")
    marks = time_marks(len(traffic.up) * traffic.step, room, across if label else " ")
    return _strip(
        (f"{label:>{LABEL - 1}} {corner if label else ' '}{marks}", brush.palette.style("plot-axis"))
    )


def _with_axis(labels: Sequence[str], lines: Sequence[str], brush: Brush, role: str) -> list[Strip]:
    tick, plain = ("+", "|") if brush.ascii else ("┤", "│")
    axis, style = brush.palette.style("plot-axis"), brush.palette.style(role)
    return [
        _strip((f"{label:>{LABEL - 1}} {tick if label else plain}", axis), (line, style))
        for label, line in zip(labels, lines, strict=True)
    ]


def _boxed(lines: Sequence[Strip], width: int, heading: str, note: str, brush: Brush) -> list[Strip]:
    inner = (with_sides(line.adjust_cell_length(max(0, width - 2)), brush) for line in lines)
    return [top_line(width, heading, note, brush), *inner, bottom_line(width, "", "", brush)]


def _strip(*pieces: tuple[str, Style]) -> Strip:
    return Strip(
        [Segment(text, style) for text, style in pieces if text], sum(len(text) for text, _ in pieces)
    )


def _window(series: Floats, span: int) -> NDArray[np.float64]:
    """The newest `span` samples; not known before the first."""
    values = np.asarray(series, np.float64)[-span:]
    return np.concatenate((np.full(span - len(values), np.nan), values))


def _drawn(values: Floats, room: int, brush: Brush, count: int) -> float:
    """The highest of what a plot of that width draws."""
    columns = room if brush.ascii else room * 2
    return highest(binned(values, max(1, columns), count))


def _last(values: Floats) -> float:
    return float(values[-1]) if len(values) else np.nan


def _bytes(value: float, look: Look) -> float:
    return value / 8 if look.bits else value


def _label(value: float, look: Look) -> str:
    return rate_text(_bytes(value, look), look)


def _unit(look: Look) -> str:
    return "bit/s" if look.bits else "byte/s"


def _peaks(traffic: Traffic, look: Look) -> str:
    up, down = (rate_text(_bytes(highest(values), look), look) for values in (traffic.up, traffic.down))
    return f"peak {up} / {down}"


def _ago(seconds: float) -> str:
    if not seconds:
        return "now"
    return f"-{round(seconds / 60)}m" if not seconds % 60 else f"-{round(seconds)}s"
