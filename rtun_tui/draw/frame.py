"""Frames of panes: a box with titles in its lines, heavy and with a reversed title under the focus.

Nothing here rests on colour: the focused pane differs in its characters and its title as well.
"""

from __future__ import annotations

from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from rtun_tui.palette import Palette


class Brush(NamedTuple):
    """What a pane is drawn with: its colours, whether it has the focus, whether only ASCII may be used."""

    palette: Palette
    focused: bool = False
    ascii: bool = False

    @property
    def box(self) -> Box:
        """The characters of the frame."""
        if self.ascii:
            return ASCII_HEAVY if self.focused else ASCII_LIGHT
        return HEAVY if self.focused else LIGHT

    @property
    def ellipsis(self) -> str:
        """What stands for text that was cut: one cell."""
        return "~" if self.ascii else "…"

    @property
    def edge(self) -> Style:
        """The look of the frame."""
        return self.palette.style("border-focus" if self.focused else "border")


class Box(NamedTuple):
    """Characters of a frame."""

    top_left: str
    top_right: str
    bottom_left: str
    bottom_right: str
    across: str
    down: str


LIGHT = Box("┌", "┐", "└", "┘", "─", "│")
HEAVY = Box("┏", "┓", "┗", "┛", "━", "┃")
ASCII_LIGHT = Box("+", "+", "+", "+", "-", "|")
ASCII_HEAVY = Box("#", "#", "#", "#", "=", "#")
_LEAST = 4  # cells of a title worth showing


def cut(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` in at most `width` cells; what is cut ends in `ellipsis`, one cell wide.

    >>> cut("degraded", 5)
    'degr…'
    """
    if text.isascii():
        if len(text) <= width:
            return text
    elif cell_len(text) <= width:
        return text
    if width < 1:
        return ""
    return set_cell_size(text, width - 1) + ellipsis


def top_line(width: int, heading: str, note: str, brush: Brush) -> Strip:
    """Upper edge of a box: `heading` on the left, `note` on the right."""
    box = brush.box
    return _edge_line(width, (box.top_left, box.top_right), _titles(width, heading, note, brush), brush)


def rule_line(width: int, heading: str, note: str, brush: Brush) -> Strip:
    """A line across with the same titles, in place of a box where there is no room for one."""
    across = brush.box.across
    return _edge_line(width, (across, across), _titles(width, heading, note, brush), brush)


def bottom_line(width: int, left: str, right: str, brush: Brush) -> Strip:
    """Lower edge of a box, with small notes where there are any; the right one goes before the left."""
    box = brush.box
    muted = brush.palette.style("muted")
    right = _padded(right, width - 4, brush)
    left = _padded(left, width - 4 - cell_len(right), brush)
    return _edge_line(width, (box.bottom_left, box.bottom_right), ((left, muted), (right, muted)), brush)


def with_sides(inner: Strip, brush: Brush) -> Strip:
    """A line of content between the left and right edge of a box: two cells wider."""
    side = Segment(brush.box.down, brush.edge)
    return Strip([side, *inner, side], inner.cell_length + 2)


_Titles = tuple[tuple[str, Style], tuple[str, Style]]  # on the left and on the right; empty for none


def _titles(width: int, heading: str, note: str, brush: Brush) -> _Titles:
    """Both titles as far as there is room; the heading goes before the note."""
    heading = _padded(heading, width - 4, brush)
    note = _padded(note, width - 4 - cell_len(heading) - bool(heading), brush)
    style = brush.palette.style("title-focus" if brush.focused else "title")
    return (heading, style), (note, brush.palette.style("muted"))


def _padded(text: str, room: int, brush: Brush) -> str:
    """A title with a space on either side, or nothing when there is no room for it."""
    if not text or room < min(_LEAST, cell_len(text)) + 2:
        return ""
    return f" {cut(text, room - 2, brush.ellipsis)} "


def _edge_line(width: int, corners: tuple[str, str], titles: _Titles, brush: Brush) -> Strip:
    """Corner, title, line, title, corner; a title has one character of the line outside it."""
    if width < 2:
        return Strip.blank(max(width, 0))
    (left, left_style), (right, right_style) = titles
    before, after = bool(left), bool(right)
    across = brush.box.across
    fill = width - 2 - cell_len(left) - cell_len(right) - before - after
    pieces = (
        (corners[0] + across * before, brush.edge),
        (left, left_style),
        (across * fill, brush.edge),
        (right, right_style),
        (across * after + corners[1], brush.edge),
    )
    return Strip([Segment(text, style) for text, style in pieces if text], width)
