"""The one screen that is always there: agents, tunnels, flows, plots, events, and the line that is typed.

It draws a desk and a picture. A key becomes an `Act` message; what it means is not decided here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

from textual import events
from textual.app import ComposeResult
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget

from rtun_core.engine.source import Picture, SourceStatus
from rtun_core.event import Stamped
from rtun_core.view.columns import TABLES, TableId
from rtun_tui.arrange import Box, Form, Pane, arrange, form_of
from rtun_tui.desk import PANES, Desk
from rtun_tui.draw.empty import empty_text
from rtun_tui.draw.headings import heading, note, places, short_heading
from rtun_tui.drawn import Drawn
from rtun_tui.event_log import EventLog
from rtun_tui.key_actions import KEY_ACTIONS
from rtun_tui.keymap import Keymap, display_key
from rtun_tui.palette import Palette
from rtun_tui.widgets.detail import Detail
from rtun_tui.widgets.event_list import EventList
from rtun_tui.widgets.footer import KeyHints
from rtun_tui.widgets.header import Header
from rtun_tui.widgets.live_table import LiveTable
from rtun_tui.widgets.path_health import PathHealth
from rtun_tui.widgets.prompt import COMMAND, FILTER, MESSAGE_TIME, Complete, Prompt
from rtun_tui.widgets.tabs import Tab, Tabs
from rtun_tui.widgets.throughput import Throughput
from rtun_tui.widgets.tiny import Tiny

_Kind = TypeVar("_Kind", bound=Widget)

COMMAND_ACTION, FILTER_ACTION = "app.command", "filter.edit"
# While a line is typed, keys are letters.
TYPING = [
    ("Enter", "use", True),
    ("Up", "older lines", True),
    ("Tab", "complete", True),
    ("Esc", "undo", True),
]


class Overview(Screen[None], inherit_bindings=False):
    """Shows what is on the desk."""

    CSS_PATH = "overview.tcss"
    AUTO_FOCUS = None
    BLANK = True  # the panes cover it: nothing of its own is drawn at each look

    class Act(Message):
        """A key of the keymap was pressed in a pane; `key` is None for what the mouse did."""

        def __init__(self, action: str, key: events.Key | None = None) -> None:
            super().__init__()
            self.action, self.key = action, key

    class LookAgain(Message):
        """Rows are wanted that the last picture does not have."""

    def __init__(
        self,
        desk: Desk,
        keymap: Keymap,
        complete: Complete,
        *,
        works: Callable[[], Callable[[str], bool]],
        ascii: bool = False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.desk = desk
        self.keymap = keymap
        self.picture: Picture | None = None
        self._ascii = ascii
        self._works = works
        self._status = SourceStatus("LIVE")
        self._last_event = ""
        self._placed: tuple[Mapping[Pane, Box], bool] | None = None
        self._tables = {table: LiveTable(desk.tables[table], id=table) for table in TABLES}
        others = (
            Throughput(id="throughput"),
            PathHealth(id="health"),
            Detail(id="detail"),
            EventList(id="events"),
            Prompt(complete, id="prompt"),
            KeyHints(id="footer"),
            Tiny(id="tiny"),
        )
        self._all = (Header(id="header", wall=wall), Tabs(id="tabs"), *self._tables.values(), *others)
        self.signs: Mapping[TableId, str] = {}  # of filters that take long
        self._words: Mapping[str, str] = {}
        self._hinted = {pane: hinted(pane, keymap, self._words) for pane in PANES}
        # Looked up at each look and each key: searching the tree for them costs more.
        self._kinds: dict[type[Widget], Widget] = {type(widget): widget for widget in self._all}

    def compose(self) -> ComposeResult:
        """Every pane; where it stands, and whether, is decided by `arrange`."""
        return self._all

    def on_mount(self) -> None:
        """Nothing is known yet."""
        self.sync()

    # -- drawing -------------------------------------------------------------------------------

    def show(self, picture: Picture, status: SourceStatus) -> None:
        """Draw a new picture."""
        self.picture, self._status = picture, status
        for table in TABLES:
            self.table(table).empty = empty_text(table, picture.snapshot, self.desk.look)
        for table, page in picture.pages.items():
            self.table(table).show(page, picture.snapshot.ts)
        self._place()
        self._fill()
        self._titles()

    def draw_now(self) -> None:
        """Send what has changed to the terminal at once; Textual by itself waits for its next beat."""
        if not self.is_running or not self.is_current:
            return
        placed = self._compositor.visible_widgets
        panes = (widget for widget in self._all if isinstance(widget, Drawn) and widget in placed)
        self._dirty_widgets.update(pane for pane in panes if pane.claim())
        self._on_timer_update()

    def tell(self, events: Sequence[Stamped]) -> None:
        """Take what happened."""
        if events:
            self.pane(EventList).add(events)
        for each in events:
            if each.event.severity >= self.desk.level:
                self._last_event = each.event.text()

    def exchange_events(self, log: EventLog) -> EventLog:
        """Show other events, and give those that were shown."""
        self._last_event = ""
        return self.pane(EventList).exchange(log)

    def say(self, text: str, role: str, seconds: float = MESSAGE_TIME) -> None:
        """One line to the user, above the keys; in their place while a line is typed there."""
        if self.prompt.editing:
            self.pane(KeyHints).message(text, role)
        else:
            self.prompt.message(text, role, seconds)

    def hush(self) -> None:
        """The keys again, where something was said in their place."""
        self.pane(KeyHints).clear()

    def use_keys(self, keymap: Keymap) -> None:
        """Other keys, from now on."""
        self.keymap = keymap
        self._hinted = {pane: hinted(pane, keymap, self._words) for pane in PANES}

    def hint_with(self, words: Mapping[str, str]) -> None:
        """Have these actions told by other words on the line of keys, from now on."""
        self._words = words
        self.use_keys(self.keymap)

    def look_as(self, palette: Palette) -> None:
        """Colours, units and characters for every pane."""
        for widget in self.query(Drawn):  # those inside of other panes, too
            widget.palette, widget.look, widget.ascii = palette, self.desk.look, self._ascii

    def sync(self) -> None:
        """Draw the desk as it is now: focus, places, titles, keys."""
        self._place()
        pane = self.query_one(f"#{self.desk.pane}", Widget)
        if not self.prompt.editing and pane.display and self.focused is not pane:
            self.set_focus(pane)
        for widget in self._all:
            if isinstance(widget, Drawn):
                widget.look = self.desk.look
        self.pane(EventList).level = self.desk.level
        for table in TABLES:
            self.table(table).sync()
        self._titles()
        self._fill()

    def _place(self) -> None:
        size = self.app.size
        rows = {table: page.shown for table, page in (self.picture.pages if self.picture else {}).items()}
        boxes = arrange(size.width, size.height, self.desk.wish(rows))
        framed = form_of(size.width, size.height) is Form.FULL
        if self._placed == (boxes, framed):
            return
        self._placed = boxes, framed
        for widget in self._all:
            box = boxes.get(widget.id or "")
            widget.display = box is not None
            if box is not None:
                widget.styles.offset = (box.x, box.y)
                widget.styles.width, widget.styles.height = box.width, box.height
            if isinstance(widget, LiveTable | Throughput | PathHealth | EventList | Detail):
                widget.framed = framed

    def _titles(self) -> None:
        desk = self.desk
        framed = form_of(*self.app.size) is Form.FULL
        for table in TABLES:
            widget = self.table(table)
            key = self._pane_key(table)
            widget.heading = heading(table, desk.tables[table], key=key) if framed else ""  # else it is a tab
            widget.note = self._note(table)
        self.pane(EventList).heading = heading("events", key=self._pane_key("events"))
        tabs = [
            Tab(pane, short_heading(pane, desk.tables.get(pane), key=self._pane_key(pane)))  # type: ignore[call-overload]
            for pane in self._tab_panes()
        ]
        self.pane(Tabs).show(tabs, desk.pane, places(desk.table) if desk.pane in TABLES else "")
        if not self.prompt.editing:
            self.hush()
        self.prompt.idle(self._resting())
        self.pane(KeyHints).show(self._hints())

    def _note(self, table: TableId) -> str:
        return note(self.desk.tables[table], ascii=self._ascii, sign=self.signs.get(table, ""))

    def _resting(self) -> str:
        """What stands in the prompt while nothing is typed or told: the filter of the table in front."""
        state = self.desk.table
        words = self.signs.get(state.table, "") if state.filter_on else "off"
        return f"/ {state.filter}{f'  ({words})' if words else ''}" if state.filter else ""

    def _pane_key(self, pane: str) -> str:
        """What leads to a pane; empty when no key does."""
        return next(map(display_key, self.keymap.of(f"pane.{pane}")), "")

    def _tab_panes(self) -> tuple[str, ...]:
        rules = ("rules",) if self.desk.rules else ()
        return ("agents", "tunnels", "flows", "events", *rules)

    def _fill(self) -> None:
        """The panes that are not tables."""
        picture, desk = self.picture, self.desk
        if picture is None:
            return
        self.pane(Header).show(picture, self._status, paused_at=desk.paused_at)
        self.pane(Throughput).show(picture.history)
        self.pane(PathHealth).show(picture.snapshot.tunnels, picture.history)
        if desk.detail:
            self.pane(Detail).show(
                desk.table.table, desk.table.current(), picture, self.pane(EventList).stamped
            )
        if self.pane(Tiny).display:
            self.pane(Tiny).show(picture.snapshot, self._status.word, self._last_event)

    def _hints(self) -> list[tuple[str, str, bool]]:
        """Key, word, whether it works, for the pane in front. The first and the last one stay the longest."""
        if self.prompt.editing:
            return TYPING
        works = self._works()
        return [(key, word, works(action)) for key, word, action in self._hinted[self.desk.pane]]

    # -- parts ---------------------------------------------------------------------------------

    def pane(self, kind: type[_Kind]) -> _Kind:
        """A pane by its kind, of which there is one."""
        return cast(_Kind, self._kinds[kind])

    def table(self, table: TableId) -> LiveTable:
        """A table by its name."""
        return self._tables[table]

    @property
    def prompt(self) -> Prompt:
        """The line above the keys."""
        return self.pane(Prompt)

    def shown(self) -> frozenset[str]:
        """The panes that have a place now."""
        return frozenset(widget.id for widget in self._all if widget.display and widget.id)

    # -- keys and mouse ------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        """A key that no widget has used."""
        if self.prompt.editing:
            self.prompt.take(event)
            return
        action = self.keymap.action_at(self.desk.pane, event.key)
        name = action.id if action is not None else self._elsewhere(event.key)
        if name:
            event.stop()
            event.prevent_default()
            if name in (COMMAND_ACTION, FILTER_ACTION):
                # At once, before the next key: what was pasted or typed fast belongs to the line.
                self.type_line(name)
            else:
                self.post_message(self.Act(name, event))

    def type_line(self, action: str) -> None:
        """Begin to type a command, or the filter of the pane in front."""
        if action == COMMAND_ACTION:
            self.prompt.edit(COMMAND)
        else:
            events = self.desk.pane == "events"
            self.prompt.edit(FILTER, self.pane(EventList).search if events else self.desk.table.filter)
        self.sync()

    def _elsewhere(self, key: str) -> str:
        """What the key does in other panes: there is a reason to tell why it does nothing here."""
        return next((each.id for each in KEY_ACTIONS if key in self.keymap.of(each.id)), "")

    def on_resize(self) -> None:
        """Other panes fit now."""
        self.sync()
        self.post_message(self.LookAgain())

    def on_tabs_picked(self, event: Tabs.Picked) -> None:
        """A tab was clicked."""
        self.desk.focus(event.pane)
        self.sync()
        self.post_message(self.LookAgain())

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A click gives the keyboard to a pane."""
        widget, _ = self.get_widget_at(event.screen_x, event.screen_y)
        if widget.id in PANES and widget.id != self.desk.pane:
            self.desk.focus(widget.id)
            self.sync()

    def on_live_table_window_wanted(self) -> None:
        """A table moved beyond what it has."""
        self.post_message(self.LookAgain())

    def on_live_table_sort_clicked(self, event: LiveTable.SortClicked) -> None:
        """Sort by the column that was clicked."""
        self.table(event.table).action_sort_by(event.column)
        self._titles()

    def on_live_table_marks_changed(self, event: LiveTable.MarksChanged) -> None:
        """The title says how many there are."""
        self.table(event.table).note = self._note(event.table)

    def on_live_table_cursor_moved(self) -> None:
        """The drawer follows the cursor."""
        if self.desk.detail:
            self._fill()

    def on_live_table_chosen(self) -> None:
        """Enter or a double click."""
        self.post_message(self.Act("look.detail"))


def hinted(pane: str, keymap: Keymap, words: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Key, word and action of what the footer tells in a pane, how to get help first.

    `words` are those of actions that mean something else now, or are not told otherwise.
    """
    told = {action: words.get(action.id, action.hint) for action in KEY_ACTIONS if pane in action.panes}
    return [
        (display_key(keymap.of(action.id)[0]), word, action.id)
        for action, word in sorted(told.items(), key=lambda each: each[0].id != "app.help")
        if word and keymap.of(action.id)
    ]
