"""A recording that is shown in a console of something else, which goes on behind it.

Nothing of what runs is touched: it is looked at as before, so that its events are collected and coming back
shows it as it is. What was chosen of its rows comes back as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rtun_core.engine.source import Parting, Picture, Playable, Source
from rtun_core.errors import RtunError, UsageError
from rtun_core.view.page import ViewSpec
from rtun_tui.desk import Aside
from rtun_tui.event_log import EventLog
from rtun_tui.host import Host
from rtun_tui.widgets.detail import Detail

PLAYING: Final[Mapping[str, str]] = {"time.back": "back", "time.forward": "forward"}  # words of the hint line
LEAVING: Final = "app.quit"  # the key that goes back to what runs


@dataclass(slots=True)
class _Behind:
    """What the console is of, while a recording is in front of it."""

    source: Source
    specs: Sequence[ViewSpec]
    aside: Aside
    events: EventLog
    picture: Picture | None


class Replaying:
    """The recording in front of one console, if there is one."""

    def __init__(self, app: Host) -> None:
        self._app = app
        self._behind: _Behind | None = None

    @property
    def on(self) -> bool:
        """Whether a recording is in front."""
        return self._behind is not None

    @property
    def live(self) -> Source:
        """What the console is of, whether it is in front or not."""
        return self._app.source if self._behind is None else self._behind.source

    @property
    def live_picture(self) -> Picture | None:
        """The newest picture of that."""
        return self._app.overview.picture if self._behind is None else self._behind.picture

    @property
    def over(self) -> bool:
        """Whether the console ends because what it is of has; where that is elsewhere, a recording stays."""
        stays = self.on and not self._app.manner.ends_engine
        return self.live.status.word == "ENDED" and not stays

    def begin(self) -> None:
        """Tell what the keys do with the source that the console begins with."""
        self._hint()

    async def open(self, path: Path) -> None:
        """Show a recording; one that cannot be shown is told, and changes nothing."""
        from rtun_core.engine.replay_source import ReplaySource

        source = ReplaySource(path)
        try:
            await asyncio.to_thread(source.open)
            await source.start()
        except RtunError as error:
            self._app.say(str(error), "error")
            return
        if self._behind is None:
            self._step_aside()
        else:
            await self._app.source.close()
        self._app.desk.paused_at = None
        self._show(source)
        keys = self._app.keymap.display
        self._app.say(
            f"{source.title}: {keys('time.back')} and {keys('time.forward')} step, :goto and :speed move on, "
            f"{keys(LEAVING)} or :live goes back"
        )

    def back(self) -> str:
        """Show again what the console is of. Raises UsageError when it is in front."""
        behind, recording = self._behind, self._app.source
        if behind is None:
            raise UsageError("no recording is in front of what this console shows; :replay PATH opens one")
        self._behind = None
        self._app.desk.take_back(behind.aside)
        self._app.overview.exchange_events(behind.events)
        self._show(behind.source)
        self._app.run_worker(recording.close(), group="replay")
        return f"{behind.source.title or 'rtun'} again"

    def keep_up(self) -> None:
        """Collect what happens behind the recording. With every look."""
        behind = self._behind
        if behind is None:
            return
        behind.events.add(behind.source.events())
        with suppress(UsageError):  # of a filter; it is told when that source is in front
            behind.picture = behind.source.look(behind.specs) or behind.picture

    async def close(self, parting: Parting = Parting.CLOSED) -> None:
        """Let go of the recording and of what is behind it, or of what is in front alone."""
        if self._behind is not None:
            await self._app.source.close()
        await self.live.close(parting)

    def _step_aside(self) -> None:
        app = self._app
        specs = app.desk.specs(app.overview.shown())
        events = app.overview.exchange_events(EventLog())
        self._behind = _Behind(app.source, specs, app.desk.set_aside(), events, app.overview.picture)

    def _show(self, source: Source) -> None:
        self._app.source = source
        self._app.overview.pane(Detail).forget()
        self._hint()
        self._app.overview.sync()
        self._app.look()

    def _hint(self) -> None:
        words = dict(PLAYING) if isinstance(self._app.source, Playable) else {}
        if self._behind is not None:
            words[LEAVING] = "first recording" if isinstance(self.live, Playable) else "live"
        self._app.overview.hint_with(words)
