"""A value as the text of its cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from rtun_core.view.column import Column, Kind
from rtun_core.view.units import (
    UNKNOWN,
    Look,
    address_text,
    bytes_text,
    count_text,
    masked_text,
    millis_text,
    rate_text,
    seconds_text,
    share_text,
)

CellWriter = Callable[[Any, float], str]
"""Takes a row and the time of the picture in Unix seconds."""


def cell_text(column: Column, row: Any, look: Look, now: float) -> str:
    """What stands in this column for this row, without padding; `-` where there is no value."""
    return cell_writer(column, look)(row, now)


def cell_writer(column: Column, look: Look) -> CellWriter:
    """What writes the cells of a column: for whoever writes many, as it knows all but the row."""
    own, value_of, write = column.text, column.value, _WRITERS[column.kind]
    if own is not None:
        return lambda row, now: visible(own(row))

    def written(row: Any, now: float) -> str:
        value = value_of(row, now)
        return UNKNOWN if value is None or value == "" else write(value, look)

    return written


def visible(text: str) -> str:
    """Text from elsewhere that is safe to draw.

    Characters that steer a terminal, change the direction of writing or cannot be seen are left out,
    other white space becomes a space.
    """
    if text.isprintable():
        return text
    spaced = "".join(" " if each.isspace() else each for each in text)
    return "".join(each for each in spaced if each.isprintable())


def _text(value: Any, look: Look) -> str:
    return masked_text(visible(value)) if look.private else visible(value)


_WRITERS: Final[Mapping[Kind, Callable[[Any, Look], str]]] = {
    Kind.TEXT: _text,
    Kind.ADDRESS: lambda value, look: address_text(visible(value), look),
    Kind.STATE: lambda value, look: str(value),
    Kind.COUNT: lambda value, look: count_text(value),
    Kind.BYTES: bytes_text,
    Kind.RATE: rate_text,
    Kind.SECONDS: lambda value, look: seconds_text(value),
    Kind.MILLIS: lambda value, look: millis_text(value),
    Kind.SHARE: lambda value, look: share_text(value),
    Kind.FLAG: lambda value, look: "yes" if value else "no",
}
