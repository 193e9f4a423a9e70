"""The drawer beside a table: what there is to know of the row under its cursor, or of a pinned one."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.segment import Segment
from textual import events
from textual.reactive import reactive
from textual.strip import Strip

from rtun_core.engine.source import Picture
from rtun_core.event import Stamped
from rtun_core.model import FlowView
from rtun_core.view.columns import TableId, row_key
from rtun_tui.draw.detail import Frame, Line, detail_lines
from rtun_tui.draw.frame import bottom_line, rule_line, top_line, with_sides
from rtun_tui.drawn import Drawn

FLOWS_REMEMBERED = 64
SAMPLES = 300


class Detail(Drawn):
    """Lines of one row. The rates of a flow are remembered from when it was first shown here."""

    framed: reactive[bool] = reactive(True)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: list[Line] = []
        self._top = 0
        self._pinned: tuple[TableId, str] | None = None
        self._key: tuple[TableId, str] | None = None
        self._row: Any = None
        self._seen_at = 0.0  # when the row was as it is drawn
        self._stale = False
        self._rates: OrderedDict[str, deque[tuple[float, float]]] = OrderedDict()
        self._sampled: dict[str, float] = {}
        self._shown: tuple[TableId, Any, Picture, Sequence[Stamped]] | None = None

    def on_resize(self) -> None:
        """Lines of another width."""
        if self._shown is not None:
            self.show(*self._shown)

    def show(self, table: TableId, row: Any, picture: Picture, happened: Sequence[Stamped]) -> None:
        """Draw a row; a pinned one stays, and is brought up to date while it is among the rows."""
        self._shown = table, row, picture, happened
        if self._pinned is not None:
            table, row = self._pinned[0], self._find(self._pinned, picture)
        if row is not None:
            self._key, self._row = (table, row_key(table, row)), row
            self._seen_at, self._stale = picture.snapshot.ts, False
        elif self._pinned is not None and not self._stale:
            self._stale = True
            self.refresh()
        elif self._key is not None and self._key[0] != table:
            self._key = self._row = None
        if self._row is None or self._key is None:
            self._lines = []
            self.refresh()
            return
        if isinstance(self._row, FlowView):
            self._remember(self._row, picture.snapshot.ts)
        frame = Frame(
            snapshot=picture.snapshot,
            history=picture.history,
            events=happened,
            look=self.look,
            width=max(10, self.size.width - 4),
            ascii=self.ascii,
            flow_rates=tuple(self._rates.get(self._key[1], ())),
        )
        lines = detail_lines(self._key[0], self._row, frame)
        if lines != self._lines:
            self._lines = lines
            self._top = max(0, min(self._top, len(lines) - self._room))
            self.refresh()

    def toggle_pin(self) -> None:
        """Stay with this row while the cursor goes on, or follow the cursor again."""
        self._pinned = self._key if self._pinned is None else None
        self.refresh()

    def pin(self, table: TableId, row: Any) -> None:
        """Stay with this row, wherever the cursor is."""
        self._row, self._key = row, (table, row_key(table, row))
        self._pinned, self._stale = self._key, False
        self.refresh()

    def unpin(self) -> None:
        """Follow the cursor."""
        self._pinned = None
        self._row = self._key = self._shown = None

    def forget(self) -> None:
        """The rows of another source come: neither a pin nor the rates of a flow are of those."""
        self.unpin()
        self._rates.clear()
        self._sampled.clear()

    @property
    def overflows(self) -> bool:
        """Whether there are lines out of sight."""
        return len(self._lines) > self._room

    def action_full_page(self, by: int) -> None:
        """A page down (1) or up (-1)."""
        self._scroll(by * max(1, self._room - 1))

    def draw_line(self, y: int) -> Strip:
        """The frame and the lines in it."""
        width, height = self.size
        note = "Enter follows" if self._pinned else "Enter pins"
        if y == 0:
            edge = top_line if self.framed else rule_line
            return edge(width, self._heading, note, self.brush)
        if self.framed and y == height - 1:
            return bottom_line(width, "", "", self.brush)
        inner = width - 2 if self.framed else width
        at = self._top + y - 1
        line = self._lines[at] if at < len(self._lines) else ()
        pieces = [Segment(piece.text, self.palette.style(piece.role)) for piece in line]
        strip = Strip([Segment(" "), *pieces]).adjust_cell_length(max(0, inner))
        return with_sides(strip, self.brush) if self.framed else strip

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """More lines."""
        event.stop()
        self._scroll(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Back."""
        event.stop()
        self._scroll(-1)

    @property
    def _heading(self) -> str:
        """A pinned row that is not among the rows any more, or out of their window, is of some time ago."""
        if self._pinned is None:
            return "Detail"
        if not self._stale:
            return "Detail pinned"
        return f"Detail pinned, of {datetime.fromtimestamp(self._seen_at).strftime('%H:%M:%S')}"

    @property
    def _room(self) -> int:
        return max(0, self.size.height - (2 if self.framed else 1))

    def _scroll(self, by: int) -> None:
        self._top = max(0, min(self._top + by, len(self._lines) - self._room))
        self.refresh()

    def _find(self, pinned: tuple[TableId, str], picture: Picture) -> Any:
        page = picture.pages.get(pinned[0])
        rows = page.rows if page is not None else ()
        return next((row for row in rows if row_key(pinned[0], row) == pinned[1]), None)

    def _remember(self, flow: FlowView, now: float) -> None:
        """One sample a second for each flow that is looked at, of the newest that were."""
        if abs(now - self._sampled.get(flow.id, 0.0)) < 0.9:  # in a recording, time may go back
            return
        self._sampled[flow.id] = now
        rates = self._rates.setdefault(flow.id, deque(maxlen=SAMPLES))
        rates.append((flow.up_rate, flow.down_rate))
        self._rates.move_to_end(flow.id)
        if len(self._rates) > FLOWS_REMEMBERED:
            gone, _ = self._rates.popitem(last=False)
            del self._sampled[gone]
