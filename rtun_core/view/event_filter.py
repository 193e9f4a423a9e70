"""The filter grammar over events: for the option `--filter` of `--json` and of `rtun events`.

    tunnel=t4 level>=warning     type~^agent     flow.moved     reason:expired !type=flow.closed

Fields are those of the JSON form; a bare word searches the type and the text. `level` is ordered:
debug, info, warning, error. An event without a field passes no comparison of it but `!=`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, assert_never

import msgspec

from rtun_core.event import Event, Level, Stamped
from rtun_core.events import event_types
from rtun_core.view.filter_predicates import (
    ORDERS,
    Contains,
    Equals,
    Matches,
    NumberTest,
)
from rtun_core.view.filter_text import And, Compare, Expr, FilterError, Named, Not, Or, Word, parse_filter
from rtun_core.view.pattern import PatternError, compile_pattern

EventFilter = Callable[[Stamped], bool]

_LEVELS = {level.name.lower(): level for level in Level}
_ENVELOPE = frozenset({"type", "level", "text", "seq"})
_ORDER = (">", ">=", "<", "<=")


def event_fields_known() -> frozenset[str]:
    """Every field that an event can be filtered by."""
    own = {field.name for kind in event_types().values() for field in msgspec.structs.fields(kind)}
    return _ENVELOPE | own


def compile_event_filter(text: str) -> EventFilter:
    """A predicate over events. Raises FilterError with the place of the mistake; blank text passes all."""
    expr = parse_filter(text)
    return _everything if expr is None else _compile(expr)


def _everything(_stamped: Stamped) -> bool:
    return True


def _compile(expr: Expr) -> EventFilter:
    match expr:
        case And():
            every = [_compile(term) for term in expr.terms]
            return lambda stamped: all(term(stamped) for term in every)
        case Or():
            either = [_compile(term) for term in expr.terms]
            return lambda stamped: any(term(stamped) for term in either)
        case Not():
            inner = _compile(expr.term)
            return lambda stamped: not inner(stamped)
        case Word():
            found = Contains([expr.text])
            return lambda stamped: found(_tag(stamped.event)) or found(stamped.event.text())
        case Named():
            raise FilterError(f"@{expr.name} is not for events", column=expr.column)
        case Compare():
            return _compare(expr)
        case _:
            assert_never(expr)


def _compare(expr: Compare) -> EventFilter:
    field = expr.field.lower()
    if field not in event_fields_known():
        known = ", ".join(sorted(event_fields_known()))
        raise FilterError(f"events have no field {expr.field!r}; accepted: {known}", column=expr.column)
    test = _level_test(expr) if field == "level" else _value_test(expr)
    opposite = expr.op == "!="

    def passes(stamped: Stamped) -> bool:
        value = _value(stamped, field)
        return opposite if value is None else test(value) is not opposite

    return passes


def _level_test(expr: Compare) -> Callable[[Any], bool]:
    if expr.op not in ORDERS:
        raise FilterError(f"a level is ordered and cannot be compared with {expr.op}", column=expr.column)
    for place, value in enumerate(expr.values):
        if value.lower() not in _LEVELS:
            known = ", ".join(_LEVELS)
            raise FilterError(f"{value!r} is no level; accepted: {known}", column=expr.place(place))
    order, wanted = ORDERS[expr.op], [_LEVELS[value.lower()] for value in expr.values]
    return lambda level: any(order(level, each) for each in wanted)


def _value_test(expr: Compare) -> Callable[[Any], bool]:
    """Numbers are compared as such, everything else as text."""
    if expr.op == "~":
        return Matches([_pattern(value, expr.place(place)) for place, value in enumerate(expr.values)])
    numbers = [_number(value) for value in expr.values]
    if expr.op in _ORDER:
        if None in numbers:
            raise FilterError(f"{expr.op} compares with a number", column=expr.column)
        ordered = NumberTest(expr.op, [number for number in numbers if number is not None])
        return lambda value: isinstance(value, int | float) and ordered(value)
    text = Contains(expr.values) if expr.op == ":" else Equals(expr.values)
    equal = NumberTest("=", [number for number in numbers if number is not None] or [float("nan")])
    return lambda value: equal(value) if _is_number(value) else text(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pattern(text: str, place: int) -> re.Pattern[str]:
    try:
        return compile_pattern(text)
    except PatternError as error:
        raise FilterError(str(error), column=place + error.offset) from None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _tag(event: Event) -> str:
    return str(event.__struct_config__.tag)


def _value(stamped: Stamped, field: str) -> Any:
    event = stamped.event
    if field == "type":
        return _tag(event)
    if field == "level":
        return event.severity
    if field == "text":
        return event.text()
    if field == "seq":
        return stamped.seq
    value = getattr(event, field, None)
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join(map(str, value)) if isinstance(value, tuple | dict) else value
