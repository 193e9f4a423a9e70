"""What the user has arranged on the console: focus, tables, filters, units, pause. No Textual in here.

Widgets draw from it, keys and commands change it, and the engine never hears of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from rtun_core.event import Level
from rtun_core.view.columns import COLUMNS, TABLES, TableId
from rtun_core.view.page import Sort, ViewSpec
from rtun_core.view.units import Look
from rtun_tui.arrange import Wish
from rtun_tui.table_state import TableState

PANES: tuple[str, ...] = ("agents", "tunnels", "flows", "events", "rules")  # in the order of their keys
FIRST_SORT: Mapping[TableId, tuple[Sort, ...]] = {
    "agents": (Sort("exp", descending=True),),
    "tunnels": (Sort("flows", descending=True),),
    "flows": (Sort("dn", descending=True),),
    "rules": (Sort("rule"),),
}


def new_table(table: TableId, names: Mapping[str, str]) -> TableState:
    """A table as it is first shown."""
    columns = tuple(column.id for column in COLUMNS[table] if column.shown)
    return TableState(table=table, sort=FIRST_SORT[table], columns=columns, names=names)


@dataclass(frozen=True, slots=True)
class Aside:
    """What of a desk is about the rows of one source: cursors, marks, filters, a drawer, a held picture."""

    tables: Mapping[TableId, TableState]
    detail: bool
    paused_at: float | None


@dataclass(slots=True)
class Desk:
    """The arrangement. `pane` has the keyboard; `level` is the least level of events shown."""

    pane: str = "flows"
    filters: dict[str, str] = field(default_factory=dict)  # of saved views, by name
    tables: dict[TableId, TableState] = field(init=False)
    look: Look = field(default_factory=Look)
    zoom: bool = False
    detail: bool = False
    rules: bool = False
    paused_at: float | None = None
    level: Level = Level.INFO
    last_table: TableId = "flows"

    def __post_init__(self) -> None:
        """Every table as it is first shown; they share the filters."""
        self.tables = {table: new_table(table, self.filters) for table in TABLES}

    @property
    def table(self) -> TableState:
        """The table with the keyboard; behind the events, the one that had it last."""
        return self.tables[self.last_table]

    def focus(self, pane: str) -> None:
        """Give the keyboard to a pane. The table of rules gets its place when it is first asked for."""
        self.pane = pane
        for table in TABLES:
            if table == pane:
                self.last_table = table
        self.rules = self.rules or pane == "rules"

    def next_pane(self, step: int) -> None:
        """The pane after (1) or before (-1) this one, of those that are shown."""
        order = [
            pane
            for pane in ("agents", "tunnels", "rules", "flows", "events")
            if pane != "rules" or self.rules
        ]
        self.focus(order[(order.index(self.pane) + step) % len(order)] if self.pane in order else "flows")

    def look_with(self, **changes: bool) -> None:
        """Change how values are written."""
        self.look = replace(self.look, **changes)

    def wish(self, rows: Mapping[TableId, int]) -> Wish:
        """What is to be arranged."""
        return Wish(
            focus=self.pane,
            table=self.last_table,
            zoom=self.zoom,
            detail=self.detail,
            rules=self.rules,
            rows=rows,
        )

    def set_aside(self) -> Aside:
        """Go on with no row chosen, for another source; what was arranged stays."""
        tables = {table: state.copied() for table, state in self.tables.items()}
        aside = Aside(tables, self.detail, self.paused_at)
        for state in self.tables.values():
            state.forget_rows()
        self.detail, self.paused_at = False, None
        return aside

    def take_back(self, aside: Aside) -> None:
        """Have the tables as they were."""
        for table, state in aside.tables.items():
            self.tables[table].become(state)
        self.detail, self.paused_at = aside.detail, aside.paused_at

    def specs(self, shown: frozenset[str]) -> tuple[ViewSpec, ...]:
        """What to look at: the window of each table that is shown; of the others only how many rows.

        A drawer that has taken the place of its table still needs the row under the cursor.
        """
        wanted = {*shown, self.last_table} if self.detail else shown
        return tuple(
            state.spec() if table in wanted else replace_window(state.spec())
            for table, state in self.tables.items()
        )


def replace_window(spec: ViewSpec) -> ViewSpec:
    """The same question with the smallest window: its answer counts the rows and knows the cursor's."""
    return msgspec.structs.replace(spec, sort=(), offset=0, limit=1)
