"""What a view asks for, and what it gets: one window of one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from rtun_core.view.column import TableId

MAX_LIMIT: Final = 2000
MAX_SORTS: Final = 8
MAX_MARKS: Final = 10_000
MAX_NAMED: Final = 200
MAX_FILTER: Final = 2000  # characters


class Sort(msgspec.Struct, frozen=True):
    """One column, by id or alias, to sort by."""

    column: str
    descending: bool = False


class ViewSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A filtered and sorted table, and the window of it that is wanted.

    `follow` is the key of a row whose place is wanted, `marks` the keys that `@marked` stands for, `named`
    the filters that other names with an `@` stand for.
    """

    table: TableId
    filter: Annotated[str, msgspec.Meta(max_length=MAX_FILTER)] = ""
    sort: Annotated[tuple[Sort, ...], msgspec.Meta(max_length=MAX_SORTS)] = ()
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)] = 64
    follow: str | None = None
    marks: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_MARKS)] = ()
    named: Annotated[tuple[tuple[str, str], ...], msgspec.Meta(max_length=MAX_NAMED)] = ()


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """The window. `total` rows are there, `shown` pass the filter, `rows[0]` is number `first` of those.

    `follow` is the place of the followed row among the shown, None if it is not there; `now` is the
    time of the picture in Unix seconds. Rows are `RuleView`, `AgentView`, `TunnelView` or `FlowView`, in a
    tuple unless something else is said.
    """

    table: TableId
    total: int
    shown: int
    first: int
    rows: Sequence[Any]
    follow: int | None = None
    now: float
