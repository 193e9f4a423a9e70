"""What is left of the console on a very small terminal: state, rates, last event."""

from __future__ import annotations

from rich.segment import Segment
from textual.strip import Strip

from rtun_core.model import AgentState, Snapshot, TunnelState
from rtun_core.view.cells import visible
from rtun_core.view.units import Look, count_text, masked_text, rate_text
from rtun_tui.draw.frame import cut
from rtun_tui.drawn import Drawn


class Tiny(Drawn):
    """Three lines; shorter ones where even they do not fit."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: tuple[str, ...] = ("rtun",)

    def show(self, snapshot: Snapshot, word: str, event: str) -> None:
        """Say how it is; `word` is LIVE, PAUSED, ..., `event` the last one worth a line."""
        lines = tiny_lines(snapshot, word, event, self.look)
        if lines != self._lines:
            self._lines = lines
            self.refresh()

    def draw_line(self, y: int) -> Strip:
        """One of the lines."""
        if y >= len(self._lines):
            return Strip.blank(self.size.width)
        text = cut(self._lines[y], self.size.width, self.brush.ellipsis)
        return Strip([Segment(text, self.palette.style("header" if y == 0 else "text"))])


def tiny_lines(snapshot: Snapshot, word: str, event: str, look: Look) -> tuple[str, ...]:
    """State, rates, and the last event, each in as few words as it takes."""
    agent = next((each.id for each in snapshot.agents if each.state is AgentState.IN_USE), "no agent")
    up = sum(tunnel.state is TunnelState.UP for tunnel in snapshot.tunnels)
    flows = sum(rule.flows for rule in snapshot.rules)
    return (
        f"{word} {visible(agent)} t {up}/{len(snapshot.tunnels)} fl {count_text(flows)}",
        f"up {rate_text(snapshot.rates.up_bytes, look)} dn {rate_text(snapshot.rates.down_bytes, look)}",
        masked_text(visible(event)) if look.private else visible(event),
    )
