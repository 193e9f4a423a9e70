"""Comparisons over all flows at once: each on the form in which FlowRows holds the column."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rtun_core.flow_rows import FLOW_STATES, FlowRows, format_flow_id
from rtun_core.view.column import Column
from rtun_core.view.filter_predicates import Contains, Equals, InNetwork, NumberTest, TextTest, ValueTest

Mask = NDArray[np.bool_]

# column id -> index of each flow, and what the index points into
_DICTIONARIES: Mapping[str, Callable[[FlowRows], tuple[NDArray[Any], Sequence[str | None]]]] = (
    MappingProxyType(
        {
            "rule": lambda rows: (rows.rule, rows.rules),
            "dst": lambda rows: (rows.target, rows.targets),
            "tunnel": lambda rows: (rows.tunnel, rows.tunnels),
            "state": lambda rows: (rows.state, FLOW_STATES),
        }
    )
)
_FLOW_ID = re.compile(r"[0-9a-f]{8}|[1-9a-f][0-9a-f]{8,15}")
_HEX = re.compile(r"[0-9a-f]{1,16}")
_ID_DIGITS: Final = 8  # at least, see format_flow_id; ids above 32 bits have more


def column_mask(column: Column, test: ValueTest, rows: FlowRows, now: float) -> Mask:
    """Which flows have a value in this column that passes."""
    if column.array is not None:
        assert isinstance(test, NumberTest)
        return test.mask(column.array(rows, now))
    if column.id in _DICTIONARIES:
        return _dictionary_mask(column, test, rows)
    if column.id == "src":
        return _source_mask(test, rows)
    assert column.id == "flow", column.id
    return _id_mask(test, rows)


def marked_mask(ids: NDArray[np.uint64], rows: FlowRows) -> Mask:
    """Which flows have one of the ids."""
    return np.isin(rows.ids, ids)


def flow_ids(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Numbers of the texts that are ids of flows; other texts name no flow."""
    numbers = (int(text, 16) for text in texts if _FLOW_ID.fullmatch(text))
    return np.array(list(numbers), np.uint64)


def _dictionary_mask(column: Column, test: ValueTest, rows: FlowRows) -> Mask:
    index, entries = _DICTIONARIES[column.id](rows)
    passed = np.array([entry is not None and test(entry) for entry in entries], np.bool_)
    found: Mask = passed[index]
    return found


def _source_mask(test: ValueTest, rows: FlowRows) -> Mask:
    if not isinstance(test, InNetwork):
        assert isinstance(test, TextTest)
        return _text_mask(test, rows.source_texts())
    found = test.mask(rows.sources)
    if test.names.texts:
        found |= _text_mask(test.names, rows.source_texts())
    return found


def _id_mask(test: ValueTest, rows: FlowRows) -> Mask:
    if isinstance(test, Equals):
        return marked_mask(flow_ids(test.texts), rows)
    if isinstance(test, Contains):
        found: Mask = np.logical_or.reduce([_id_contains(needle, rows.ids) for needle in test.needles])
        return found
    assert isinstance(test, TextTest)
    return _text_mask(test, [format_flow_id(number) for number in rows.ids.tolist()])


def _id_contains(needle: str, ids: NDArray[np.uint64]) -> Mask:
    """Whether the hexadecimal text of each id holds the needle, without making that text."""
    if not needle or not _HEX.fullmatch(needle):
        return np.full(len(ids), not needle)
    wanted, bits = np.uint64(int(needle, 16)), 4 * len(needle)
    window = np.uint64((1 << bits) - 1)
    found = np.zeros(len(ids), np.bool_)
    longest = max(4 * _ID_DIGITS, int(ids.max(initial=0)).bit_length())
    for low in range(0, longest - bits + 4, 4):
        shifted = ids >> np.uint64(low)
        inside = (shifted & window) == wanted
        if low + bits > 4 * _ID_DIGITS:
            inside &= (shifted >> np.uint64(bits - 4)) != 0
        found |= inside
    return found


def _text_mask(test: TextTest, texts: Sequence[str]) -> Mask:
    return np.fromiter(test.over(texts), np.bool_, len(texts))
