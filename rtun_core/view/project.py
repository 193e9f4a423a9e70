"""From a snapshot and a spec to a page: filter, sort, and only then rows, those of the window.

Measured on two shared cores: a filter by a number, a sort by a rate, a window of 200 rows take 1.5 ms of
10,000 flows and 7 ms of 100,000; by source, both families mixed, 2 and 13 ms.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from rtun_core.errors import UsageError
from rtun_core.flow_rows import FlowRows, format_flow_id
from rtun_core.model import FlowView, Snapshot
from rtun_core.view.columns import TABLES, TableId, row_key
from rtun_core.view.filter import RowFilter, compile_filter
from rtun_core.view.filter_text import parse_filter
from rtun_core.view.page import MAX_FILTER, MAX_LIMIT, MAX_MARKS, MAX_SORTS, Page, ViewSpec
from rtun_core.view.row_order import flow_keys, place, sort_columns, sorted_rows, window

_NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})


class _Found(NamedTuple):
    """What a page is made of."""

    total: int
    shown: int
    first: int
    rows: Sequence[Any]
    follow: int | None


def project(snapshot: Snapshot, spec: ViewSpec) -> Page:
    """The page that a spec asks for. Raises UsageError, FilterError among them, for a bad spec.

    Where rows are fewer than the window's offset wants, the window is the last full one. The snapshot's
    flows may be a `FlowRows` or any sequence of rows.
    """
    page = cut_out(snapshot, spec)
    return msgspec.structs.replace(page, rows=tuple(page.rows))


def cut_out(snapshot: Snapshot, spec: ViewSpec) -> Page:
    """The same page, for one who does not need its rows one by one: those of flows stay in a `FlowRows`."""
    _check(spec)
    found = _flows(snapshot, spec) if spec.table == "flows" else _rows(snapshot, spec)
    return Page(
        table=spec.table,
        total=found.total,
        shown=found.shown,
        first=found.first,
        rows=found.rows,
        follow=found.follow,
        now=snapshot.ts,
    )


def select_keys(
    snapshot: Snapshot,
    table: TableId,
    filter_text: str,
    marks: Collection[str] = (),
    named: Mapping[str, str] = _NO_NAMES,
) -> list[str]:
    """Keys of all rows that pass, in the snapshot's order. Raises FilterError."""
    wanted = compile_filter(parse_filter(filter_text), table, marks=marks, named=named)
    if table == "flows":
        rows = as_flow_rows(snapshot.flows)
        return [format_flow_id(number) for number in rows.ids[wanted.mask(rows, snapshot.ts)].tolist()]
    return [row_key(table, row) for row in _table(snapshot, table) if wanted.matches(row, snapshot.ts)]


def as_flow_rows(flows: Sequence[FlowView]) -> FlowRows:
    """The flows of a snapshot in columns, whatever form they have. Raises ValueError for foreign rows."""
    return flows if isinstance(flows, FlowRows) else FlowRows.of(flows)


def _flows(snapshot: Snapshot, spec: ViewSpec) -> _Found:
    rows, now = as_flow_rows(snapshot.flows), snapshot.ts
    wanted = _filter(spec)
    keys = flow_keys(rows, sort_columns("flows", spec.sort), now)
    passed: NDArray[np.intp] = np.arange(len(rows))
    if wanted is not None:
        passed = np.flatnonzero(wanted.mask(rows, now))
        keys = [key[passed] for key in keys]
    first, last = _bounds(spec, len(passed))
    shown = rows.take(passed[window(keys, first, last)])
    return _Found(len(rows), len(passed), first, shown, _flow_place(rows, passed, keys, spec.follow))


def _flow_place(
    rows: FlowRows, passed: NDArray[np.intp], keys: Sequence[NDArray[Any]], follow: str | None
) -> int | None:
    index = None if follow is None else rows.index_of(follow)
    if index is None:
        return None
    row = int(np.searchsorted(passed, index))
    return place(keys, row) if row < len(passed) and passed[row] == index else None


def _rows(snapshot: Snapshot, spec: ViewSpec) -> _Found:
    table, now = spec.table, snapshot.ts
    rows = _table(snapshot, table)
    wanted = _filter(spec)
    passed = [row for row in rows if wanted is None or wanted.matches(row, now)]
    ordered = sorted_rows(table, passed, sort_columns(table, spec.sort), now)
    first, last = _bounds(spec, len(ordered))
    places = (index for index, row in enumerate(ordered) if row_key(table, row) == spec.follow)
    return _Found(len(rows), len(ordered), first, ordered[first:last], next(places, None))


def _table(snapshot: Snapshot, table: TableId) -> Sequence[Any]:
    rows: Sequence[Any] = getattr(snapshot, table)
    return rows


def _bounds(spec: ViewSpec, shown: int) -> tuple[int, int]:
    first = max(0, min(spec.offset, shown - spec.limit))
    return first, min(first + spec.limit, shown)


def _filter(spec: ViewSpec) -> RowFilter | None:
    return _compiled(spec.filter, spec.table, spec.marks, spec.named) if spec.filter.strip() else None


@lru_cache(maxsize=32)
def _compiled(
    text: str, table: TableId, marks: tuple[str, ...], named: tuple[tuple[str, str], ...]
) -> RowFilter:
    return compile_filter(parse_filter(text), table, marks=marks, named=dict(named))


def _check(spec: ViewSpec) -> None:
    """Bounds that decoding a spec checks as well, for those that were made here."""
    limits = (
        ("table", spec.table in TABLES, ", ".join(TABLES)),
        ("offset", spec.offset >= 0, "0 or more"),
        ("limit", 1 <= spec.limit <= MAX_LIMIT, f"1 to {MAX_LIMIT}"),
        ("sort", len(spec.sort) <= MAX_SORTS, f"up to {MAX_SORTS} columns"),
        ("marks", len(spec.marks) <= MAX_MARKS, f"up to {MAX_MARKS} keys"),
        ("filter", len(spec.filter) <= MAX_FILTER, f"up to {MAX_FILTER} characters"),
    )
    for name, good, accepted in limits:
        if not good:
            raise UsageError(f"{name} of a view is out of bounds; accepted: {accepted}")
