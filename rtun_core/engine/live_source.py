"""The engine of this process as the console sees it."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from rtun_core.commands import Command, CommandResult
from rtun_core.engine.engine_thread import EngineThread
from rtun_core.engine.source import Parting, Picture, SourceStatus, looked_up
from rtun_core.errors import CommandRefused, RtunError
from rtun_core.event import Stamped
from rtun_core.events import Notice
from rtun_core.model import Snapshot
from rtun_core.view.page import Page, ViewSpec
from rtun_core.view.project import project, select_keys

_LOOK_AGAIN: Final = 0.02  # seconds
_LOOKS: Final = 15  # until the first picture is given even if not all services have started


class LiveSource:
    """Looks at an engine on another thread, which may still be on its way.

    A look asks for the next snapshot: while nobody looks, none is taken.
    """

    waiting = False  # a look is answered at once

    def __init__(self, thread: EngineThread, *, who: str = "console") -> None:
        self._thread = thread
        self._who = who
        self._since = time.time()
        self._snapshot: Snapshot | None = None
        self._asked = False
        self._held: Snapshot | None = None
        self._waiting: Callable[[], None] = _nothing  # to be called when the first snapshot is there
        self._console: tuple[asyncio.AbstractEventLoop, contextvars.Context] | None = None

    @property
    def title(self) -> str:
        """The services of the engine; empty before there is one."""
        return "" if self._thread.made is None else " ".join(self._thread.made.names)

    @property
    def status(self) -> SourceStatus:
        """LIVE until the engine has ended."""
        return SourceStatus("ENDED" if self._thread.done.done() else "LIVE", "", self._since)

    @property
    def refusal(self) -> str:
        """The engine takes commands as long as it runs."""
        if self._thread.done.done():
            return "the engine has ended"
        return "the engine is still starting" if self._thread.made is None else ""

    async def start(self) -> None:
        """The engine begins by itself."""
        self._console = asyncio.get_running_loop(), contextvars.copy_context()

    def look(self, specs: Sequence[ViewSpec]) -> Picture | None:
        """Project the newest snapshot, or the held one, and have the next one taken."""
        self._ask()
        snapshot = self._held or self._snapshot
        if snapshot is None:
            return None
        pages, costs = looked_up(specs, partial(project, snapshot))
        return Picture(
            snapshot=msgspec.structs.replace(snapshot, flows=()),
            pages=pages,
            history=self._thread.engine.history,
            costs=costs,
        )

    def hold(self, *, on: bool) -> None:
        """Freeze the view, not the collection."""
        self._held = self._snapshot if on else None

    def select(self, spec: ViewSpec) -> list[str] | None:
        """Keys of all rows that pass, in the snapshot that is looked at."""
        snapshot = self._held or self._snapshot
        if snapshot is None:
            return []
        return select_keys(snapshot, spec.table, spec.filter, spec.marks, dict(spec.named))

    async def page(self, spec: ViewSpec) -> Page:
        """Project the picture that is looked at."""
        snapshot = self._held or self._snapshot
        if snapshot is None:
            raise RtunError("nothing is known yet")
        return project(snapshot, spec)

    def events(self) -> list[Stamped]:
        """Drain the queue that the engine fills."""
        return [] if self._thread.events is None else self._thread.events.drain()

    async def execute(self, command: Command) -> CommandResult:
        """Hand the command to the engine's loop and wait on ours."""
        future = self._thread.execute(command, self._who)
        if future is None:
            raise CommandRefused(self.refusal or "the engine has ended")
        return await asyncio.wrap_future(future)

    def note_frames_dropped(self, total: int) -> None:
        """Tell the engine, which serves the metrics, how many frames the terminal did not take."""
        self._thread.call(lambda: setattr(self._thread.engine, "console_frames_dropped", total))

    def note(self, text: str) -> None:
        """Put what a library printed into the log of the engine. From any thread."""
        self._thread.emit(Notice(topic="output", message=f"output: {text}"))

    def watch(self, call: Callable[[], None]) -> None:
        """Only the first picture is waited for; after it, a look is answered at once."""
        self._waiting = call

    def pace(self, seconds: float) -> None:
        """A picture is made when it is looked at."""

    async def close(self, parting: Parting = Parting.CLOSED) -> None:
        """Stop receiving events."""
        self._console = None
        self._thread.call(lambda: None if self._thread.events is None else self._thread.events.close())

    def _ask(self) -> None:
        if self._asked:
            return
        self._asked = True  # before the call: the other thread may be done with it before it returns
        if not self._thread.call(self._publish):
            self._asked = False

    def _publish(self, looks: int = _LOOKS) -> None:
        """On the engine's loop: one reference is swapped in, which is all that the threads share.

        A picture without the services says nothing, so the first one gives them some time to start.
        """
        engine, first = self._thread.engine, self._snapshot is None
        if first and looks and not engine.is_up:
            asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._publish, looks - 1)
            return
        try:
            self._snapshot = engine.snapshot(fresh=True)
        finally:
            self._asked = False
        if first and self._console is not None:
            loop, context = self._console
            with suppress(RuntimeError):  # the console has gone
                loop.call_soon_threadsafe(self._waiting, context=context)


def _nothing() -> None:
    """Where nobody waits."""
