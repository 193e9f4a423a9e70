"""In which order rows stand: a few as Python objects, very many flows column by column.

Text is ordered without case and with its numbers as numbers (`t2` before `t10`), the sources of flows by
their addresses. What has no value stands last whether the order descends or not; rows that are equal
stand in the order of their ids.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rtun_core.flow_rows import FLOW_STATES, FlowRows
from rtun_core.view.column import Column, TableId, Value
from rtun_core.view.columns import column_named, row_key
from rtun_core.view.page import Sort

Rows = NDArray[np.intp]
Key: TypeAlias = NDArray[Any]
"""Numbers that order rows when they ascend."""

_DIGITS: Final = re.compile(r"([0-9]+)")
_MAX_DIGITS: Final = 20  # of what is read as a number; more of them are text
_LAST: Final = np.iinfo(np.int64).max


class By(NamedTuple):
    """One column to sort by."""

    column: Column
    descending: bool


def sort_columns(table: TableId, sorts: Sequence[Sort]) -> tuple[By, ...]:
    """The columns of a spec, the most important one first. Raises UsageError for an unknown one."""
    return tuple(By(column_named(table, each.column), each.descending) for each in sorts)


def sorted_rows(table: TableId, rows: Sequence[Any], by: Sequence[By], now: float) -> list[Any]:
    """Rows of any table."""
    result = sorted(rows, key=lambda row: natural_key(row_key(table, row)))
    for column, descending in reversed(by):
        pairs = [(column.value(row, now), row) for row in result]
        some = [pair for pair in pairs if pair[0] is not None]
        some.sort(key=lambda pair: _value_key(pair[0]), reverse=descending)
        result = [row for _, row in some] + [row for value, row in pairs if value is None]
    return result


def flow_keys(rows: FlowRows, by: Sequence[By], now: float) -> list[Key]:
    """One key or more for each column, and one for the ids; the most important one first."""
    keys = [key for column, descending in by for key in _flow_keys(rows, column, now, descending=descending)]
    return [*keys, rows.ids]


def window(keys: Sequence[Key], first: int, last: int) -> Rows:
    """The rows at places first..last-1 of the order, in that order. Sorts little more than those."""
    return _window(keys, np.arange(len(keys[0])), first, last)


def place(keys: Sequence[Key], row: int) -> int:
    """The place of a row in the order."""
    before = 0
    same = np.arange(len(keys[0]))
    for key in keys:
        values = key[same]
        before += int(np.count_nonzero(values < key[row]))
        same = same[values == key[row]]
    return before + int(np.count_nonzero(same < row))


@lru_cache(maxsize=4096)
def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """What orders text as people do."""
    return tuple(
        (0, int(part), "") if index % 2 and len(part) <= _MAX_DIGITS else (1, 0, part)
        for index, part in enumerate(_DIGITS.split(text.casefold()))
    )


def _value_key(value: Value) -> Any:
    return natural_key(value) if isinstance(value, str) else value


def _window(keys: Sequence[Key], rows: Rows, first: int, last: int) -> Rows:
    # Rows that are surely outside fall away by one pass over the first key. Those that tie with one of
    # the ends are told apart by the keys that follow: most flows are silent, so very many tie at 0.
    if not keys or first >= last:
        return rows[first:last]
    key = keys[0][rows]
    if (last - first) * 4 >= len(rows):
        return rows[np.lexsort([each[rows] for each in reversed(keys)])[first:last]]
    low, high = np.partition(key, (first, last - 1))[[first, last - 1]]
    at_low = rows[key == low]
    first, last = (place - int(np.count_nonzero(key < low)) for place in (first, last))
    if low == high:
        return _window(keys[1:], at_low, first, last)
    between = rows[(low < key) & (key < high)]
    between = between[np.lexsort([each[between] for each in reversed(keys)])]
    last -= len(at_low) + len(between)
    at_high = _window(keys[1:], rows[key == high], 0, last)
    return np.concatenate((_window(keys[1:], at_low, first, len(at_low)), between, at_high))


def _flow_keys(rows: FlowRows, column: Column, now: float, *, descending: bool) -> Sequence[Key]:
    match column.id:
        case "flow":
            return (_directed(rows.ids, descending=descending),)
        case "src":
            return [_directed(key, descending=descending) for key in _source_keys(rows)]
        case "dst":
            return (_ranks(rows.targets, descending=descending)[rows.target],)
        case "tunnel":
            return (_ranks(rows.tunnels, descending=descending)[rows.tunnel],)
        case "rule":
            return (_ranks(rows.rules, descending=descending)[rows.rule],)
        case "state":
            return (_ranks(FLOW_STATES, descending=descending)[rows.state],)
        case _:
            assert column.array is not None
            return (_directed(column.array(rows, now), descending=descending),)


def _directed(key: Key, *, descending: bool) -> Key:
    """The key turned round if need be, with NaN at the end both ways."""
    if key.dtype.kind == "u":
        return ~key if descending else key
    key = -key if descending else key
    return np.where(np.isnan(key), np.inf, key) if key.dtype.kind == "f" else key


def _ranks(names: Sequence[str | None], *, descending: bool) -> Key:
    """The place of each name in the order of names."""
    known = sorted({natural_key(name) for name in names if name is not None}, reverse=descending)
    ranks = {key: rank for rank, key in enumerate(known)}
    return np.array([_LAST if name is None else ranks[natural_key(name)] for name in names], np.int64)


def _source_keys(rows: FlowRows) -> tuple[Key, Key, Key]:
    """Both halves of the address and the port: together they are ordered as the bytes are."""
    upper, lower = np.ascontiguousarray(rows.sources[:, :16]).view(">u8").astype(np.uint64).T
    port = np.ascontiguousarray(rows.sources[:, 16:]).view(">u2").astype(np.uint16)[:, 0]
    return np.ascontiguousarray(upper), np.ascontiguousarray(lower), port
