"""What is taken away from the console by keys: copies to the clipboard, and exports."""

from __future__ import annotations

from typing import Any

import msgspec

from rtun_core.event import counted
from rtun_core.view.cells import cell_text
from rtun_core.view.page import MAX_LIMIT
from rtun_tui.export import export_text
from rtun_tui.host import Host
from rtun_tui.screens.choose import Choose
from rtun_tui.widgets.event_list import EventList


class Taking:
    """What one console takes away."""

    def __init__(self, app: Host) -> None:
        self._app = app

    async def _rows(self) -> list[Any]:
        """The marked rows that pass the filter, else the one under the cursor."""
        state = self._app.desk.table
        if not state.marks:
            row = state.current()
            return [] if row is None else [row]
        page = await self._app.source.page(
            msgspec.structs.replace(state.marked_spec(), offset=0, limit=MAX_LIMIT)
        )
        return list(page.rows)

    async def copy(self) -> None:
        """The row, the marked ones, or the events in sight, as they are written."""
        if self._app.desk.pane == "events":
            self.take(self._app.overview.pane(EventList).visible_text())
            return
        state = self._app.desk.table
        columns = state.shown_columns()
        look, now = self._app.desk.look, self._now
        lines = [
            "  ".join(cell_text(column, row, look, now) for column in columns) for row in await self._rows()
        ]
        self.take("\n".join(lines))

    async def copy_json(self) -> None:
        """The same as JSON."""
        if self._app.desk.pane == "events":
            self.take(self._app.overview.pane(EventList).visible_json())
            return
        state = self._app.desk.table
        rows = await self._rows()
        self.take(export_text("ndjson", state.table, rows, self._app.desk.look, self._now).rstrip())

    @property
    def _now(self) -> float:
        picture = self._app.overview.picture
        return picture.snapshot.ts if picture is not None else 0.0

    def take(self, text: str) -> None:
        """Hand a text to the terminal, and say what it was."""
        if not text:
            self._app.say("there is nothing to copy")
            return
        self._app.copy_to_clipboard(text)
        first, *others = text.splitlines()
        more = f" and {counted(len(others), 'more line')}" if others else ""
        self._app.say(f"copied: {first[:60]}{' ...' if len(first) > 60 else ''}{more}")

    def choose_form(self) -> None:
        """Export what is shown, once its form is chosen."""
        forms = (("csv", "CSV, for spreadsheets"), ("ndjson", "NDJSON, one row a line"))

        def chosen(form: str | None) -> None:
            if form is not None:
                self._app.run_worker(self._app.run_line(f"export {form}"), group="command")

        desk = self._app.desk
        what = "events" if desk.pane == "events" else desk.table.table
        self._app.push_screen(Choose(f"Export {what}", forms), chosen)
