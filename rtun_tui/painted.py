"""The base of widgets whose few lines are drawn together and compared with those that are shown."""

from __future__ import annotations

from collections.abc import Sequence

from textual.geometry import Size
from textual.strip import Strip

from rtun_core.view.units import Look
from rtun_tui.draw.frame import Brush
from rtun_tui.drawn import Drawn

_Circumstances = tuple[Size, Look, Brush]


class Painted(Drawn):
    """A subclass overrides `paint` and calls `sync` when what it shows has changed.

    `sync` redraws only the lines that differ. Another size, focus, palette or look is noticed here.
    """

    _strips: Sequence[Strip] = ()
    _painted_for: _Circumstances | None = None

    def paint(self, width: int, height: int) -> Sequence[Strip]:
        """All lines, from the top; lines that are left out are blank."""
        return ()

    def sync(self) -> None:
        """Draw the lines that say something else now."""
        stale = self._strips
        if self._painted_for != self._circumstances:
            self.refresh()  # `draw_line` paints when it is asked
            return
        self._paint()
        fresh = self._strips
        longer = max(len(stale), len(fresh))
        self.refresh_lines(y for y in range(longer) if stale[y : y + 1] != fresh[y : y + 1])

    def draw_line(self, y: int) -> Strip:
        """A line as it was painted last, or anew when it would look different now."""
        if self._painted_for != self._circumstances:
            self._paint()
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width)

    @property
    def _circumstances(self) -> _Circumstances:
        return self.size, self.look, self.brush

    def _paint(self) -> None:
        self._painted_for = self._circumstances
        self._strips = self.paint(self.size.width, self.size.height) if self.size else ()
