"""The base of widgets that draw their own lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from textual.geometry import Region
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from rtun_core.view.units import Look
from rtun_tui.draw.frame import Brush
from rtun_tui.palette import MONO, Palette


class Drawn(Widget):
    """A widget made of lines. The screen sets `palette`, `look` and `ascii` on every one of them.

    A subclass overrides `draw_line`. What it returns is cut or padded to the width and put on the
    background of the palette here, once, because Textual puts nothing under a line of ours.
    """

    ALLOW_SELECT = False  # our strips carry no offsets into a text, so a selection would be empty

    palette: reactive[Palette] = reactive(MONO)
    look: reactive[Look] = reactive(Look())
    ascii: reactive[bool] = reactive(False)  # neither box drawing nor braille

    @property
    def brush(self) -> Brush:
        """What the draw functions need to know of this widget."""
        return Brush(self.palette, self.has_focus, self.ascii)

    def draw_line(self, y: int) -> Strip:
        """Line `y` of the widget, of any width and without its background."""
        return Strip.blank(self.size.width)

    def render_line(self, y: int) -> Strip:
        """The finished line that Textual asks for."""
        line = self.draw_line(y).adjust_cell_length(self.size.width)
        return line.apply_style(self.palette.style("background"))

    def refresh_lines(self, lines: Iterable[int]) -> None:
        """Have some lines drawn again, and no others. `lines` ascend."""
        width = self.size.width
        regions = [Region(0, first, width, count) for first, count in _runs(lines)]
        if regions and width:
            self.refresh(*regions)


def _runs(lines: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring lines as (first, how many).

    >>> list(_runs([1, 2, 3, 7]))
    [(1, 3), (7, 1)]
    """
    first, count = 0, 0
    for line in lines:
        if count and line == first + count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = line, 1
    if count:
        yield first, count
