"""The base of widgets that draw their own lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Self

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from rtun_core.view.units import Look
from rtun_tui.draw.frame import Brush
from rtun_tui.palette import MONO, Palette

_Circumstances = tuple[Size, Look, Brush, tuple[LineFilter, ...]]


class Inks(dict[Style | None, Style | None]):
    """What each style of a palette looks like on a ground: worked out once, then looked up.

    A style is put on `ground` and goes through `filters`, which are told the ground's `colour`.
    """

    def __init__(
        self, ground: Style, filters: Sequence[LineFilter] = (), colour: Color | None = None
    ) -> None:
        super().__init__()
        self._ground = ground
        self._filters = filters
        self._colour = colour

    def __missing__(self, style: Style | None) -> Style | None:
        """Work it out."""
        segments = [Segment(" ", self._ground + style if self._ground else style)]
        for each in self._filters:
            segments = each.apply(segments, self._colour or Color(0, 0, 0))
        self[style] = segments[0].style
        return segments[0].style


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
    _brush: Brush | None = None

    def __init__(self, *, name: str | None = None, id: str | None = None, classes: str | None = None) -> None:
        self._finished: dict[int, Strip] = {}  # before Textual's own, which refreshes
        self._inks = Inks(Style())
        super().__init__(name=name, id=id, classes=classes)

    @property
    def brush(self) -> Brush:
        """What the draw functions need to know of this widget.

        Each line asks, so it is kept; whatever changes it has the widget drawn again.
        """
        if self._brush is None:
            self._brush = Brush(self.palette, self.has_focus, self.ascii)
        return self._brush

    @property
    def size(self) -> Size:
        """Columns and lines. There is neither border nor padding to be taken off, as Textual's own does."""
        return self.outer_size

    def draw_line(self, y: int) -> Strip:
        """Line `y` of the widget, of any width and without its background."""
        return Strip.blank(self.size.width)

    def render_line(self, y: int) -> Strip:
        """A line on its background, as wide as the widget."""
        return _inked(self.draw_line(y), self.size.width, Inks(self.palette.style("background")))

    def render_lines(self, crop: Region) -> list[Strip]:
        """Finished lines of a part of the widget.

        Textual's own way lays borders, padding and tints around every line, and filters them all for
        every frame. Nothing of that is used here, and it was a fifth of what a look costs.
        """
        width = self.size.width
        self._notice()
        finished = self._finished
        for y in crop.line_range:
            if y not in finished:
                finished[y] = _inked(self.draw_line(y), width, self._inks)
        lines = [finished[y] for y in crop.line_range]
        if crop.column_span != (0, width):
            lines = [line.crop(*crop.column_span) for line in lines]
        return lines

    def refresh(
        self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False
    ) -> Self:
        """Have the widget drawn again."""
        if repaint:
            self._finished.clear()
            self._finished_for = self._brush = None
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def refresh_lines(self, lines: Iterable[int]) -> None:
        """Have some lines drawn again, and no others. `lines` ascend.

        The screen is told at once. Textual's own way takes two messages, each to another task, for every
        widget: at a look that was a sixth of the cost.
        """
        width = self.size.width
        regions = [Region(0, first, width, count) for first, count in _runs(lines)]
        screen = self.screen
        # A widget that has no place yet will be drawn as a whole; a screen that is told of it too early
        # forgets to tell it its size.
        if not regions or not width or self not in screen._compositor.visible_widgets:
            return
        for region in regions:
            for y in region.line_range:
                self._finished.pop(y, None)
        self._repaint_regions.update(regions)
        screen._dirty_widgets.add(self)
        screen.check_idle()

    def claim(self) -> bool:
        """Whether all of it was to be drawn again; whoever asks does so, and no message tells the screen."""
        claimed, self._repaint_required = self._repaint_required, False
        return claimed

    def _notice(self) -> None:
        """Forget what was finished when it would look different now."""
        filters = tuple(self.app.get_line_filters())
        circumstances = self.size, self.look, self.brush, filters
        if circumstances != self._finished_for:
            self._finished_for = circumstances
            self._finished.clear()
            self._inks = Inks(self.palette.style("background"), filters, self.background_colors[1])


def _inked(line: Strip, width: int, inks: Inks) -> Strip:
    """A line in `width` cells and final colours. In one pass: each strip that is made on the way costs."""
    line = line.adjust_cell_length(width)
    return Strip([Segment(text, inks[style]) for text, style, _ in line], width)


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
