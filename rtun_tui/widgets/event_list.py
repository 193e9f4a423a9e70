"""The list of what happened, newest at the bottom."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from textual import events
from textual.reactive import reactive
from textual.strip import Strip

from rtun_core.event import Level, Stamped, event_json
from rtun_core.view.units import masked_text
from rtun_tui.draw.events import event_line, event_strip
from rtun_tui.draw.frame import bottom_line, cut, rule_line, top_line, with_sides
from rtun_tui.draw.headings import heading
from rtun_tui.event_export import export_events
from rtun_tui.event_log import LIMIT, WORDS, EventLog
from rtun_tui.painted import Painted

WHEEL = 3  # lines that a notch of the wheel scrolls
LEVELS = tuple(WORDS)


class EventList(Painted, can_focus=True):
    """Shows events. Scrolling up stops following the newest; at the bottom it follows again.

    `level` and `search` hide the events below and without. `framed` draws a box; without it there is
    only a rule above. The screen binds the keys.
    """

    heading: reactive[str] = reactive(heading("events"))
    level: reactive[Level] = reactive(Level.INFO)
    search: reactive[str] = reactive("")
    framed: reactive[bool] = reactive(True)

    def __init__(
        self,
        *,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
        limit: int = LIMIT,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._log = EventLog(limit)
        self._log.narrow(level=Level.INFO, search="")

    # -- data ----------------------------------------------------------------------------------

    def add(self, events: Sequence[Stamped]) -> None:
        """Take what happened, oldest first."""
        if events:
            self._log.add(events)
            self.sync()

    def exchange(self, log: EventLog) -> EventLog:
        """Show other events, and give those that were shown."""
        before, self._log = self._log, log
        log.rows = before.rows
        self._narrow()
        return before

    @property
    def stamped(self) -> Sequence[Stamped]:
        """The newest single events, oldest first, whatever is shown."""
        return self._log.stamped

    @property
    def tailing(self) -> bool:
        """Whether the newest event is followed."""
        return self._log.tailing

    def visible_text(self) -> str:
        """The lines in the window, whole."""
        return "\n".join(event_line(entry, self.look) for entry in self._log.window())

    def visible_json(self) -> str:
        """The newest event of each line in the window, one JSON object a line."""
        text = "\n".join(event_json(entry.newest).decode() for entry in self._log.window())
        return masked_text(text) if self.look.private else text

    def lines(self) -> list[str]:
        """Every line that passes the level and the search, whole."""
        return [event_line(entry, self.look) for entry in self._log.shown()]

    def export(self, form: str) -> str:
        """What passes the level and the search: `ndjson` the single events, `csv` the lines."""
        return export_events(form, self._log, self.look)

    # -- actions, bound to keys by the screen --------------------------------------------------

    def action_move(self, by: int) -> None:
        """Lines down, or up when negative."""
        self._log.move(by)
        self.sync()

    def action_home(self) -> None:
        """The oldest event."""
        self._log.home()
        self.sync()

    def action_end(self) -> None:
        """The newest event, and follow it."""
        self._log.end()
        self.sync()

    def action_half_page(self, by: int) -> None:
        """Half a page down (1) or up (-1)."""
        self.action_move(by * max(1, self._log.rows // 2))

    def action_full_page(self, by: int) -> None:
        """A page down (1) or up (-1), one line of which was seen before."""
        self.action_move(by * max(1, self._log.rows - 1))

    def action_match(self, by: int) -> None:
        """The next (1) or previous (-1) event that was searched for: what is shown are matches."""
        self.action_move(by)

    def action_next_level(self) -> None:
        """Show from the next louder level on, after the loudest everything."""
        self.level = LEVELS[(LEVELS.index(self.level) + 1) % len(LEVELS)]

    def watch_level(self) -> None:
        """Other events are shown."""
        self._narrow()

    def watch_search(self) -> None:
        """Other events are shown."""
        self._narrow()

    def watch_heading(self) -> None:
        """Another title."""
        self.sync()

    def watch_framed(self) -> None:
        """The frame takes or gives room."""
        self.sync()

    # -- drawing -------------------------------------------------------------------------------

    def paint(self, width: int, height: int) -> Sequence[Strip]:
        """All lines of the pane."""
        inner = max(0, width - 2) if self.framed else width
        self._log.rows = max(0, height - (2 if self.framed else 1))
        brush, look, search = self.brush, self.look, self.search
        lines = [event_strip(entry, inner, brush, look, search=search) for entry in self._log.window()]
        if not lines and self._log.rows:
            lines = [self._nothing(inner)]
        if not self.framed:
            return [rule_line(width, self.heading, self._note(), self.brush), *lines][:height]
        blank = [Strip.blank(inner)] * (self._log.rows - len(lines))
        return [
            top_line(width, self.heading, self._note(), self.brush),
            *(with_sides(line, self.brush) for line in [*lines, *blank]),
            bottom_line(width, "", "", self.brush),
        ][:height]

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Newer lines."""
        event.stop()
        self.action_move(WHEEL)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Older lines."""
        event.stop()
        self.action_move(-WHEEL)

    def _narrow(self) -> None:
        self._log.narrow(level=self.level, search=self.search)
        self.sync()

    def _note(self) -> str:
        """For the title: what is hidden, and whether the newest is in sight."""
        newer = self._log.newer
        parts = [f"level>={self.level.name.lower()}"]
        if self.search:
            parts.append(f"search: {self.search}")
        parts.append("tail" if self.tailing else f"{newer} newer below")
        return "  ".join(parts)

    def _nothing(self, width: int) -> Strip:
        text = f"none of {self._log.total} is shown" if self._log.total else "nothing has happened yet"
        return Strip([Segment(cut(f" {text}", width, self.brush.ellipsis), self.palette.style("muted"))])
