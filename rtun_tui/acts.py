"""What each key of the keymap does: move, arrange, operate, ask. One entry an action; none is missing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from rtun_core.cli.console import EndKind
from rtun_core.errors import RtunError
from rtun_core.event import Level
from rtun_core.view.columns import COLUMNS
from rtun_tui.desk import PANES
from rtun_tui.draw.headings import NAMES, heading
from rtun_tui.effects import ConsoleEffects
from rtun_tui.host import Host
from rtun_tui.key_actions import TABLES, KeyAction
from rtun_tui.keymap import ACTIONS, display_key
from rtun_tui.operations import OPERATIONS
from rtun_tui.screens.choose import Choose
from rtun_tui.screens.columns import ChooseColumns
from rtun_tui.screens.help import Help
from rtun_tui.taking import Taking
from rtun_tui.view_commands import units_text
from rtun_tui.widgets.detail import Detail
from rtun_tui.widgets.event_list import EventList
from rtun_tui.widgets.live_table import LiveTable
from rtun_tui.widgets.path_health import PathHealth

# Commands of the view that a key stands for.
LINES: Mapping[str, str] = {
    "pane.agents": "focus agents",
    "pane.tunnels": "focus tunnels",
    "pane.flows": "focus flows",
    "pane.events": "focus events",
    "pane.rules": "focus rules",
    "pane.zoom": "zoom",
    "take.screenshot": "screenshot",
    "app.close": "close",
}
# Methods of the pane in front, and their argument if they have one.
MOTIONS: Mapping[str, tuple[str, *tuple[int, ...]]] = {
    "move.down": ("action_move", 1),
    "move.up": ("action_move", -1),
    "move.first": ("action_home",),
    "move.last": ("action_end",),
    "move.half-down": ("action_half_page", 1),
    "move.half-up": ("action_half_page", -1),
    "move.page-down": ("action_full_page", 1),
    "move.page-up": ("action_full_page", -1),
}
# The same, where only tables have it.
TABLE_MOTIONS: Mapping[str, tuple[str, *tuple[int, ...]]] = {
    "move.left": ("action_scroll_columns", -1),
    "move.right": ("action_scroll_columns", 1),
    "mark.toggle": ("action_toggle_mark",),
    "sort.previous": ("action_shift_sort", -1),
    "sort.next": ("action_shift_sort", 1),
    "sort.invert": ("action_invert_sort",),
    "columns.wide": ("action_toggle_wide",),
}
TWICE = 1.0  # seconds within which ctrl+c twice quits


class Acts:
    """The actions of one console."""

    def __init__(self, app: Host, effects: ConsoleEffects) -> None:
        self._app = app
        self._taking = Taking(app)
        self._interrupted_at = float("-inf")
        self.table: Mapping[str, Callable[[], object]] = {
            "mark.range": self._mark_range,
            "mark.clear": self._clear_marks,
            "pane.next": lambda: app.desk.next_pane(1),
            "pane.previous": lambda: app.desk.next_pane(-1),
            "pane.jump": self._jump,
            "look.detail": self._detail,
            "look.back": self._back,
            "filter.edit": lambda: app.overview.type_line("filter.edit"),
            "filter.toggle": self._toggle_filter,
            "match.next": lambda: self._match(1),
            "match.previous": lambda: self._match(-1),
            "sort.choose": self._choose_sort,
            "columns.choose": self._choose_columns,
            "time.pause": lambda: self._seen(effects.pause(on=app.desk.paused_at is None)),
            "time.faster": self._faster,
            "time.slower": self._slower,
            "time.repaint": lambda: app.refresh(repaint=True, layout=True),
            "time.back": lambda: self._seen(effects.step(-1)),
            "time.forward": lambda: self._seen(effects.step(1)),
            "show.units": self._units,
            "show.totals": self._totals,
            "show.privacy": self._privacy,
            "show.theme": self._choose_theme,
            "show.health": self._health,
            "show.level": self._level,
            "take.copy": self._taking.copy,
            "take.copy-json": self._taking.copy_json,
            "take.export": self._taking.choose_form,
            "app.command": lambda: app.overview.type_line("app.command"),
            "app.palette": effects.palette,
            "app.help": lambda: app.push_screen(Help(app.keymap, app.desk.pane, app.palette)),
            "app.record": lambda: self._say(effects.toggle_record()),
            "app.quit": self._quit,
            "app.copy-selection": self._interrupt,
        }

    @property
    def known(self) -> frozenset[str]:
        """Every action that is carried out here."""
        return frozenset({*self.table, *LINES, *OPERATIONS, *MOTIONS, *TABLE_MOTIONS})

    async def do(self, action: str) -> None:
        """Carry out an action of the keymap, or say in which pane it works."""
        if why := self._misplaced(ACTIONS[action]):
            self._app.say(why)
        elif action in OPERATIONS:
            self._app.execution.operate(OPERATIONS[action])
        elif action in LINES:
            await self._app.run_line(LINES[action])
        elif action in MOTIONS:
            name, *arguments = MOTIONS[action]
            long = name == "action_full_page" and self._long_drawer
            getattr(self._app.overview.pane(Detail) if long else self._front, name)(*arguments)
        elif action in TABLE_MOTIONS:
            name, *arguments = TABLE_MOTIONS[action]
            getattr(self._live, name)(*arguments)
        else:
            done = self.table[action]()
            if isinstance(done, Awaitable):
                await self._settled(done)

    async def _settled(self, done: Awaitable[object]) -> None:
        try:
            await done
        except RtunError as error:
            self._app.say(str(error), "error")

    def _misplaced(self, action: KeyAction) -> str:
        """Where an action works, when it is not here: what it would change could not be seen."""
        desk, keymap = self._app.desk, self._app.keymap
        if desk.pane in action.panes:
            return ""
        key = display_key(keymap.of(action.id)[0])
        names = " and ".join(NAMES[pane] for pane in action.panes)
        where = "the tables" if action.panes == TABLES else f"the {names} pane{'s' * (' and ' in names)}"
        way = ", ".join(keymap.display(f"pane.{pane}") for pane in action.panes)
        return f"{key} ({action.help}) works in {where}: press {way}"

    # -- moving --------------------------------------------------------------------------------

    @property
    def _long_drawer(self) -> bool:
        """Whether the drawer is open and has more lines than room, so that pages are turned in it."""
        desk = self._app.desk
        return desk.detail and desk.pane != "events" and self._app.overview.pane(Detail).overflows

    @property
    def _live(self) -> LiveTable:
        return self._app.overview.table(self._app.desk.table.table)

    @property
    def _front(self) -> LiveTable | EventList:
        """What the keys that move are for."""
        overview = self._app.overview
        return overview.pane(EventList) if self._app.desk.pane == "events" else self._live

    def _mark_range(self) -> None:
        if not self._live.action_mark_to_cursor():
            key = self._app.keymap.display("mark.toggle")
            self._app.say(f"mark a row with {key} first; the range reaches from there, within a few screens")

    def _clear_marks(self) -> None:
        if self._app.desk.table.marks:
            self._live.action_clear_marks()
        else:
            self._app.say("no row is marked")

    def _jump(self) -> None:
        app = self._app
        letters = {pane[0]: pane for pane in PANES}
        options = [
            (pane, heading(pane, app.desk.tables.get(pane), key=letter))  # type: ignore[call-overload]
            for letter, pane in letters.items()
        ]
        own = {key: pane for pane in PANES for key in app.keymap.of(f"pane.{pane}")}
        app.push_screen(Choose("Go to", options, current=app.desk.pane, keys=own | letters), self._jumped)

    def _jumped(self, pane: str | None) -> None:
        if pane is not None:
            self._app.desk.focus(pane)
            self._app.overview.sync()
            self._app.look()

    # -- looking -------------------------------------------------------------------------------

    def _detail(self) -> None:
        desk = self._app.desk
        if desk.detail:
            self._app.overview.pane(Detail).toggle_pin()
        elif desk.table.current() is None:
            self._app.say("there is no row under the cursor")
        else:
            desk.detail = True

    def _back(self) -> None:
        """Close what was opened last: drawer, zoom, filter, marks, recording; in the events no table's."""
        desk = self._app.desk
        events = self._app.overview.pane(EventList)
        if desk.detail:
            desk.detail = False
            self._app.overview.pane(Detail).unpin()
        elif desk.zoom:
            desk.zoom = False
        elif desk.pane == "events" and events.search:
            events.search = ""
        elif desk.pane in TABLES and desk.table.filter:
            desk.table.filter = ""
            self._app.look()
        elif desk.pane in TABLES and desk.table.marks:
            self._live.action_clear_marks()
        elif self._app.replaying.on:
            self._app.say(self._app.replaying.back())
        elif desk.pane == "rules":
            desk.rules = False
            desk.focus("flows")
        else:
            self._app.say("there is nothing to go back from")

    def _toggle_filter(self) -> None:
        state = self._app.desk.table
        if not state.filter:
            self._app.say(f"there is no filter: {self._app.keymap.display('filter.edit')} begins one")
            return
        state.filter_on = not state.filter_on
        self._app.look()

    def _match(self, step: int) -> None:
        events = self._app.overview.pane(EventList)
        if not events.search:
            self._app.say(
                f"nothing is searched for: {self._app.keymap.display('filter.edit')} begins a search"
            )
        else:
            events.action_match(step)

    # -- arranging -----------------------------------------------------------------------------

    def _choose_sort(self) -> None:
        state = self._app.desk.table
        options = [(column.id, f"{column.id:<10}{column.help}") for column in COLUMNS[state.table]]
        current = state.sort[0].column if state.sort else None
        dialog = Choose(f"Sort {state.table} by", options, current=current)
        self._app.push_screen(dialog, self._sort_chosen)

    def _sort_chosen(self, column: str | None) -> None:
        if column is not None:
            self._live.action_sort_by(column)
            self._app.overview.sync()

    def _choose_columns(self) -> None:
        state = self._app.desk.table
        self._app.push_screen(ChooseColumns(state.table, state.columns), self._columns_chosen)

    def _columns_chosen(self, columns: tuple[str, ...] | None) -> None:
        if columns:
            self._app.desk.table.columns = columns
            self._app.overview.sync()

    def _units(self) -> None:
        """The next of bits, bytes, bits in 1024s, bytes in 1024s."""
        look = self._app.desk.look
        order = ((True, False), (False, False), (True, True), (False, True))
        bits, iec = order[(order.index((look.bits, look.iec)) + 1) % len(order)]
        self._app.desk.look_with(bits=bits, iec=iec)
        self._app.say(f"units: {units_text(self._app.desk)}")

    def _totals(self) -> None:
        tables = self._app.desk.tables.values()
        on = not self._app.desk.table.totals
        for state in tables:
            if state.totals != on:
                state.toggle_totals()
        self._app.look()
        self._app.say("totals" if on else "rates")

    def _privacy(self) -> None:
        desk = self._app.desk
        desk.look_with(private=not desk.look.private)
        self._app.say(f"parts of addresses are {'hidden' if desk.look.private else 'shown'}")

    def _health(self) -> None:
        health = self._app.overview.pane(PathHealth)
        health.action_next_mode()
        self._app.say(f"path health shows {health.mode}")

    def _level(self) -> None:
        levels = list(Level)
        desk = self._app.desk
        desk.level = levels[(levels.index(desk.level) + 1) % len(levels)]
        self._app.say(f"events from {desk.level.name.lower()} on")

    def _choose_theme(self) -> None:
        app = self._app
        before = app.theme_name
        options = [(name, name) for name in app.library.names()]

        def chosen(name: str | None) -> None:
            app.use_theme(name or before)

        def look(name: str) -> None:
            app.use_theme(name)

        app.push_screen(Choose("Theme", options, current=before, on_look=look), chosen)

    def _faster(self) -> None:
        self._app.governor.faster()
        self._app.say(f"a look every {self._app.governor.interval:g} s")

    def _slower(self) -> None:
        self._app.governor.slower()
        self._app.say(f"a look every {self._app.governor.interval:g} s")

    # -- time and leaving ----------------------------------------------------------------------

    def _seen(self, text: str) -> None:
        """Draw what has changed before the next beat, and say what it is."""
        self._app.look()
        self._app.say(text)

    async def _quit(self) -> None:
        """Leave; a recording in front of something else is left first."""
        if self._app.replaying.on:
            self._app.say(self._app.replaying.back())
        else:
            await self._app.run_line("quit")

    def _say(self, text: str) -> None:
        if text:
            self._app.say(text)

    def _interrupt(self) -> None:
        """ctrl+c copies what is selected; twice it quits."""
        now = self._app.wall()
        if now - self._interrupted_at < TWICE:
            self._app.close(EndKind.QUIT)
            return
        self._interrupted_at = now
        selected = self._app.screen.get_selected_text()
        if selected:
            self._taking.take(selected)
        else:
            self._app.say("once more within a second quits")
