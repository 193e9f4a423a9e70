"""A recording as the console sees it: it plays, and can be moved in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from rtun_core.commands import Command, CommandResult
from rtun_core.engine.recording_reader import Place, RecordingReader
from rtun_core.engine.replay_clock import ReplayClock, clock, moment
from rtun_core.engine.source import Parting, Picture, SourceStatus, looked_up
from rtun_core.errors import CommandRefused, RtunError, UsageError
from rtun_core.event import Stamped
from rtun_core.events import Notice
from rtun_core.model import Snapshot
from rtun_core.view.event_filter import compile_event_filter
from rtun_core.view.history import SAMPLES, History, HistoryPicture
from rtun_core.view.page import Page, ViewSpec
from rtun_core.view.project import project, select_keys

BEFORE: Final = float(SAMPLES)  # seconds before the position that history and the first events are taken from
GAP: Final = 5.0  # seconds without a picture that are not waited for ...
PATIENCE: Final = 1.0  # ... but for this long
KEPT_PAGES: Final = 32
WHY: Final = "this is a recording: nothing can be changed"


class ReplaySource:
    """Plays a recording from `begin` on, `speed` times as fast. Implements Source and Playable.

    The file is read on the console's thread, a picture when it is due: 3 ms for one of 10,000 flows, and up
    to 60 times that after a jump, of which the pictures since the last key frame are made.
    """

    waiting = False  # a look is answered at once

    def __init__(
        self,
        path: Path,
        *,
        speed: float = 1.0,
        begin: str = "start",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises UsageError for a speed that cannot be."""
        self._path = path
        self._begin = begin
        self._monotonic = monotonic
        self._reader: RecordingReader | None = None
        self._player = ReplayClock(0.0, factor=speed, now=0.0)
        self._end = 0.0  # of the last picture
        self._found_at = -1.0  # position that the shown picture was looked up for
        self._shown: tuple[Place, Snapshot] | None = None
        self._pages: dict[ViewSpec, Page] = {}
        self._past = _Past()
        self._told = 0.0  # events up to here were given
        self._notices: list[Stamped] = []
        self._damaged = False

    @property
    def title(self) -> str:
        """The name of the file."""
        return self._path.name

    @property
    def status(self) -> SourceStatus:
        """Where it stands, and how it goes on: `12:03:10 of 12:10:00 x4`, or `end`, or `stopped`."""
        if self._shown is None:
            return SourceStatus("REPLAY")
        how = f"x{self._player.factor:g}"
        if self._shown[0].ts >= self._end:
            how = "end"
        elif not self._player.plays:
            how = "stopped"
        return SourceStatus("REPLAY", f"{self._where()} {how}")

    @property
    def refusal(self) -> str:
        """What is over cannot be changed."""
        return WHY

    def open(self) -> None:
        """Open the file and read the first picture. Raises UsageError when that cannot be shown."""
        reader = RecordingReader(self._path)
        try:
            start, self._end = reader.start, reader.end
            position = moment(self._begin, here=start, start=start, end=self._end)
            self._show(reader, reader.find(position))
        except RtunError as error:
            reader.close()
            raise UsageError(str(error)) from None
        self._reader = reader
        self._found_at = position
        self._told = position - BEFORE
        self._player = ReplayClock(position, factor=self._player.factor, now=self._monotonic())

    async def start(self) -> None:
        """Open the file, unless it is open, and play from now on. Raises UsageError."""
        if self._reader is None:
            await asyncio.to_thread(self.open)
        self._player.restart(self._monotonic())

    def watch(self, call: Callable[[], None]) -> None:
        """A look is answered at once: nothing is waited for."""

    def pace(self, seconds: float) -> None:
        """A picture is made when it is looked at."""

    async def close(self, parting: Parting = Parting.CLOSED) -> None:
        """Let go of the file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def look(self, specs: Sequence[ViewSpec]) -> Picture | None:
        """The pages of the picture that stands now. One that cannot be read leaves the last one."""
        self._advance()
        if self._shown is None:
            return None
        pages, costs = looked_up(specs, self._page)
        return Picture(
            snapshot=msgspec.structs.replace(self._shown[1], flows=(), recording=""),
            pages=pages,
            history=self._past.picture,
            costs=costs,
        )

    async def page(self, spec: ViewSpec) -> Page:
        """One page of the picture that is looked at. Raises UsageError for a bad spec."""
        if self._shown is None:
            raise RtunError("nothing is known yet")
        return self._page(spec)

    def select(self, spec: ViewSpec) -> list[str] | None:
        """Keys of all rows that pass in the picture that is looked at."""
        if self._shown is None:
            return []
        return select_keys(self._shown[1], spec.table, spec.filter, spec.marks, dict(spec.named))

    def events(self) -> list[Stamped]:
        """What was passed since the last call. Going back gives nothing; what is passed again comes again."""
        events: list[Stamped] = []
        if self._reader is not None and self._player.position > self._told:
            after, self._told = self._told, self._player.position
            try:
                events = self._reader.events(after, self._told)
            except RtunError as error:
                self._tell(error)
        notices, self._notices = self._notices, []
        return events + notices

    def hold(self, *, on: bool) -> None:
        """Stop playing while on."""
        self._player.hold(self._monotonic(), on=on)

    async def execute(self, command: Command) -> CommandResult:
        """Refused."""
        raise CommandRefused(WHY)

    # -- moving in time ------------------------------------------------------------------------

    def step(self, by: int) -> str:
        """Go some pictures forward, or back when negative; playing stops."""
        self._advance()
        self._player.stop(self._monotonic())
        if self._reader is None or self._shown is None:
            return "nothing is known yet"
        place = begin = self._shown[0]
        try:
            for _ in range(abs(by)):
                place = (self._reader.next(place) if by > 0 else self._reader.previous(place)) or place
            self._go(place.ts, place)
        except RtunError as error:
            return str(error)
        if place == begin:
            return f"this is the {'last' if by > 0 else 'first'} picture"
        return self._where()

    def seek(self, where: str) -> str:
        """Go to `HH:MM:SS`, `+SECONDS`, `-SECONDS`, `start` or `end`. Raises UsageError."""
        if self._reader is None:
            return "nothing is known yet"
        here = self._player.advance(self._monotonic())
        try:
            start, self._end = self._reader.start, self._reader.end
            position = moment(where, here=min(here, self._end), start=start, end=self._end)
            self._go(position, self._reader.find(position))
        except UsageError:
            raise
        except RtunError as error:
            return str(error)
        return self._where()

    def seek_event(self, by: int, text: str) -> str:
        """Go to the next event that passes a filter, or the one before when negative; playing stops.

        Raises UsageError, and then nothing has moved.
        """
        passes = compile_event_filter(text)
        if self._reader is None:
            return "nothing is known yet"
        here = self._player.advance(self._monotonic())
        try:
            found = self._reader.find_event(here, passes, by=by)
            if found is None:
                return f"no such event {'follows' if by > 0 else 'came before'}"
            self._player.stop(self._monotonic())
            self._go(found.ts, self._reader.find(found.ts))
        except RtunError as error:
            return str(error)
        return f"{clock(found.ts)} {found.event.text()}"

    def play_at(self, factor: float) -> str:
        """Play that many times as fast as it happened, from 0.1 to 100. Raises UsageError."""
        self._player.play(self._monotonic(), factor)
        return f"plays at {factor:g} times the speed"

    def _go(self, position: float, place: Place) -> None:
        self._player.position = self._found_at = position
        self._told = min(self._told, position)
        if self._reader is not None:
            self._show(self._reader, place)

    def _where(self) -> str:
        at = self._shown[0].ts if self._shown else self._player.position
        return f"{clock(at)} of {clock(self._end)}"

    # -- playing -------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Show the picture that stands now. A damaged one is told, and the last one stays."""
        if self._reader is None:
            return
        position = self._player.advance(self._monotonic())
        if position == self._found_at:
            return
        try:
            self._play(self._reader, position)
        except RtunError as error:
            self._tell(error)
        else:
            self._damaged = False

    def _play(self, reader: RecordingReader, position: float) -> None:
        self._end, last = reader.end, reader.last_moment
        position = min(position, last)
        place = reader.find(position)
        if position - place.ts >= PATIENCE:
            following = reader.next(place)
            if following is not None and following.ts - place.ts > GAP and self._player.plays:
                place, position = following, following.ts
        self._player.position = self._found_at = position
        self._show(reader, place)

    def _show(self, reader: RecordingReader, place: Place) -> None:
        if self._shown is not None and self._shown[0] == place:
            return
        self._shown = place, reader.read(place)
        self._pages.clear()
        self._past.go(reader, place.ts)

    def _page(self, spec: ViewSpec) -> Page:
        page = self._pages.get(spec)
        if page is None:
            assert self._shown is not None, "asked for before the first picture"
            if len(self._pages) >= KEPT_PAGES:
                self._pages.clear()
            page = self._pages[spec] = project(self._shown[1], spec)
        return page

    def _tell(self, error: RtunError) -> None:
        """Put it among the events, once until a picture can be read again."""
        if not self._damaged:
            self._damaged = True
            notice = Notice(topic="recording", message=str(error))
            self._notices.append(Stamped(0, self._player.position, 0.0, notice))


class _Past:
    """The minutes before the position, made of the pictures there."""

    def __init__(self) -> None:
        self._history = History()
        self._until = float("-inf")
        self.picture: HistoryPicture = self._history.picture()

    def go(self, reader: RecordingReader, ts: float) -> None:
        """Stand at `ts`: add what is new, or begin again after a jump. Raises RtunError for damage."""
        after = self._until
        if not after <= ts <= after + BEFORE:
            self._history = History()
            after = ts - BEFORE - 1.0  # one more: what was dropped is known by the one before
        self._until = ts
        try:
            for snapshot in reader.without_flows(after, ts):
                self._history.observe(snapshot)
        finally:
            self.picture = self._history.picture()
