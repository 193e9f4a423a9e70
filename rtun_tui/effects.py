"""What commands of the view can have done beyond the desk: files, themes, time, help, the end."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from rtun_core.cli.console import EndKind
from rtun_core.commands import StartRecording, StopRecording
from rtun_core.engine.paths import recordings_dir
from rtun_core.engine.source import Playable
from rtun_core.errors import RtunError, UsageError
from rtun_core.event import counted
from rtun_core.view.columns import row_key
from rtun_core.view.page import MAX_LIMIT, ViewSpec
from rtun_tui.export import export_text
from rtun_tui.file_stamp import stamp
from rtun_tui.governor import FASTEST, SLOWEST
from rtun_tui.host import Host
from rtun_tui.screens.command_palette import CommandPalette
from rtun_tui.screens.help import Help, topics
from rtun_tui.screens.leave import Leave
from rtun_tui.settings import SavedView
from rtun_tui.strict_toml import nearest
from rtun_tui.table_state import TableState
from rtun_tui.widgets.detail import Detail
from rtun_tui.widgets.event_list import EventList

_FLOW_ID = re.compile("[0-9a-fA-F]{1,16}")
MOST_RECORDINGS = 100  # that are offered
NOT_A_RECORDING = "this is not a recording: time goes on by itself"


class ConsoleEffects:
    """The effects of one console. Each method returns what to tell the user, or raises UsageError."""

    def __init__(self, app: Host) -> None:
        self._app = app
        self._views = dict(app.settings.views)

    # -- how it looks --------------------------------------------------------------------------

    def set_theme(self, name: str) -> str:
        """Use a theme by name."""
        if name not in self._app.library.names():
            raise UsageError(f"theme {name} is unknown; accepted: {', '.join(self._app.library.names())}")
        return self._app.use_theme(name) or f"theme {name}"

    def theme_names(self) -> Sequence[str]:
        """All themes."""
        return self._app.library.names()

    def set_keymap(self, name: str) -> str:
        """Use a key map by name."""
        self._app.use_keymap(name)
        return f"keymap {name}: {self._app.keymap.display('app.help')} shows its keys"

    def keymap_names(self) -> Sequence[str]:
        """All key maps."""
        return self._app.keymaps.names()

    def set_interval(self, seconds: float) -> str:
        """How often to look."""
        if not FASTEST <= seconds <= SLOWEST:
            raise UsageError(f"interval {seconds:g}: accepted: {FASTEST:g} to {SLOWEST:g} seconds")
        self._app.governor.interval = seconds
        return f"a look every {seconds:g} s"

    def pause(self, *, on: bool) -> str:
        """Hold the view, never the collection."""
        desk = self._app.desk
        if on == (desk.paused_at is not None):
            return "paused already" if on else "not paused"
        desk.paused_at = self._app.wall() if on else None
        self._app.source.hold(on=on)
        key = self._app.keymap.display("time.pause")
        if isinstance(self._app.source, Playable):
            return f"the recording stands still, {key} plays on" if on else "the recording plays on"
        return f"paused: counting goes on, {key} resumes" if on else "live"

    def save_view(self, name: str) -> str:
        """Keep filter, sort and columns of the table in front."""
        state = self._app.desk.table
        self._views[name] = SavedView(
            name=name, table=state.table, filter=state.filter, sort=state.sort, columns=state.columns
        )
        self._app.desk.filters[name] = state.filter
        return f"view {name} saved until the console ends; put it into config.toml to keep it"

    def load_view(self, name: str) -> str:
        """Use a view, in the table that it is for."""
        view = self._views.get(name)
        if view is None:
            raise UsageError(f"there is no view {name}; known: {', '.join(self._views) or 'none'}")
        desk = self._app.desk
        desk.focus(view.table)
        state = desk.table
        state.filter, state.filter_on = view.filter, True
        state.sort = view.sort or state.sort
        state.columns = view.columns or state.columns
        return f"view {name}"

    def view_names(self) -> Sequence[str]:
        """Saved views."""
        return tuple(self._views)

    def trace(self, flow: str) -> str:
        """Go to a flow and stay with it, whatever else is shown."""
        if not _FLOW_ID.fullmatch(flow):
            raise UsageError(f"{flow} is no flow's id; accepted: hexadecimal, as in the table of flows")
        self._app.run_worker(self._trace(flow.lower()), group="command")
        return ""

    async def _trace(self, flow: str) -> None:
        try:
            page = await self._app.source.page(ViewSpec(table="flows", filter=f"flow={flow}", limit=1))
        except RtunError as error:
            self._app.say(str(error), "error")
            return
        if not page.rows:
            self._app.say(f"flow {flow} is not there", "error")
            return
        desk = self._app.desk
        desk.focus("flows")
        desk.table.filter_on = False  # it may hide this very flow
        desk.table.go_to(flow)
        desk.detail = True
        self._app.overview.pane(Detail).pin("flows", page.rows[0])
        self._app.overview.sync()
        self._app.look()

    # -- files ---------------------------------------------------------------------------------

    def export(self, form: str, path: str | None) -> str:
        """Write the rows that pass the filter in the chosen columns, or the events; never over a file."""
        if self._app.desk.pane == "events":
            text = self._app.overview.pane(EventList).export(form)
            return f"written to {self._write(path, 'rtun-events', form, text)}"
        self._app.run_worker(self._export_rows(form, path), group="export")
        return "exporting ..."

    async def _export_rows(self, form: str, path: str | None) -> None:
        state, picture = self._app.desk.table, self._app.overview.picture
        try:
            rows = await self._all_rows(state)
            now = picture.snapshot.ts if picture else 0.0
            columns = [column.id for column in state.shown_columns()]
            text = export_text(form, state.table, rows, self._app.desk.look, now, columns=columns)
            file = self._write(path, f"rtun-{state.table}", form, text)
        except RtunError as error:
            self._app.say(str(error), "error")
        else:
            self._app.say(f"{counted(len(rows), 'row')} written to {file}")

    def screenshot(self, path: str | None) -> str:
        """Write the screen as SVG."""
        file = self._write(path, "rtun", "svg", self._app.export_screenshot(title="rtun"))
        return f"screenshot written to {file}"

    async def _all_rows(self, state: TableState) -> list[object]:
        """Every row that passes, a page at a time."""
        rows: dict[str, object] = {}
        offset = 0
        while True:
            spec = msgspec.structs.replace(state.spec(), offset=offset, limit=MAX_LIMIT, follow=None)
            page = await self._app.source.page(spec)
            rows.update((row_key(page.table, row), row) for row in page.rows)
            offset += MAX_LIMIT
            if offset >= page.shown:
                return list(rows.values())

    def _write(self, path: str | None, stem: str, suffix: str, text: str) -> Path:
        stamp = datetime.fromtimestamp(self._app.wall()).strftime("%Y%m%d-%H%M%S")
        file = _path(path) if path else Path(f"{stem}-{stamp}.{suffix}")
        try:
            # What is shown may be nobody else's business.
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as out:
                out.write(text)
        except OSError as error:
            raise UsageError(f"cannot write {file}: {error.strerror or error}") from None
        return file.absolute()

    # -- time ----------------------------------------------------------------------------------

    def seek(self, where: str) -> str:
        """Go to a time of a recording."""
        return self._player().seek(where)

    def seek_event(self, by: int, text: str) -> str:
        """Go to the next or the previous event of a recording that passes a filter."""
        return self._player().seek_event(by, text)

    def speed(self, factor: float) -> str:
        """How fast a recording plays."""
        return self._player().play_at(factor)

    def replay(self, path: str) -> str:
        """Show a recording; what is shown now goes on behind it."""
        self._app.run_worker(self._app.replaying.open(_path(path)), group="replay")
        return f"opening {path} ..."

    def recordings(self) -> Sequence[str]:
        """Recordings here and where they go without a path, as they are to be typed, the newest first."""
        files = {file: stamp(file) for folder in (Path(), recordings_dir()) for file in folder.glob("*.rec")}
        newest = sorted(files, key=lambda file: files[file][1], reverse=True)
        return [shlex.quote(str(file)) for file in newest[:MOST_RECORDINGS]]

    def live(self) -> str:
        """Leave a recording."""
        return self._app.replaying.back()

    def step(self, by: int) -> str:
        """Pictures forward or back in a recording."""
        source = self._app.source
        return source.step(by) if isinstance(source, Playable) else NOT_A_RECORDING

    def _player(self) -> Playable:
        source = self._app.source
        if not isinstance(source, Playable):
            raise UsageError(NOT_A_RECORDING)
        return source

    # -- recording -----------------------------------------------------------------------------

    def toggle_record(self) -> str:
        """Begin to record into a new file, or end the recording; the engine's answer is told later."""
        picture = self._app.overview.picture
        recording = picture is not None and picture.snapshot.recording
        self._app.execution.start(StopRecording() if recording else StartRecording())
        return ""

    # -- help and end --------------------------------------------------------------------------

    def help(self, topic: str | None) -> str:
        """Keys and commands, on a screen of their own."""
        if topic is not None and topic not in topics():
            raise UsageError(f"there is no help of {topic}; {nearest(topic, topics())}")
        self._app.push_screen(Help(self._app.keymap, self._app.desk.pane, self._app.palette, topic=topic))
        return ""

    def help_topics(self) -> Sequence[str]:
        """What there is help of."""
        return topics()

    def palette(self) -> None:
        """Find a command."""

        def chosen(line: str | None) -> None:
            if line is None:
                return
            if line.endswith(" "):
                self._app.overview.prompt.edit(":", line)
            else:
                self._app.run_worker(self._app.run_line(line), group="command")

        self._app.push_screen(CommandPalette(), chosen)

    def quit(self) -> str:
        """End; asks first while flows are active, because they end with it."""
        picture = self._app.replaying.live_picture
        flows = sum(rule.flows for rule in picture.snapshot.rules) if picture else 0
        if not self._app.manner.ends_engine or not flows:
            self._app.close(EndKind.QUIT)
            return ""

        def answered(how: EndKind | None) -> None:
            if how is not None:
                self._app.close(how)

        self._app.push_screen(Leave(flows), answered)
        return ""

    def detach(self) -> str:
        """Close the console; what it shows goes on."""
        self._app.close(EndKind.DETACHED)
        return ""


def _path(text: str) -> Path:
    """A path as it was typed. One of a user who does not exist stays as it is."""
    return Path(os.path.expanduser(text))
