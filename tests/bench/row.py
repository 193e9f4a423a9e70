"""One line of the table that `make bench` prints."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """What was measured: a figure with its unit and what it should stay below or above.

    Where it was measured several times, `value` is the median, and `low` and `high` are the extremes.
    """

    name: str
    value: float
    unit: str
    target: str = ""
    low: float | None = None
    high: float | None = None
    note: str = ""


def row_of(name: str, values: Sequence[float], unit: str, *, target: str = "", note: str = "") -> Row:
    """The row of several measurements of one thing."""
    return Row(name, statistics.median(values), unit, target, min(values), max(values), note)


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    head = ("what", "median", "min", "max", "unit", "target", "note")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(_aligned(line, widths) for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    low, high = (_figure(row.low), _figure(row.high))
    return (row.name, _figure(row.value), low, high, row.unit, row.target, row.note)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        text.rjust(width) if 1 <= column <= 3 else text.ljust(width)
        for column, (text, width) in enumerate(zip(line, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()
