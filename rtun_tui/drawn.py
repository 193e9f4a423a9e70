"""The base of widgets that draw their own lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self

from textual.filter import LineFilter
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from rtun_core.view.units import Look
from rtun_tui.draw.frame import Brush
from rtun_tui.palette import MONO, Palette

_Circumstances = tuple[Size, Look, Brush, tuple[LineFilter, ...]]


class Drawn(Widget):
    """A widget made of lines. The screen sets `palette`, `look` and `ascii` on every one of them.

    A subclass overrides `draw_line`. What it returns is cut or padded to the width and put on the
    background of the palette here, once, because Textual puts nothing under a line of ours. Finished
    lines are kept until they are refreshed or the circumstances change.
    """

    ALLOW_SELECT = False  # our strips carry no offsets into a text, so a selection would be empty

    palette: reactive[Palette] = reactive(MONO)
    look: reactive[Look] = reactive(Look())
    ascii: reactive[bool] = reactive(False)  # neither box drawing nor braille

    _finished_for: _Circumstances | None = None

    def __init__(self, *, name: str | None = None, id: str | None = None, classes: str | None = None) -> None:
        self._finished: dict[int, Strip] = {}  # before Textual's own, which refreshes
        super().__init__(name=name, id=id, classes=classes)

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

    def render_lines(self, crop: Region) -> list[Strip]:
        """Finished lines of a part of the widget.

        Textual's own way lays borders, padding and tints around every line, and filters them all for
        every frame. Nothing of that is used here, and it was a fifth of what a look costs.
        """
        size = self.size
        filters = tuple(self.app.get_line_filters())
        circumstances = size, self.look, self.brush, filters
        if circumstances != self._finished_for:
            self._finished_for = circumstances
            self._finished.clear()
        missing = [y for y in crop.line_range if y not in self._finished]
        if missing:
            self._finish(missing, filters)
        lines = [self._finished[y] for y in crop.line_range]
        if crop.column_span != (0, size.width):
            lines = [line.crop(*crop.column_span) for line in lines]
        return lines

    def refresh(
        self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False
    ) -> Self:
        """Have the widget, or some regions of it, drawn again."""
        if repaint and not regions:
            self._finished.clear()
        for region in regions:
            for y in region.line_range:
                self._finished.pop(y, None)
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def refresh_lines(self, lines: Iterable[int]) -> None:
        """Have some lines drawn again, and no others. `lines` ascend."""
        width = self.size.width
        regions = [Region(0, first, width, count) for first, count in _runs(lines)]
        if regions and width:
            self.refresh(*regions)

    def _finish(self, lines: Iterable[int], filters: Iterable[LineFilter]) -> None:
        # The ground is asked for once: it is looked up through all ancestors, a tenth of what a look costs.
        ground = self.background_colors[1]
        for y in lines:
            line = self.render_line(y)
            for each in filters:
                line = line.apply_filter(each, ground)
            self._finished[y] = line


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
