"""Filters as predicates: a tree of filter_text becomes a RowFilter for one table.

A RowFilter is asked about one row of any table, or about all flows at once; both answers agree.
Compiling finds every mistake that the text can have, so that a filter, once made, fails only with
SlowPattern: when a regular expression takes too long for all flows.

How a value is read depends on the column's kind (view/columns.py, view/filter_values.py):

    text, state   ":" contains, "=" equals, both ignore case; "~" Python regular expression, case counts
    address       the same, and "=" with a network, an address or address:port
    numbers       ":" and "=" equal, ">" ">=" "<" "<="; units by kind
    flag          ":" and "=" with yes or no

A missing value (None, NaN) passes no comparison but "!=".
"""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol, assert_never

import numpy as np

from rtun_core.errors import UsageError
from rtun_core.flow_rows import FlowRows
from rtun_core.view.column import NUMBERS, Column, Kind, TableId
from rtun_core.view.columns import COLUMNS, column_named, row_key
from rtun_core.view.filter_flows import Mask, column_mask, flow_ids, marked_mask
from rtun_core.view.filter_predicates import (
    ORDERS,
    Contains,
    Equals,
    FlagTest,
    InNetwork,
    Matches,
    NumberTest,
    ValueTest,
)
from rtun_core.view.filter_text import (
    And,
    Compare,
    Expr,
    FilterError,
    Named,
    Not,
    Op,
    Or,
    Word,
    parse_filter,
)
from rtun_core.view.filter_values import read_flag, read_network, read_number
from rtun_core.view.pattern import PatternError, compile_pattern

TEXT_KINDS: Final = frozenset({Kind.TEXT, Kind.STATE, Kind.ADDRESS})
_TEXT_OPS: Final = (":", "=", "!=", "~")
_FLAG_OPS: Final = (":", "=", "!=")


class RowFilter(Protocol):
    """Which rows are shown."""

    def matches(self, row: Any, now: float) -> bool:
        """Whether one row (a view of model.py) of the table passes at the Unix time `now`."""

    def mask(self, rows: FlowRows, now: float) -> Mask:
        """Which flows pass; only a filter of the table of flows can be asked."""


def compile_filter(
    expr: Expr | None,
    table: TableId,
    *,
    marks: Collection[str] = (),
    named: Mapping[str, str] = MappingProxyType({}),
) -> RowFilter:
    """Make the predicate of a tree. Raises FilterError: unknown column or @name, bad operator or value.

    `@marked` are the rows with a key in `marks`, `@all` every row, any other name a filter text of `named`.
    """
    if expr is None:
        return _Everything()
    return _Compiler(table, frozenset(marks), named).compile(expr)


class _Everything:
    def matches(self, row: Any, now: float) -> bool:
        return True

    def mask(self, rows: FlowRows, now: float) -> Mask:
        return np.ones(len(rows), np.bool_)


class _AllOf:
    def __init__(self, terms: Iterable[RowFilter]) -> None:
        self._terms = tuple(terms)

    def matches(self, row: Any, now: float) -> bool:
        return all(term.matches(row, now) for term in self._terms)

    def mask(self, rows: FlowRows, now: float) -> Mask:
        found = self._terms[0].mask(rows, now)
        for term in self._terms[1:]:
            found &= term.mask(rows, now)
        return found


class _AnyOf:
    def __init__(self, terms: Iterable[RowFilter]) -> None:
        self._terms = tuple(terms)

    def matches(self, row: Any, now: float) -> bool:
        return any(term.matches(row, now) for term in self._terms)

    def mask(self, rows: FlowRows, now: float) -> Mask:
        found = self._terms[0].mask(rows, now)
        for term in self._terms[1:]:
            found |= term.mask(rows, now)
        return found


class _Opposite:
    def __init__(self, term: RowFilter) -> None:
        self._term = term

    def matches(self, row: Any, now: float) -> bool:
        return not self._term.matches(row, now)

    def mask(self, rows: FlowRows, now: float) -> Mask:
        return ~self._term.mask(rows, now)


class _Marked:
    def __init__(self, table: TableId, marks: frozenset[str]) -> None:
        self._table = table
        self._marks = marks
        self._ids = flow_ids(marks)

    def matches(self, row: Any, now: float) -> bool:
        return row_key(self._table, row) in self._marks

    def mask(self, rows: FlowRows, now: float) -> Mask:
        return marked_mask(self._ids, rows)


class _ColumnPasses:
    def __init__(self, column: Column, test: ValueTest) -> None:
        self._column = column
        self._test = test

    def matches(self, row: Any, now: float) -> bool:
        value = self._column.value(row, now)
        return value is not None and self._test(value)

    def mask(self, rows: FlowRows, now: float) -> Mask:
        return column_mask(self._column, self._test, rows, now)


class _Compiler:
    """One compilation. `opened` are the @names being read, outermost first."""

    def __init__(
        self, table: TableId, marks: frozenset[str], named: Mapping[str, str], opened: tuple[str, ...] = ()
    ) -> None:
        self._table = table
        self._marks = marks
        self._named = named
        self._opened = opened

    def compile(self, expr: Expr) -> RowFilter:
        match expr:
            case And(terms):
                return _AllOf(self.compile(term) for term in terms)
            case Or(terms):
                return _AnyOf(self.compile(term) for term in terms)
            case Not(term):
                return _Opposite(self.compile(term))
            case Word(text):
                return self._word(text)
            case Named():
                return self._name(expr)
            case Compare():
                return self._comparison(expr)
            case _:
                assert_never(expr)

    def _word(self, text: str) -> RowFilter:
        test = Contains((text,))
        columns = (column for column in COLUMNS[self._table] if column.kind in TEXT_KINDS)
        return _AnyOf(_ColumnPasses(column, test) for column in columns)

    def _name(self, expr: Named) -> RowFilter:
        if expr.name == "marked":
            return _Marked(self._table, self._marks)
        if expr.name == "all":
            return _Everything()
        if expr.name not in self._named:
            known = ", ".join(f"@{name}" for name in sorted({"all", "marked", *self._named}))
            raise FilterError(f"@{expr.name} is not known; known are {known}", column=expr.column)
        if expr.name in self._opened:
            raise FilterError(f"@{expr.name} is made of itself", column=expr.column)
        return self._nested(expr)

    def _nested(self, expr: Named) -> RowFilter:
        inner = _Compiler(self._table, self._marks, self._named, (*self._opened, expr.name))
        try:
            tree = parse_filter(self._named[expr.name])
            return _Everything() if tree is None else inner.compile(tree)
        except FilterError as error:
            raise FilterError(f"in @{expr.name}: {error}", column=expr.column) from error

    def _comparison(self, expr: Compare) -> RowFilter:
        try:
            column = column_named(self._table, expr.field)
        except UsageError as error:
            raise FilterError(str(error), column=expr.column) from error
        _check_op(column, expr)
        found = _ColumnPasses(column, _test_of(column.kind, expr))
        return _Opposite(found) if expr.op == "!=" else found


def _check_op(column: Column, expr: Compare) -> None:
    accepted: Iterable[Op | str] = tuple(ORDERS)
    if column.kind in TEXT_KINDS:
        accepted = _TEXT_OPS
    elif column.kind is Kind.FLAG:
        accepted = _FLAG_OPS
    if expr.op not in accepted:
        words = " ".join(accepted)
        raise FilterError(
            f'"{expr.op}" does not work with {expr.field} ({column.kind}); accepted are {words}',
            column=expr.column + len(expr.field),
        )


def _test_of(kind: Kind, expr: Compare) -> ValueTest:
    values = tuple(enumerate(expr.values))
    if kind in NUMBERS:
        return NumberTest(expr.op, [_read(expr, index, read_number, value, kind) for index, value in values])
    if kind is Kind.FLAG:
        return FlagTest([_read(expr, index, read_flag, value) for index, value in values])
    if expr.op == ":":
        return Contains(expr.values)
    if expr.op == "~":
        return Matches([_read(expr, index, compile_pattern, value) for index, value in values])
    if kind is not Kind.ADDRESS:
        return Equals(expr.values)
    networks = [_read(expr, index, read_network, value) for index, value in values]
    names = [value for value, network in zip(expr.values, networks, strict=True) if network is None]
    return InNetwork([network for network in networks if network is not None], names)


def _read(expr: Compare, index: int, reader: Any, *arguments: Any) -> Any:
    try:
        return reader(*arguments)
    except UsageError as error:
        offset = error.offset if isinstance(error, PatternError) else 0
        raise FilterError(str(error), column=expr.place(index) + offset) from error
