"""One line that names the panes where only one is shown at a time, and how the one in front is sorted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.message import Message
from textual.strip import Strip

from rtun_tui.drawn import Drawn


class Tab(NamedTuple):
    """A pane to go to, and what its tab says."""

    pane: str
    text: str


class Tabs(Drawn):
    """`[1 Agents 5] [2 Tunnels 5] {3 Flows 212/1,284} [4 Events]  by dn v`."""

    class Picked(Message):
        """A tab was clicked."""

        def __init__(self, pane: str) -> None:
            super().__init__()
            self.pane = pane

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._tabs: tuple[Tab, ...] = ()
        self._front = ""
        self._note = ""

    def show(self, tabs: Sequence[Tab], front: str, note: str) -> None:
        """Name the panes, the one in front, and a note at the right end."""
        told = (tuple(tabs), front, note)
        if told != (self._tabs, self._front, self._note):
            self._tabs, self._front, self._note = told
            self.refresh()

    def draw_line(self, y: int) -> Strip:
        """The line."""
        segments = [Segment(" ")]
        for tab in self._tabs:
            front = tab.pane == self._front
            style = self.palette.style("title-focus" if front else "title")
            segments += [Segment(f"{{{tab.text}}}" if front else f"[{tab.text}]", style), Segment(" ")]
        room = self.size.width - sum(segment.cell_length for segment in segments) - 1
        if self._note and cell_len(self._note) <= room:
            segments.append(Segment(self._note.rjust(room), self.palette.style("muted")))
        return Strip(segments)

    def on_click(self, event: events.Click) -> None:
        """Go to the pane whose tab was clicked."""
        x = 1
        for tab in self._tabs:
            x += cell_len(tab.text) + 3
            if event.x < x:
                self.post_message(self.Picked(tab.pane))
                return
