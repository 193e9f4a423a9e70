"""What a column is."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from numpy.typing import NDArray

from rtun_core.flow_rows import FlowRows

TableId = Literal["rules", "agents", "tunnels", "flows"]
TABLES: Final[tuple[TableId, ...]] = ("rules", "agents", "tunnels", "flows")

Value: TypeAlias = str | float | int | bool | None


class Kind(enum.StrEnum):
    """What a value is: how it is written, compared, and which units a filter takes."""

    TEXT = "text"
    ADDRESS = "address"
    STATE = "state"
    COUNT = "count"
    BYTES = "bytes"
    RATE = "rate"  # bytes per second
    SECONDS = "seconds"
    MILLIS = "millis"
    SHARE = "share"  # of 1
    FLAG = "flag"


NUMBERS: Final = frozenset({Kind.COUNT, Kind.BYTES, Kind.RATE, Kind.SECONDS, Kind.MILLIS, Kind.SHARE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column. `value` takes a row and the time of the picture in Unix seconds; None: there is none.

    `array` is the same for all rows of a `FlowRows`; text has none. `text` writes the cell where that of
    its kind would not do. `weight` is the share of spare room; priority 1 is never dropped and 9 first
    when there is no room; `shown` is for the default set; `twin` is what stands in its place when totals
    are shown instead of rates, and the other way round.
    """

    id: str
    aliases: tuple[str, ...] = ()
    title: str
    help: str
    kind: Kind
    value: Callable[[Any, float], Value]
    array: Callable[[FlowRows, float], NDArray[Any]] | None = None
    text: Callable[[Any], str] | None = None
    min_width: int
    width: int
    weight: int = 0
    priority: int = 5
    shown: bool = True
    twin: str | None = None

    @property
    def right(self) -> bool:
        """Whether it stands at the right of its room, as numbers do."""
        return self.kind in NUMBERS


def seconds_left(expires_at: float | None, now: float) -> float | None:
    """Time until then, not below 0; None for what does not end."""
    return None if expires_at is None else max(0.0, expires_at - now)
