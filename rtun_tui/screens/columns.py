"""Choosing columns: which are shown, and in what order."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from rtun_core.view.columns import COLUMNS, TableId, column_named
from rtun_tui.screens.dialog import Dialog


class Columns(OptionList):
    """Enter is for the whole list; a click, like space, for the line."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "screen.accept", "use them", show=False)]


class ChooseColumns(Dialog[tuple[str, ...] | None]):
    """Dismisses with the ids of the columns to show, in order; the shown ones stand first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "flip", "show or hide", show=False),
        Binding("K,shift+up", "shift(-1)", "earlier", show=False),
        Binding("J,shift+down", "shift(1)", "later", show=False),
        Binding("d", "default", "as at first", show=False),
        Binding("escape,q", "cancel", "cancel", show=False),
        Binding("j", "move(1)", "down", show=False),
        Binding("k", "move(-1)", "up", show=False),
    ]

    def __init__(self, table: TableId, shown: tuple[str, ...]) -> None:
        super().__init__()
        self._table: TableId = table
        self._shown = set(shown)
        self._order = [*shown, *(column.id for column in COLUMNS[table] if column.id not in shown)]

    def compose(self) -> ComposeResult:
        """A list with a box before each column."""
        with Vertical(id="dialog") as dialog:
            dialog.border_title = f"Columns of {self._table}"
            dialog.border_subtitle = "space shows, J K move, d default, Enter uses"
            yield Columns(markup=False)

    def on_mount(self) -> None:
        """Begin at the first one."""
        self._list(0)
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A click on a line."""
        self.action_flip()

    def action_flip(self) -> None:
        """Show or hide the column under the cursor."""
        self._shown ^= {self._order[self._at]}
        self._list(self._at)

    def action_shift(self, by: int) -> None:
        """Move the column under the cursor."""
        at, to = self._at, self._at + by
        if 0 <= to < len(self._order):
            self._order[at], self._order[to] = self._order[to], self._order[at]
            self._list(to)

    def action_default(self) -> None:
        """As the table is first shown."""
        self._order = [column.id for column in COLUMNS[self._table]]
        self._shown = {column.id for column in COLUMNS[self._table] if column.shown}
        self._list(0)

    def action_accept(self) -> None:
        """Done; a table without columns would say nothing."""
        chosen = tuple(name for name in self._order if name in self._shown)
        if chosen:
            self.dismiss(chosen)
        else:
            self.app.bell()

    def action_cancel(self) -> None:
        """As it was."""
        self.dismiss(None)

    def action_move(self, step: int) -> None:
        """The keys of the tables."""
        options = self.query_one(OptionList)
        options.highlighted = max(0, min(self._at + step, len(self._order) - 1))

    @property
    def _at(self) -> int:
        return self.query_one(OptionList).highlighted or 0

    def _list(self, at: int) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        columns = [column_named(self._table, name) for name in self._order]
        options.add_options(
            Option(f"[{'x' if column.id in self._shown else ' '}] {column.id:<9} {column.help}")
            for column in columns
        )
        options.highlighted = at
