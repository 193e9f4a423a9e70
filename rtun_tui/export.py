"""Rows as CSV or NDJSON: what is shown, with the columns that are shown. Pure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from rtun_core.view.cells import visible
from rtun_core.view.columns import COLUMNS, Column, Kind, TableId, column_named
from rtun_core.view.units import Look, address_text, masked_text

Form = Literal["csv", "ndjson"]
FORMS: tuple[Form, ...] = ("csv", "ndjson")

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last ones are full-width forms


def export_text(
    form: str,
    table: TableId,
    rows: Iterable[Any],
    look: Look,
    now: float,
    *,
    columns: Sequence[str] = (),
) -> str:
    """Values as they are, not as they are drawn: bytes per second, seconds, shares of 1.

    All columns unless `columns` names some. Only the privacy mask of `look` applies: what is hidden on the
    screen stays hidden.
    """
    chosen = [column_named(table, name) for name in columns] or _all(table)
    records = [{column.id: _value(column, row, look, now) for column in chosen} for row in rows]
    return _csv(chosen, records) if form == "csv" else _ndjson(records)


def _all(table: TableId) -> list[Column]:
    return list(COLUMNS[table])


def _value(column: Column, row: Any, look: Look, now: float) -> Any:
    value = column.value(row, now)
    if isinstance(value, float) and math.isnan(value):
        return None
    if look.private and isinstance(value, str) and column.kind is not Kind.STATE:
        return address_text(value, look) if column.kind is Kind.ADDRESS else masked_text(value)
    return value


def _csv(columns: Sequence[Column], records: Iterable[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, [column.id for column in columns], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in record.items()} for record in records)
    return out.getvalue()


def _harmless(value: Any) -> Any:
    """A text from a peer must neither steer a terminal nor become a formula in a spreadsheet."""
    if not isinstance(value, str):
        return value
    text = visible(value).strip()
    return f"'{text}" if text.startswith(_FORMULA) and text != "-" else text


def _ndjson(records: Iterable[dict[str, Any]]) -> str:
    return "".join(msgspec.json.encode(record).decode() + "\n" for record in records)
