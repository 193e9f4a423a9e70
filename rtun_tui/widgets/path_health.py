"""How the tunnels' ways are, over the last minutes."""

from __future__ import annotations

from collections.abc import Sequence

from textual.reactive import reactive
from textual.strip import Strip

from rtun_core.model import TunnelView
from rtun_core.view.history import HistoryPicture
from rtun_tui.draw.frame import bottom_line, rule_line, top_line, with_sides
from rtun_tui.draw.path_health import (
    MODES,
    HealthLine,
    Mode,
    fit_scale,
    health_lines,
    health_strip,
    id_room,
    new_scale,
)
from rtun_tui.painted import Painted


class PathHealth(Painted):
    """A line for each tunnel; where there is no room for all, those that need an eye.

    `framed` draws a box; without it there is only a rule above. `mode` is what is drawn.
    """

    framed: reactive[bool] = reactive(True)
    mode: reactive[Mode] = reactive[Mode]("rtt")

    _history: HistoryPicture | None = None
    _tunnels: Sequence[TunnelView] = ()
    _judged: tuple[int, Sequence[HealthLine]] | None = None  # for so many rows

    def on_mount(self) -> None:
        """A scale for each mode, so that going back finds it as it was."""
        self._scales = {mode: new_scale(mode) for mode in MODES}

    def show(self, tunnels: Sequence[TunnelView], history: HistoryPicture) -> None:
        """Take the tunnels as they are now and what is known of their past. The same again costs nothing."""
        if history is self._history and list(map(_seen, tunnels)) == list(map(_seen, self._tunnels)):
            return
        self._tunnels, self._history, self._judged = tunnels, history, None
        self.sync()

    def action_next_mode(self) -> None:
        """The other of round trip and loss."""
        self.mode = MODES[(MODES.index(self.mode) + 1) % len(MODES)]

    def watch_mode(self) -> None:
        """Something else is drawn."""
        self.sync()

    def watch_framed(self) -> None:
        """The frame takes or gives room."""
        self.sync()

    def paint(self, width: int, height: int) -> Sequence[Strip]:
        """All lines of the pane."""
        inner = max(0, width - 2) if self.framed else width
        rows = max(0, height - (2 if self.framed else 1))
        lines = self._lines(rows)
        hidden = len(self._tunnels) - len(lines)
        heading, note = "Path health", f"{hidden} more  {self.mode}" if hidden else self.mode
        drawn = self._draw(lines, inner)
        if not self.framed:
            return [rule_line(width, heading, note, self.brush), *drawn][:height]
        blank = [Strip.blank(inner)] * (rows - len(drawn))
        return [
            top_line(width, heading, note, self.brush),
            *(with_sides(line, self.brush) for line in [*drawn, *blank]),
            bottom_line(width, "", "", self.brush),
        ][:height]

    def _lines(self, rows: int) -> Sequence[HealthLine]:
        """The tunnels that are shown; judging them costs more than drawing, so it is done once."""
        if self._history is None:
            return ()
        if self._judged is None or self._judged[0] != rows:
            self._judged = rows, health_lines(self._tunnels, self._history, rows)
        return self._judged[1]

    def _draw(self, lines: Sequence[HealthLine], width: int) -> list[Strip]:
        if self._history is None:
            return []
        top = fit_scale(self._scales[self.mode], lines, self.mode)
        return [
            health_strip(
                line,
                width,
                self.brush,
                mode=self.mode,
                top=top,
                count=self._history.count,
                id_width=id_room(lines),
            )
            for line in lines
        ]


def _seen(tunnel: TunnelView) -> tuple[object, ...]:
    """What a line says of a tunnel, or what decides whether it has one: not its traffic."""
    return tunnel.id, tunnel.state, tunnel.flows, tunnel.rtt_ms, tunnel.loss_up, tunnel.loss_down
