"""One line of the table that `make bench` prints."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """What was measured, the figure with its unit, and what it should stay below or above."""

    name: str
    value: float
    unit: str
    target: str = ""


def table(rows: list[Row]) -> str:
    """The rows as aligned text."""
    width = max(len(row.name) for row in rows)
    lines = [f"{row.name:<{width}}  {row.value:>10.3f} {row.unit:<10} {row.target}".rstrip() for row in rows]
    return "\n".join(lines)
