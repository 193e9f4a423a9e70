"""What every line of a table says, as values: lines that are equal are drawn alike.

So a tick costs the texts of the visible rows and a comparison; only lines that differ are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from textual.strip import Strip

from rtun_core.view.cells import CellWriter
from rtun_core.view.page import Sort
from rtun_core.view.units import Look
from rtun_tui.draw.frame import Brush, bottom_line, rule_line, top_line, with_sides
from rtun_tui.draw.headings import places
from rtun_tui.draw.table import (
    Layout,
    RowCells,
    empty_strip,
    header_strip,
    layout_columns,
    missing_strip,
    row_cells,
    row_strip,
    row_writers,
)
from rtun_tui.table_state import TableState

ABOVE = 2  # lines over the first row: the upper edge and the column titles
TITLES_AT = 1  # the line of the column titles


class Edge(NamedTuple):
    """The upper or lower edge: what stands in it on the left and on the right."""

    left: str
    right: str


class Titles(NamedTuple):
    """The column titles."""

    layout: Layout
    sort: tuple[Sort, ...]


class Row(NamedTuple):
    """A row; `cells` is None for one that has not come yet."""

    cells: RowCells | None
    cursor: bool
    marked: bool


class Blank(NamedTuple):
    """A line under the rows; in an empty table the middle one has a text."""

    text: str


Line = Edge | Titles | Row | Blank


@dataclass(slots=True)
class TableLines:
    """The lines of a table in a widget of `width` x `height` cells.

    `framed` draws a box; without it there is only a rule above the titles. `now` is the Unix time
    that ages count to: it holds for the texts made after `forget()`, `look` for those after `arrange()`.
    """

    state: TableState
    width: int = 0
    height: int = 0
    framed: bool = True
    look: Look = field(default_factory=Look)
    now: float = 0.0
    layout: Layout = field(default_factory=Layout)
    _cells: dict[int, RowCells] = field(default_factory=dict)  # by index among the shown rows
    _writers: tuple[CellWriter, ...] = ()
    _arranged: tuple[object, ...] = ()  # what the layout was made from
    _chosen: int = 0  # columns, whether there is room for them or not

    @property
    def inner_width(self) -> int:
        """Cells of a row."""
        return max(0, self.width - (2 if self.framed else 0))

    @property
    def rows(self) -> int:
        """Rows that fit."""
        return max(0, self.height - ABOVE - (1 if self.framed else 0))

    @property
    def hidden(self) -> int:
        """Chosen columns that have no room on the right."""
        return max(0, self._chosen - self.state.first_column - len(self.layout))

    def forget(self) -> None:
        """Write all texts anew: other rows, another time, or another look."""
        self._cells.clear()

    def arrange(self) -> None:
        """Fit columns and rows into the size; nothing while there is none."""
        if not self.width or not self.height:
            return
        state = self.state
        state.resize(self.rows)
        wanted = state.columns, state.totals, self.inner_width, state.wide, state.first_column, self.look
        if wanted == self._arranged:
            return
        self._arranged = wanted
        columns, first = state.shown_columns(), state.first_column
        self._chosen = len(columns)
        self.layout = layout_columns(columns, self.inner_width, state.wide, first_column=first)
        self._writers = row_writers(self.layout, self.look)
        self.forget()

    def say(self, heading: str, note: str, empty: str) -> list[Line]:
        """Every line, from the top. `heading` and `note` are in the upper edge, `empty` where no row is."""
        state = self.state
        visible = range(state.top, min(state.top + self.rows, state.shown))
        lines: list[Line] = [Edge(heading, note), Titles(self.layout, state.sort)]
        lines += [self._row(index) for index in visible]
        lines += [self._blank(at, empty) for at in range(len(visible), self.rows)]
        return [*lines, self._lower_edge()] if self.framed else lines

    def draw(self, line: Line, y: int, brush: Brush) -> Strip:
        """A line of the widget; `y` tells the upper edge from the lower one."""
        if isinstance(line, Edge):
            edge = bottom_line if y else top_line if self.framed else rule_line
            return edge(self.width, line.left, line.right, brush)
        inner = self._inner(line, brush)
        return with_sides(inner, brush) if self.framed else inner

    def _row(self, index: int) -> Row:
        row = self.state.row_at(index)
        cursor = index == self.state.cursor
        if row is None:
            return Row(None, cursor, marked=False)
        cells = self._cells.get(index)
        if cells is None:
            cells = row_cells(self.state.table, row, self.layout, self._writers, self.now)
            self._cells[index] = cells
        return Row(cells, cursor, self.state.is_marked(row))

    def _blank(self, at: int, empty: str) -> Blank:
        page = self.state.page
        if page is None or page.shown or at != (self.rows - 1) // 2:
            return Blank("")
        return Blank(f"none of {page.total:,} rows passes the filter" if page.total else empty)

    def _lower_edge(self) -> Edge:
        """How many columns have no room, and which rows these are."""
        hidden = self.hidden
        columns = f"{hidden} more column{'s' if hidden > 1 else ''}" if hidden else ""
        return Edge(columns, places(self.state))

    def _inner(self, line: Titles | Row | Blank, brush: Brush) -> Strip:
        """A line without the frame."""
        width = self.inner_width
        if isinstance(line, Titles):
            return header_strip(self.state.table, line.layout, line.sort, width, brush)
        if isinstance(line, Blank):
            return empty_strip(line.text, width, brush) if line.text else Strip.blank(width)
        if line.cells is None:
            return missing_strip(width, brush)
        return row_strip(line.cells, self.layout, width, brush, cursor=line.cursor, marked=line.marked)
