"""A table over a page of rows that redraws only the lines that changed."""

from __future__ import annotations

from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip

from rtun_core.view.columns import TableId
from rtun_core.view.page import Page, ViewSpec
from rtun_tui.draw.table import column_at
from rtun_tui.draw.table_lines import ABOVE, TITLES_AT, Line, TableLines
from rtun_tui.drawn import Drawn
from rtun_tui.table_state import TableState

WHEEL = 3  # rows that a notch of the wheel scrolls


class LiveTable(Drawn, can_focus=True):
    """Shows the window of a `TableState`. The screen binds the keys and answers the messages.

    `framed` draws a box; without it there is only a rule above the titles. `heading` stands left in
    the frame, `note` right, `empty` in the middle while there is no row.
    """

    heading: reactive[str] = reactive("", repaint=False)
    note: reactive[str] = reactive("", repaint=False)
    empty: reactive[str] = reactive("", repaint=False)
    framed: reactive[bool] = reactive(True)

    class CursorMoved(Message):
        """The cursor is on another row; `key` is None on a row that has not come yet, or on none."""

        def __init__(self, table: TableId, key: str | None) -> None:
            super().__init__()
            self.table = table
            self.key = key

    class Chosen(Message):
        """The row was chosen: Enter or a double click."""

        def __init__(self, table: TableId, key: str) -> None:
            super().__init__()
            self.table = table
            self.key = key

    class SortClicked(Message):
        """A column title was clicked. The screen decides; usually it calls `action_sort_by(column)`."""

        def __init__(self, table: TableId, column: str) -> None:
            super().__init__()
            self.table = table
            self.column = column

    class WindowWanted(Message):
        """The state asks for other rows than the page has: look again now."""

        def __init__(self, table: TableId) -> None:
            super().__init__()
            self.table = table

    class MarksChanged(Message):
        """Rows were marked or lost their mark."""

        def __init__(self, table: TableId) -> None:
            super().__init__()
            self.table = table

    def __init__(
        self,
        state: TableState,
        *,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.state = state
        self._table = TableLines(state)
        self._lines: list[Line] = []
        self._told: str | None = None  # the key under the cursor that was last told
        self._asked: ViewSpec | None = None  # the spec for which a window was last wanted

    # -- data ----------------------------------------------------------------------------------

    def show(self, page: Page, now: float) -> None:
        """Take a page; `now` is the Unix time that ages and idle times count to."""
        self._table.now = now
        self._table.forget()
        self.state.show(page)
        self.sync()

    def sync(self) -> None:
        """Redraw the lines that say something else now. Call it after the state was changed from outside."""
        self._measure()
        self.refresh_lines(self._changed_lines())
        if self.state.cursor_key != self._told:
            self._told = self.state.cursor_key
            self.post_message(self.CursorMoved(self.state.table, self._told))
        if not self.state.needs_window():
            self._asked = None
        elif self.state.page is not None and self.state.spec() != self._asked:
            self._want()

    # -- actions, bound to keys by the screen --------------------------------------------------

    def action_move(self, by: int) -> None:
        """Cursor down, or up when negative."""
        self.state.move(by)
        self.sync()

    def action_home(self) -> None:
        """Cursor to the first row."""
        self.state.home()
        self.sync()

    def action_end(self) -> None:
        """Cursor to the last row."""
        self.state.end()
        self.sync()

    def action_half_page(self, by: int) -> None:
        """Half a screen down (1) or up (-1)."""
        self.state.half_page(by)
        self.sync()

    def action_full_page(self, by: int) -> None:
        """A screen down (1) or up (-1)."""
        self.state.full_page(by)
        self.sync()

    def action_to_key(self, key: str) -> None:
        """Cursor to the row of that key, wherever it is."""
        if not self.state.to_key(key):
            self._want()
        self.sync()

    def action_scroll_columns(self, by: int) -> None:
        """Columns out on the left (1) or back (-1); none goes when the last one is in sight."""
        if by < 0 or self._table.hidden:
            self.state.scroll_columns(by)
            self.sync()

    def action_toggle_mark(self) -> None:
        """Mark the row under the cursor, or take its mark away."""
        self.state.toggle_mark()
        self._marked()

    def action_mark_to_cursor(self) -> bool:
        """Mark from the last mark to the cursor. False when the rows between are not all here."""
        done = self.state.mark_to_cursor()
        self._marked()
        return done

    def action_clear_marks(self) -> None:
        """Take all marks away."""
        self.state.clear_marks()
        self._marked()

    def action_sort_by(self, column: str) -> None:
        """Sort by a column, or the other way round."""
        self.state.sort_by(column)
        self._sorted()

    def action_invert_sort(self) -> None:
        """Sort the other way round."""
        self.state.invert_sort()
        self._sorted()

    def action_shift_sort(self, by: int) -> None:
        """Sort by the next (1) or previous (-1) column."""
        self.state.shift_sort(by)
        self._sorted()

    def action_toggle_wide(self) -> None:
        """All columns at their full width, or as many as fit."""
        self.state.wide = not self.state.wide
        self.sync()

    def action_toggle_totals(self) -> None:
        """Rates or totals."""
        self.state.toggle_totals()
        self.sync()
        self._want()

    def action_choose(self) -> None:
        """Choose the row under the cursor."""
        if self.state.current() is not None and self.state.cursor_key is not None:
            self.post_message(self.Chosen(self.state.table, self.state.cursor_key))

    # -- drawing -------------------------------------------------------------------------------

    def draw_line(self, y: int) -> Strip:
        """One line: an edge of the frame, the titles, or a row."""
        if y >= len(self._lines):
            return Strip.blank(self.size.width)
        return self._table.draw(self._lines[y], y, self.brush)

    def on_resize(self) -> None:
        """Another size: other columns fit, and other rows are visible."""
        self.sync()

    def watch_heading(self) -> None:
        """Another title."""
        self.sync()

    def watch_note(self) -> None:
        """Another note."""
        self.sync()

    def watch_empty(self) -> None:
        """Another word for an empty table."""
        self.sync()

    def watch_framed(self) -> None:
        """The frame takes or gives room."""
        self.sync()

    def watch_look(self) -> None:
        """Values are written in another way."""
        self.sync()

    # -- mouse ---------------------------------------------------------------------------------

    def on_click(self, event: events.Click) -> None:
        """A row takes the cursor, twice chooses it; a column title asks to be sorted by."""
        row = event.y - ABOVE
        if event.y == TITLES_AT:
            self._title_clicked(event.x - (1 if self.framed else 0))
        elif 0 <= row < self._table.rows and self.state.top + row < self.state.shown:
            self.state.to_index(self.state.top + row)
            self.sync()
            if event.chain == 2:
                self.action_choose()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The window moves down."""
        event.stop()
        self.state.scroll(WHEEL)
        self.sync()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The window moves up."""
        event.stop()
        self.state.scroll(-WHEEL)
        self.sync()

    def _title_clicked(self, x: int) -> None:
        column = column_at(self._table.layout, x)
        if column is not None:
            self.post_message(self.SortClicked(self.state.table, column.id))

    # -- inside --------------------------------------------------------------------------------

    def _measure(self) -> None:
        table = self._table
        table.width, table.height = self.size
        table.framed = self.framed
        table.look = self.look
        table.arrange()

    def _changed_lines(self) -> list[int]:
        """Bring the lines up to date. Which of them changed."""
        stale, self._lines = self._lines, self._table.say(self.heading, self.note, self.empty)
        if len(stale) != len(self._lines):
            return list(range(len(self._lines)))
        return [y for y, (old, new) in enumerate(zip(stale, self._lines, strict=True)) if old != new]

    def _marked(self) -> None:
        self.sync()
        self.post_message(self.MarksChanged(self.state.table))

    def _sorted(self) -> None:
        self.sync()
        self._want()

    def _want(self) -> None:
        """Have the screen look again."""
        self._asked = self.state.spec()
        self.post_message(self.WindowWanted(self.state.table))
