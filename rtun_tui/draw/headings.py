"""Titles of panes: key, name, shown and total, how it is sorted and filtered."""

from __future__ import annotations

from collections.abc import Mapping

from rtun_core.view.columns import column_named
from rtun_core.view.units import count_text
from rtun_tui.table_state import TableState

NAMES: Mapping[str, str] = {
    "agents": "Agents",
    "tunnels": "Tunnels",
    "flows": "Flows",
    "events": "Events",
    "rules": "Rules",
}
KEYS: Mapping[str, str] = {"agents": "1", "tunnels": "2", "flows": "3", "events": "4", "rules": "5"}


def heading(pane: str, state: TableState | None = None, *, key: str | None = None) -> str:
    """`3 Flows 212 of 1,284`. `key` leads to the pane, by default that of the default keys."""
    name = f"{KEYS[pane] if key is None else key} {NAMES[pane]}".lstrip()
    page = state.page if state is not None else None
    if page is None:
        return name
    shown = count_text(page.shown)
    return f"{name} {shown}" if page.shown == page.total else f"{name} {shown} of {count_text(page.total)}"


def short_heading(pane: str, state: TableState | None = None, *, key: str | None = None) -> str:
    """`3 Flows 212/1,284`."""
    return heading(pane, state, key=key).replace(" of ", "/")


def places(state: TableState) -> str:
    """`1-25 of 1,276`: which rows are in sight; empty when all are."""
    if state.shown <= state.height:
        return ""
    return f"{state.top + 1:,}-{min(state.top + state.height, state.shown):,} of {state.shown:,}"


def sort_text(state: TableState, *, ascii: bool = False) -> str:
    """`by dn v`; empty without an order."""
    if not state.sort:
        return ""
    down, up = ("v", "^") if ascii else ("▾", "▴")
    names = ",".join(column_named(state.table, sort.column).id for sort in state.sort)
    return f"by {names} {down if state.sort[0].descending else up}"


def filter_text(state: TableState, sign: str = "") -> str:
    """`filter: dn>1M`; with a sign, which says that it takes long, `filter (80 ms): dn>1M`."""
    if not state.filter:
        return f"filter ({sign})" if sign else ""
    off = "" if state.filter_on else " off"
    return f"filter{off}{f' ({sign})' if sign else ''}: {state.filter}"


def note(state: TableState, *, ascii: bool = False, sign: str = "") -> str:
    """What stands at the right end of a title: marks, filter, order."""
    parts = []
    if state.marks:
        parts.append(f"{len(state.marks)} marked")
    parts.append(filter_text(state, sign))
    parts.append(sort_text(state, ascii=ascii))
    return "  ".join(part for part in parts if part)
