"""Every column that a user can see, sort by, filter by and export: the one registry of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from rtun_core.errors import UsageError
from rtun_core.view.agent_columns import AGENT_COLUMNS
from rtun_core.view.column import NUMBERS, TABLES, Column, Kind, TableId, Value
from rtun_core.view.flow_columns import FLOW_COLUMNS
from rtun_core.view.rule_columns import RULE_COLUMNS
from rtun_core.view.tunnel_columns import TUNNEL_COLUMNS
from rtun_core.view.units import Look

__all__ = [
    "COLUMNS",
    "NUMBERS",
    "TABLES",
    "Column",
    "Kind",
    "Look",
    "TableId",
    "Value",
    "column_named",
    "row_key",
]

COLUMNS: Final[Mapping[TableId, tuple[Column, ...]]] = MappingProxyType(
    {"rules": RULE_COLUMNS, "agents": AGENT_COLUMNS, "tunnels": TUNNEL_COLUMNS, "flows": FLOW_COLUMNS}
)

_BY_NAME: Final[Mapping[TableId, Mapping[str, Column]]] = {
    table: {name: column for column in columns for name in (column.id, *column.aliases)}
    for table, columns in COLUMNS.items()
}


def column_named(table: TableId, name: str) -> Column:
    """The column with this id or alias. Raises UsageError with all ids."""
    column = _BY_NAME[table].get(name)
    if column is None:
        known = ", ".join(each.id for each in COLUMNS[table])
        raise UsageError(f"{name!r} is not a column of {table}; accepted: {known}")
    return column


def row_key(table: TableId, row: Any) -> str:
    """What a row is found again by: the id of the rule, agent, tunnel or flow."""
    return str(row.id)
