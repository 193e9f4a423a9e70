"""What a table shows and where its cursor is. Pure: it asks with a view spec and is told with a page.

Once moved, the cursor belongs to a row, not to a place: it is kept by the row's key, and the next page
says where that row is now. Before that it rests on the first row, whichever that is. When the row is gone,
the cursor takes the row that is at its place. Only a window of rows is ever held, the visible ones and
about a screen more on both sides, so a move can lead to a row that is not here yet; its key is then taken
from the page that brings it.

After each method: `0 <= top <= cursor < top + height`, and cursor and top are within what is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec

from rtun_core.view.columns import COLUMNS, Column, TableId, column_named, row_key
from rtun_core.view.page import MAX_MARKS, Page, Sort, ViewSpec

MOST_ROWS = 600  # of height, so that a screen on both sides stays within the longest page


@dataclass(slots=True, kw_only=True)
class TableState:
    """One table. `height` is the number of rows that fit; `columns` are ids, in the order shown.

    `first_column` is how many columns after the first one are scrolled out on the left.
    """

    table: TableId
    filter: str = ""
    filter_on: bool = True
    sort: tuple[Sort, ...] = ()
    columns: tuple[str, ...] = ()
    wide: bool = False
    totals: bool = False
    marks: set[str] = field(default_factory=set)
    names: Mapping[str, str] = field(default_factory=dict)  # filters that `@name` stands for
    cursor_key: str | None = None
    cursor: int = 0
    top: int = 0
    height: int = 1
    first_column: int = 0
    page: Page | None = None
    resting: bool = True  # nobody has moved the cursor: it stays on the first row, whichever that is
    _anchor: str | None = field(default=None, init=False, repr=False)  # the last row that was marked

    def __post_init__(self) -> None:
        """Without a choice, the columns that the table shows by default."""
        if not self.columns:
            self.columns = tuple(column.id for column in COLUMNS[self.table] if column.shown)

    # -- what to ask ---------------------------------------------------------------------------

    @property
    def filter_in_force(self) -> str:
        """The filter, unless it is switched off."""
        return self.filter if self.filter_on else ""

    def spec(self) -> ViewSpec:
        """What to look at: the visible rows and one screen more on both sides."""
        text = self.filter_in_force
        marks = tuple(sorted(self.marks)[:MAX_MARKS]) if "@" in text else ()  # only `@marked` reads them
        return ViewSpec(
            table=self.table,
            filter=text,
            sort=self.sort,
            offset=max(0, self.top - self.height),
            limit=3 * self.height,
            follow=None if self.resting else self.cursor_key,
            marks=marks,
            named=tuple(self.names.items()) if "@" in text else (),
        )

    def marked_spec(self) -> ViewSpec:
        """The marked rows among those that pass the filter; no window."""
        spec = self.spec()
        return msgspec.structs.replace(
            spec,
            filter=f"({spec.filter}) @marked" if spec.filter else "@marked",
            marks=tuple(sorted(self.marks)[:MAX_MARKS]),
        )

    def needs_window(self) -> bool:
        """Whether the page lacks rows that are visible."""
        if self.page is None:
            return True
        last = min(self.top + self.height, self.page.shown)
        return self.top < last and not (self._held(self.top) and self._held(last - 1))

    # -- what is here --------------------------------------------------------------------------

    @property
    def shown(self) -> int:
        """How many rows pass the filter."""
        return self.page.shown if self.page else 0

    def row_at(self, index: int) -> Any | None:
        """The row at an index among those shown; None when it is not here."""
        if self.page is None or not self._held(index):
            return None
        return self.page.rows[index - self.page.first]

    def current(self) -> Any | None:
        """The row under the cursor; None when there is none or it is not here yet."""
        row = self.row_at(self.cursor)
        return row if row is not None and row_key(self.table, row) == self.cursor_key else None

    def visible(self) -> tuple[Any, ...]:
        """The visible rows that are here."""
        rows = (self.row_at(index) for index in range(self.top, min(self.top + self.height, self.shown)))
        return tuple(row for row in rows if row is not None)

    def shown_columns(self) -> tuple[Column, ...]:
        """The chosen columns; with `totals`, each rate gives its place to its total."""
        names = dict.fromkeys(self._twin(name) if self.totals else name for name in self.columns)
        return tuple(column_named(self.table, name) for name in names)

    def show(self, page: Page) -> None:
        """Take the newest page and find the cursor's row in it."""
        self.page = page
        found = None if self.resting else self._find(page)
        if self.resting:
            self._take(0)
        elif found is not None:
            self._place(found)
        else:
            self._take(self.cursor)

    def is_marked(self, row: Any) -> bool:
        """Whether a row is marked."""
        return bool(self.marks) and row_key(self.table, row) in self.marks

    # -- another source ------------------------------------------------------------------------

    def copied(self) -> TableState:
        """The same, to come back to."""
        same = copy(self)
        same.marks = set(self.marks)
        return same

    def become(self, other: TableState) -> None:
        """Be as another one; only the height is that of the screen."""
        height = self.height
        for each in fields(other):
            setattr(self, each.name, getattr(other, each.name))
        self.resize(height)

    def forget_rows(self) -> None:
        """No row is known, marked or under the cursor."""
        self.clear_marks()
        self.cursor_key, self.cursor, self.top = None, 0, 0
        self.page, self.resting = None, True

    # -- moving --------------------------------------------------------------------------------

    def resize(self, height: int) -> None:
        """Another number of rows fits."""
        self.height = max(1, min(height, MOST_ROWS))
        self._place(self.cursor)

    def go_to(self, key: str) -> None:
        """Have the cursor stand on a row, wherever the next page says that this is."""
        self.cursor_key, self.resting = key, False

    def move(self, by: int) -> None:
        """The cursor `by` rows down, or up when negative."""
        self.resting = False
        self._take(self.cursor + by)

    def home(self) -> None:
        """The cursor on the first row, and there to stay while rows come and go."""
        self._take(0)
        self.resting = True

    def end(self) -> None:
        """The cursor on the last row."""
        self.resting = False
        self._take(self.shown - 1)

    def half_page(self, by: int) -> None:
        """Cursor and window half a screen down (1) or up (-1)."""
        self._leap(by * max(1, self.height // 2))

    def full_page(self, by: int) -> None:
        """Cursor and window a screen down (1) or up (-1), with one row in common."""
        self._leap(by * max(1, self.height - 1))

    def scroll(self, by: int) -> None:
        """The window `by` rows down; the cursor stays on its row until the edge takes it along."""
        self.resting = False
        self.top = self._clamp_top(self.top + by)
        inside = min(max(self.cursor, self.top), self.top + self.height - 1)
        if inside != self.cursor:
            self._take(inside)

    def to_index(self, index: int) -> None:
        """The cursor on a row by its place among those shown."""
        self.resting = False
        self._take(index)

    def to_key(self, key: str) -> bool:
        """The cursor on a row by its key. False when only the next page can tell where that is."""
        self.resting = False
        self.cursor_key = key
        found = self._find(self.page) if self.page else None
        if found is None:
            return False
        self._place(found)
        return True

    def scroll_columns(self, by: int) -> None:
        """Columns out of the window on the left (1) or back in (-1); the first one stays."""
        self.first_column = min(max(0, self.first_column + by), max(0, len(self.columns) - 2))

    # -- marks ---------------------------------------------------------------------------------

    def toggle_mark(self) -> None:
        """Mark the row under the cursor, or take its mark away."""
        if self.current() is None or self.cursor_key is None:
            return
        self.resting = False
        self.marks ^= {self.cursor_key}
        self._anchor = self.cursor_key if self.cursor_key in self.marks else None

    def mark_to_cursor(self) -> bool:
        """Mark all rows from the last mark to the cursor; none, and False, when one of them is not here."""
        rows = self._held_keys()
        if self.page is None or self.current() is None or self._anchor not in rows:
            return False
        first, last = sorted((rows.index(self._anchor), self.cursor - self.page.first))
        self.marks.update(rows[first : last + 1])
        self._anchor = self.cursor_key
        return True

    def clear_marks(self) -> None:
        """Take all marks away."""
        self.marks.clear()
        self._anchor = None

    # -- sorting and columns -------------------------------------------------------------------

    def sort_by(self, column: str) -> None:
        """Sort by a column, numbers largest first; the other way round when it sorts already."""
        name = column_named(self.table, column).id
        if self.sort and self._sorts(name):
            self.invert_sort()
        else:
            self.sort = (Sort(name, descending=column_named(self.table, name).right),)

    def invert_sort(self) -> None:
        """Sort the other way round."""
        if self.sort:
            first, *others = self.sort
            self.sort = (Sort(first.column, descending=not first.descending), *others)

    def shift_sort(self, by: int) -> None:
        """Sort by the column after (1) or before (-1) the one that sorts."""
        names = [column.id for column in self.shown_columns()]
        place = next((place for place, name in enumerate(names) if self._sorts(name)), None)
        name = names[0 if place is None else (place + by) % len(names)]
        if not self._sorts(name):
            self.sort_by(name)

    def toggle_totals(self) -> None:
        """Rates or totals, in the columns and in what sorts."""
        self.totals = not self.totals
        self.sort = tuple(Sort(self._twin(sort.column), descending=sort.descending) for sort in self.sort)

    # -- inside --------------------------------------------------------------------------------

    def _held(self, index: int) -> bool:
        page = self.page
        return page is not None and page.first <= index < page.first + len(page.rows)

    def _held_keys(self) -> list[str]:
        return [row_key(self.table, row) for row in self.page.rows] if self.page else []

    def _find(self, page: Page) -> int | None:
        """Where the cursor's row is. A page asked for before the cursor moved follows another row."""
        if self.cursor_key is None:
            return None
        for place in (self.cursor, page.follow):
            if place is not None and self._key_at(place) == self.cursor_key:
                return place
        keys = self._held_keys()
        if self.cursor_key in keys:
            return page.first + keys.index(self.cursor_key)
        return None if page.follow is None or self._held(page.follow) else page.follow

    def _key_at(self, index: int) -> str | None:
        row = self.row_at(index)
        return None if row is None else row_key(self.table, row)

    def _take(self, index: int) -> None:
        """The cursor on whatever row is at `index`."""
        self._place(index)
        self.cursor_key = self._key_at(self.cursor)

    def _place(self, index: int) -> None:
        """The cursor at `index`, and the window moved no more than it takes to show it."""
        self.cursor = max(0, min(index, self.shown - 1))
        lowest = self.cursor - self.height + 1
        self.top = self._clamp_top(max(lowest, min(self.top, self.cursor)))

    def _leap(self, by: int) -> None:
        self.resting = False
        self.top = self._clamp_top(self.top + by)
        self._take(self.cursor + by)

    def _clamp_top(self, top: int) -> int:
        return max(0, min(top, self.shown - self.height))

    def _sorts(self, column: str) -> bool:
        return bool(self.sort) and column_named(self.table, self.sort[0].column).id == column

    def _twin(self, column: str) -> str:
        return column_named(self.table, column).twin or column
