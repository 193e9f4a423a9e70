"""A value as the text of its cell."""

from __future__ import annotations

from typing import Any, assert_never

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


def cell_text(column: Column, row: Any, look: Look, now: float) -> str:
    """What stands in this column for this row, without padding; `-` where there is no value."""
    if column.text is not None:
        return visible(column.text(row))
    value = column.value(row, now)
    if value is None or value == "":
        return UNKNOWN
    return _write(column.kind, value, look)


def visible(text: str) -> str:
    """Text from elsewhere that is safe to draw.

    Characters that steer a terminal, change the direction of writing or cannot be seen are left out,
    other white space becomes a space.
    """
    if text.isprintable():
        return text
    spaced = "".join(" " if each.isspace() else each for each in text)
    return "".join(each for each in spaced if each.isprintable())


def _write(kind: Kind, value: Any, look: Look) -> str:
    match kind:
        case Kind.RATE:
            return rate_text(value, look)
        case Kind.BYTES:
            return bytes_text(value, look)
        case Kind.COUNT:
            return count_text(value)
        case Kind.SECONDS:
            return seconds_text(value)
        case Kind.MILLIS:
            return millis_text(value)
        case Kind.SHARE:
            return share_text(value)
        case Kind.FLAG:
            return "yes" if value else "no"
        case Kind.STATE:
            return str(value)
        case Kind.ADDRESS:
            return address_text(visible(value), look)
        case Kind.TEXT:
            return masked_text(visible(value)) if look.private else visible(value)
        case _:
            assert_never(kind)
