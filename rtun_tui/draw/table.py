"""Lines of a table: its column titles and its rows.

Widths come from the columns' own figures and the room there is, never from the data, so they stand
still while the values change. What a line says is kept apart from how it looks: `row_cells` gives
the texts, cheap to compare with those of the last tick, and `row_strip` draws them when they differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from rtun_core.view.cells import CellWriter, cell_writer
from rtun_core.view.columns import Column, Kind, TableId, column_named
from rtun_core.view.page import Sort
from rtun_core.view.units import Look
from rtun_tui.draw.frame import Brush, cut
from rtun_tui.palette import state_role

GUTTER = 3  # " > ": one or two signs and a space before the first column
MARGIN = 1  # after the last column
GAP = 1  # between columns
WIDEST_ADDRESS = 47  # "[", 39 of IPv6, "]:65535"; wider than this only tears rows apart
_LEAST = 4  # cells of a cut text that still say something
_LOUD = frozenset({"state-warn", "state-bad"})  # states that are written in capitals

SHORT_STATES = {
    "closed": "gone",
    "connecting": "conn",
    "degraded": "degr",
    "draining": "drain",
    "expiring": "expir",
    "opening": "open",
    "paused": "pause",
    "probing": "probe",
    "starting": "start",
    "stopped": "stop",
    "waiting": "wait",
}


class Slot(NamedTuple):
    """The place of a column. What a row asks of its column for each cell is worked out here, once."""

    column: Column
    width: int
    right: bool
    state: bool


class Form(NamedTuple):
    """A template for rows whose texts all fit: how many cells it makes, and where in them the state is."""

    template: str
    used: int
    state: tuple[int, int]


class Layout(tuple[Slot, ...]):
    """The places of the columns, from the left."""

    @cached_property
    def form(self) -> Form:
        """How a row is written at once."""
        template, at, state = "%s", GUTTER, (0, 0)
        for _, width, right, is_state in self:
            template += f"%{'' if right and not is_state else '-'}{width}s{' ' * GAP}"
            state = (at, at + width) if is_state else state
            at += width + GAP
        return Form(template, at, state)


class RowCells(NamedTuple):
    """What a row says: a text for each column of its layout, and the role of its state."""

    texts: tuple[str, ...]
    role: str


def layout_columns(
    columns: Sequence[Column], width: int, wide: bool = False, *, first_column: int = 0
) -> Layout:
    """The columns that fit in `width` cells and how wide each is drawn.

    Columns leave by priority when there is no room, the largest number first, and share the spare
    room by weight. `wide` keeps all at their full width and lets the last ones fall off the edge.
    `first_column` columns after the first one are scrolled out.
    """
    chosen = [*columns[:1], *columns[1 + first_column :]]
    room = width - GUTTER - MARGIN
    if wide:
        return _cut_off(chosen, [column.width for column in chosen], room)
    kept = _drop(chosen, room)
    widths = [column.min_width for column in kept]
    spare = room - _needed(widths)
    if spare < 0:
        return _cut_off(kept, widths, room)
    spare = _grow_to_ideal(kept, widths, spare)
    _share(kept, widths, spare)
    return Layout(map(_slot, kept, widths))


def column_at(layout: Layout, x: int) -> Column | None:
    """The column under cell `x` of a line; the gap after a column belongs to it."""
    edge = GUTTER
    for column, width, _, _ in layout:
        if edge <= x < edge + width + GAP:
            return column
        edge += width + GAP
    return None


def header_strip(
    table: TableId,
    layout: Layout,
    sort: Sequence[Sort],
    width: int,
    brush: Brush,
) -> Strip:
    """Titles of the columns, with an arrow beside those that sort."""
    down, up = ("v", "^") if brush.ascii else ("▾", "▴")
    signs = {column_named(table, each.column).id: down if each.descending else up for each in sort}
    plain, sorts = brush.palette.style("column-title"), brush.palette.style("column-sort")
    text, marks = " " * GUTTER, []
    for column, room, right, _ in layout:
        title = fit(column.title, room, brush.ellipsis, right=right) + " " * GAP
        if sign := signs.get(column.id):
            # In the gap beside the title, so that no title is cut for it.
            text, title = _with_sign(text, title, sign, right=right)
            marks.append((len(text) - right, len(text) + len(title.rstrip())))
        text += title
    return _line(_painted(text, marks, plain, sorts), _used(layout), width, plain)


def row_writers(layout: Layout, look: Look) -> tuple[CellWriter, ...]:
    """What writes the cells of rows in this layout."""
    return tuple(cell_writer(slot.column, look) for slot in layout)


def row_cells(
    table: TableId, row: Any, layout: Layout, writers: Sequence[CellWriter], now: float
) -> RowCells:
    """The texts of a row, uncut. States that need an eye are in capitals."""
    texts = [write(row, now) for write in writers]
    role = "text"
    for place, slot in enumerate(layout):
        if slot.state:
            role = state_role(table, str(slot.column.value(row, now)))
            if role in _LOUD:
                texts[place] = texts[place].upper()
    return RowCells(tuple(texts), role)


def row_strip(
    cells: RowCells,
    layout: Layout,
    width: int,
    brush: Brush,
    *,
    cursor: bool = False,
    marked: bool = False,
) -> Strip:
    """A row. The cursor shows as `>`, a mark as `*`, both as `>*`, whatever the colours say."""
    style = _row_style(brush, cursor=cursor, marked=marked)
    state = style if cells.role == "text" else style + brush.palette.style(cells.role)
    signs = _signs(cursor=cursor, marked=marked)
    plain = _plain_row(cells, layout, width, signs, style, state)
    if plain is not None:
        return plain
    ellipsis, gap = brush.ellipsis, " " * GAP
    pieces = [(signs, style)]
    for text, (_, room, right, is_state) in zip(cells.texts, layout, strict=True):
        if is_state:
            pieces.append((fit(short_state(text, room), room, ellipsis), state))
            pieces.append((gap, style))
        else:
            pieces.append((fit(text, room, ellipsis, right=right) + gap, style))
    return _line(pieces, _used(layout), width, style)


def _plain_row(
    cells: RowCells, layout: Layout, width: int, signs: str, style: Style, state: Style
) -> Strip | None:
    """The row in one go: most rows are ASCII and fit, and cell by cell they cost five times as much.

    None where a text is too long, which makes the line too long, or has characters of other widths.
    """
    form = layout.form
    line = form.template % (signs, *cells.texts)
    if len(line) != form.used or not line.isascii() or form.used > width:
        return None
    line = line.ljust(width)
    begin, end = form.state
    if state is style or not end:
        return Strip([Segment(line, style)], width)
    pieces = ((line[:begin], style), (line[begin:end], state), (line[end:], style))
    return Strip([Segment(*piece) for piece in pieces], width)


def missing_strip(width: int, brush: Brush) -> Strip:
    """In place of a row that is shown but has not come yet."""
    pieces = [(" " * GUTTER + brush.ellipsis, brush.palette.style("muted"))]
    return _line(pieces, GUTTER + 1, width, Style())


def empty_strip(text: str, width: int, brush: Brush) -> Strip:
    """A quiet line in the middle of a table without rows."""
    text = cut(text, max(0, width - 2), brush.ellipsis)
    left = (width - cell_len(text)) // 2
    pieces = [(" " * left + text, brush.palette.style("muted"))]
    return _line(pieces, left + cell_len(text), width, Style())


def short_state(text: str, width: int) -> str:
    """A state, in its short form where the whole word has no room.

    >>> short_state("DEGRADED", 5)
    'DEGR'
    """
    if len(text) <= width:
        return text
    short = SHORT_STATES.get(text.casefold())
    if short is None:
        return text
    return short.upper() if text.isupper() else short


def fit(text: str, width: int, ellipsis: str = "…", *, right: bool = False) -> str:
    """`text` in exactly `width` cells."""
    size = len(text) if text.isascii() else cell_len(text)
    if size > width:
        return cut(text, width, ellipsis)
    space = " " * (width - size)
    return space + text if right else text + space


def _used(layout: Layout) -> int:
    """Cells of a line up to the end of its last column."""
    return GUTTER + sum([slot.width + GAP for slot in layout])


def _needed(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _drop(columns: list[Column], room: int) -> list[Column]:
    """Without the columns that have to leave; the first one and those of priority 1 never do."""
    kept = list(columns)
    while _needed([column.min_width for column in kept]) > room:
        places = [place for place, column in enumerate(kept) if place and column.priority > 1]
        if not places:
            break
        del kept[max(places, key=lambda place: (kept[place].priority, place))]
    return kept


def _slot(column: Column, width: int) -> Slot:
    return Slot(column, width, column.right, column.kind is Kind.STATE)


def _cut_off(columns: Sequence[Column], widths: Sequence[int], room: int) -> Layout:
    """What fits from the left. A text may end short at the edge, a number may not: it would read wrong."""
    slots: list[Slot] = []
    for column, width in zip(columns, widths, strict=True):
        if width > room and (column.right or room < _LEAST) and slots:
            break
        slots.append(_slot(column, max(1, min(width, room))))
        room -= width + GAP
    return Layout(slots)


def _grow_to_ideal(columns: Sequence[Column], widths: list[int], spare: int) -> int:
    """Widen to the ideal, the most important column first. What is left of `spare`."""
    for place in sorted(range(len(columns)), key=lambda place: columns[place].priority):
        more = min(spare, max(0, columns[place].width - widths[place]))
        widths[place] += more
        spare -= more
    return spare


def _share(columns: Sequence[Column], widths: list[int], spare: int) -> None:
    """Divide the spare room by weight, to the last cell unless there are only addresses to grow."""
    weights = sum(column.weight for column in columns)
    for place in sorted(range(len(columns)), key=lambda place: columns[place].kind is not Kind.ADDRESS):
        column = columns[place]
        if column.weight:
            more = spare * column.weight // weights
            if column.kind is Kind.ADDRESS:
                more = min(more, max(0, WIDEST_ADDRESS - widths[place]))
            widths[place] += more
            spare -= more
            weights -= column.weight


def _with_sign(before: str, title: str, sign: str, *, right: bool) -> tuple[str, str]:
    """The sign right before a title that stands right, or right after one that stands left."""
    if not right:
        bare = title.rstrip()
        return before, (bare + sign).ljust(len(title))
    bare = title.lstrip()
    indent = len(title) - len(bare)
    if indent:
        return before, " " * (indent - 1) + sign + bare
    return before[:-1] + sign, title


def _painted(
    text: str, marks: Sequence[tuple[int, int]], plain: Style, sorts: Style
) -> list[tuple[str, Style]]:
    """`text` in pieces: the marked stretches, from one cell to another, in the second style."""
    pieces, at = [], 0
    for first, last in marks:
        pieces += [(text[at:first], plain), (text[first:last], sorts)]
        at = last
    return [*pieces, (text[at:], plain)]


def _signs(*, cursor: bool, marked: bool) -> str:
    if cursor and marked:
        return ">* "
    return " > " if cursor else " * " if marked else "   "


def _row_style(brush: Brush, *, cursor: bool, marked: bool) -> Style:
    palette = brush.palette
    if not cursor:
        return palette.style("mark" if marked else "text")
    block = palette.style("cursor" if brush.focused else "cursor-idle")
    return block + palette.style("mark") if marked else block


def _line(pieces: Iterable[tuple[str, Style]], used: int, width: int, rest: Style) -> Strip:
    """Pieces, `used` cells together, as a strip of `width` cells: neighbours of one style are one segment."""
    segments: list[Segment] = []
    texts: list[str] = []
    style = rest
    for text, own in pieces:
        if own is not style and texts:
            segments.append(Segment("".join(texts), style))
            texts = []
        style = own
        texts.append(text)
    segments.append(Segment("".join(texts), style))
    if used < width:
        segments.append(Segment(" " * (width - used), rest))
    strip = Strip(segments, max(used, width))
    return strip if used <= width else strip.crop(0, width)
