"""The console: one app that looks at a source, draws a desk, and turns keys into commands.

It owns the beat (when to look), the desk (what the user has arranged), and nothing of the engine. Every look
and every key costs only this thread; the engine has its own.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from textual.app import App
from textual.events import Key
from textual.reactive import reactive

from rtun_core.cli.console import ConsoleEnd, EndKind
from rtun_core.engine.source import Picture, Source
from rtun_core.errors import RtunError, UsageError
from rtun_core.view.columns import TableId
from rtun_core.view.filter_text import FilterError
from rtun_core.view.units import Look, masked_text
from rtun_tui.acts import Acts
from rtun_tui.chosen import selectors_of
from rtun_tui.command_line import is_for_engine, read_engine_command, read_line, takes_time
from rtun_tui.completion import completions
from rtun_tui.desk import Desk
from rtun_tui.effects import ConsoleEffects
from rtun_tui.execution import Execution
from rtun_tui.filter_sign import SLOW, FilterSign
from rtun_tui.governor import Governor
from rtun_tui.host import Manner
from rtun_tui.keymap import Keymap
from rtun_tui.keymap_library import KeymapLibrary
from rtun_tui.palette import MONO, Palette
from rtun_tui.replaying import Replaying
from rtun_tui.screens.faults import Faults
from rtun_tui.screens.overview import Overview
from rtun_tui.settings import Settings
from rtun_tui.theme_library import ThemeLibrary
from rtun_tui.view_commands import run_view_command, set_filter
from rtun_tui.widgets.event_list import EventList
from rtun_tui.widgets.header import Header
from rtun_tui.widgets.prompt import FILTER, MESSAGE_TIME, Prompt

FILE_POLL = 1.0  # seconds between looks at the user's themes and keys


class ConsoleApp(App[ConsoleEnd], inherit_bindings=False):
    """Looks at `source` until it is closed; the result says how that came about.

    `started` is called when the terminal is ours, `shown` after the first frame, `settled` after the first
    picture of the source.
    """

    ENABLE_COMMAND_PALETTE = False
    TITLE = "rtun"

    palette: reactive[Palette] = reactive(MONO)

    def __init__(
        self,
        source: Source,
        *,
        settings: Settings,
        keymap: Keymap,
        library: ThemeLibrary,
        manner: Manner,
        keymaps: KeymapLibrary,
        theme: str | None = None,
        warnings: Sequence[str] = (),
        started: Callable[[], object] | None = None,
        shown: Callable[[], object] | None = None,
        settled: Callable[[], object] | None = None,
        wall: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        # Without colours only the terminal's own are used: no palette is mapped to grey.
        super().__init__(ansi_color=None if manner.colour else True, **options)
        self.source = source
        self.settings = settings
        self.keymap = keymap
        self.keymaps = keymaps  # where `keymap` came from
        self.library = library
        self.manner = manner
        self.wall = wall
        self.desk = new_desk(settings)
        self.filter_sign = FilterSign()
        self.governor = Governor(1 / settings.interval_hz)
        self.execution = Execution(self)
        self.replaying = Replaying(self)
        self.effects = ConsoleEffects(self)
        self.acts = Acts(self, self.effects)
        self.overview = Overview(
            self.desk,
            keymap,
            self._complete,
            works=self.execution.works,
            ascii=manner.ascii or settings.ascii,
            wall=wall,
        )
        self.failure = ""
        self.ending: ConsoleEnd | None = None
        self._made = False
        self.theme_name = theme or settings.theme
        self._warnings = warnings
        self._on_started, self._on_shown, self._on_settled = started, shown, settled
        self._spent = time.thread_time()

    # -- life ----------------------------------------------------------------------------------

    async def on_mount(self) -> None:
        """Show the overview and begin to look."""
        if self._on_started is not None:
            self._on_started()
        await self.push_screen(self.overview)
        faults = [*self._warnings, self.use_theme(self.theme_name)]
        if any(faults):
            self.push_screen(Faults([*filter(None, faults)]))
        self.replaying.begin()
        self.source.watch(self._look_soon)
        await self.source.start()
        self.look()
        if self._on_shown is not None:
            self.call_after_refresh(self._on_shown)
        self._made = True
        if self.ending is not None:
            self.exit(self.ending)
        elif not self.manner.still:
            self._spent = time.thread_time()
            self._await_beat()
            self.set_interval(FILE_POLL, self.watch_files)

    def close(self, kind: EndKind, signum: int = 0) -> None:
        """Close the console; what it shows is the caller's business. The first to ask says why, but
        a signal that comes while only the console is closed is not lost.

        While it is still being made it closes once that is done: what is left out would be missed.
        """
        if self.ending is None or self.ending.kind is EndKind.DETACHED:
            self.ending = ConsoleEnd(kind, signum)
        if self._made:
            self.exit(self.ending)

    def _handle_exception(self, error: Exception) -> None:
        """Keep what went wrong for whoever started the console, who decides where it is written."""
        self.failure = self.failure or "".join(traceback.format_exception(error))
        super()._handle_exception(error)

    def _print_error_renderables(self) -> None:
        """Nothing: after the console the terminal is not ours any more."""
        self._exit_renderables.clear()

    # -- the beat ------------------------------------------------------------------------------

    def look(self) -> None:
        """Take what is new and draw it. Nothing while the console closes: its panes go one by one."""
        if not self.is_running:
            return
        self.replaying.keep_up()
        self.overview.tell(self.source.events())
        picture = self._picture()
        if picture is not None:
            if self.overview.picture is None and self._on_settled is not None:
                self.call_after_refresh(self._on_settled)
            header = self.overview.pane(Header)
            header.source, header.interval = self.source.title, self.governor.pause
            self.overview.signs = self._signs(picture)
            self.overview.show(picture, self.source.status)
        self.overview.draw_now()

    def _look_soon(self) -> None:
        self.call_later(self.look)

    def _picture(self) -> Picture | None:
        try:
            return self.source.look(self.desk.specs(self.overview.shown()))
        except UsageError as error:
            # Filters were read when they were typed: one takes too long, or an older engine knows it not.
            active = [state for state in self.desk.tables.values() if state.filter and state.filter_on]
            for state in active:
                state.filter_on = False
            self.say(f"{error}; filters are off now" if active else str(error), "error")
            return None

    def _signs(self, picture: Picture) -> Mapping[TableId, str]:
        """What is to be said of filters that take long; there may be more to say a little later."""
        filters = {table: state.filter_in_force for table, state in self.desk.tables.items()}
        signs = self.filter_sign.look(filters, waiting=self.source.waiting, costs=picture.costs)
        if self.filter_sign.due:
            asyncio.get_running_loop().call_later(SLOW, self._look_soon)
        return signs

    def _await_beat(self) -> None:
        # A timer of Textual's would take a task and two messages for each beat.
        asyncio.get_running_loop().call_later(self.governor.pause, self._on_beat)

    def _on_beat(self) -> None:
        if not self.is_running:
            return
        try:
            self.look()
        except Exception as error:
            self._handle_exception(error)
            return
        # The time of this thread since the last beat is all that the console costs: drawing, too.
        spent = time.thread_time()
        self.governor.spent(spent - self._spent)
        self.source.pace(self.governor.pause)
        self._spent = spent
        if self.replaying.over:
            self.close(EndKind.ENGINE_ENDED)
            return
        self._await_beat()

    def on_overview_look_again(self) -> None:
        """Rows are wanted now, not at the next beat."""
        self.look()

    # -- what the user asks for ----------------------------------------------------------------

    def say(self, text: str, role: str = "hint", *, seconds: float = MESSAGE_TIME) -> None:
        """One line to the user, for a few seconds."""
        if not self.is_running:
            return
        self.overview.say(masked_text(text) if self.desk.look.private else text, role, seconds)

    async def on_overview_act(self, event: Overview.Act) -> None:
        """A key. One that was typed before a dialog came up is for the dialog."""
        if self.screen is self.overview:
            before = self.overview.shown()
            await self.acts.do(event.action)
            self.overview.sync()
            if self.overview.shown() - before:
                self.look()  # a pane came into sight, and the next key may be about what it shows
            self.overview.draw_now()
        elif event.key is not None:
            again = Key(event.key.key, event.key.character)
            self.screen.call_later(self.post_message, again)  # once it has its focus

    def on_prompt_changed(self, event: Prompt.Changed) -> None:
        """Try the filter while it is typed; one that cannot be read leaves the last good one in force."""
        self._filter(event.text)

    async def on_prompt_submitted(self, event: Prompt.Submitted) -> None:
        """A filter or a command. One of the view is done before the next key; the engine may take a while."""
        if event.kind == FILTER:
            self._filter(event.text)
        elif event.text and takes_time(event.text):
            self.run_worker(self.run_line(event.text), group="command")
        elif event.text:
            await self.run_line(event.text)
        self.overview.sync()

    def on_prompt_cancelled(self, event: Prompt.Cancelled) -> None:
        """The filter is again what it was."""
        if event.kind == FILTER:
            self._filter(event.before)
        self.overview.sync()

    def _filter(self, text: str) -> None:
        if self.desk.pane == "events":
            self.overview.pane(EventList).search = text
            return
        try:
            set_filter(self.desk, text)
        except FilterError as error:
            self.say(f"at character {error.column + 1}: {error}", "error")
            return
        except UsageError as error:
            self.say(str(error), "error")
            return
        self.overview.hush()
        self.look()

    async def run_line(self, line: str) -> None:
        """Carry out what was typed after `:` or picked from the palette."""
        try:
            words = read_line(line)
            if is_for_engine(words):
                names = selectors_of(self.desk.tables["flows"], self.source)
                await self.execution.typed(read_engine_command(words, names))
            else:
                self.say(run_view_command(line, self.desk, self.effects))
                self.overview.sync()
                self.look()
        except RtunError as error:
            self.say(str(error), "error")
        self.overview.sync()

    def _complete(self, text: str) -> Sequence[str]:
        picture = self.overview.picture
        return completions(text, self.desk, self.effects, None if picture is None else picture.snapshot)

    # -- looks ---------------------------------------------------------------------------------

    def use_theme(self, name: str) -> str:
        """Take the colours of a theme. What is the matter with it, or empty."""
        self.theme_name = name  # also of one that is broken: its file may be mended
        found = self.library.find(name if self.manner.colour else "mono")
        textual = found.theme.to_textual()
        self.register_theme(textual)
        self.theme = textual.name
        self.palette = found.theme.to_palette()
        self.overview.look_as(self.palette)
        if found.warning:
            self.say(found.warning, "error")
        return found.warning

    def use_keymap(self, name: str) -> None:
        """Take the keys of a map. Raises UsageError, and then the keys stay as they are."""
        self.keymap = self.keymaps.use(name)
        self.overview.use_keys(self.keymap)
        self.overview.sync()

    def watch_files(self) -> None:
        """Use themes and keys as they were written by now; keys that cannot be used leave the old ones."""
        if self.library.changed():
            self.use_theme(self.theme_name)
        if not self.keymaps.changed():
            return
        try:
            self.use_keymap(self.keymaps.used)
        except UsageError as error:
            self.say(str(error), "error")
        else:
            self.say("keys as they were written just now")


def new_desk(settings: Settings) -> Desk:
    """The desk as the settings want it."""
    desk = Desk(look=Look(bits=settings.bits, iec=settings.iec, private=settings.privacy))
    desk.filters.update((name, view.filter) for name, view in settings.views.items())
    for table, columns in settings.columns.items():
        desk.tables[table].columns = columns
    return desk
