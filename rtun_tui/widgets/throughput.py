"""The plot of the rates of the last minutes."""

from __future__ import annotations

from collections.abc import Sequence

from textual.reactive import reactive
from textual.strip import Strip

from rtun_core.view.history import HistoryPicture
from rtun_tui.draw.throughput import Scales, throughput_strips
from rtun_tui.painted import Painted


class Throughput(Painted):
    """Shows a history. `framed` draws a box; without it there is only a rule above."""

    framed: reactive[bool] = reactive(True)

    _history: HistoryPicture | None = None
    _scales: Scales | None = None

    def show(self, history: HistoryPicture) -> None:
        """Take a history; the same one again costs nothing."""
        if history is not self._history:
            self._history = history
            self.sync()

    def watch_framed(self) -> None:
        """The frame takes or gives room."""
        self.sync()

    def paint(self, width: int, height: int) -> Sequence[Strip]:
        """All lines of the pane; before the first history none."""
        if self._history is None:
            return ()
        if self._scales is None or self._scales.look != self.look:
            self._scales = Scales(self.look)
        return throughput_strips(self._history, self._scales, width, height, self.brush, framed=self.framed)[
            :height
        ]
