"""The engine of this process as the console sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from rtun_core.commands import Command, CommandResult
from rtun_core.engine.engine_thread import EngineThread
from rtun_core.engine.source import Picture, SourceStatus
from rtun_core.errors import CommandRefused, RtunError
from rtun_core.event import Stamped
from rtun_core.events import Notice
from rtun_core.model import Snapshot
from rtun_core.view.columns import TableId
from rtun_core.view.page import Page, ViewSpec
from rtun_core.view.project import project, select_keys


class LiveSource:
    """Looks at an engine on another thread.

    A look asks for the next snapshot: while nobody looks, none is taken.
    """

    def __init__(self, thread: EngineThread, *, who: str = "console") -> None:
        self._thread = thread
        self._who = who
        self._engine = thread.engine
        self._since = time.time()
        self._snapshot: Snapshot | None = None
        self._asked = False
        self._held: Snapshot | None = None

    @property
    def title(self) -> str:
        """The services of the engine."""
        return " ".join(self._engine.names)

    @property
    def status(self) -> SourceStatus:
        """LIVE until the engine has ended."""
        return SourceStatus("ENDED" if self._thread.done.done() else "LIVE", "", self._since)

    @property
    def refusal(self) -> str:
        """The engine takes commands as long as it runs."""
        return "the engine has ended" if self._thread.done.done() else ""

    async def start(self) -> None:
        """The engine runs already."""

    def look(self, specs: Sequence[ViewSpec]) -> Picture | None:
        """Project the newest snapshot, or the held one, and have the next one taken."""
        self._ask()
        snapshot = self._held or self._snapshot
        if snapshot is None:
            return None
        begin = time.thread_time()
        pages: dict[TableId, Page] = {spec.table: project(snapshot, spec) for spec in specs}
        cost = time.thread_time() - begin
        return Picture(
            snapshot=msgspec.structs.replace(snapshot, flows=()),
            pages=pages,
            history=self._engine.history,
            cost=cost,
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
        return self._thread.events.drain()

    async def execute(self, command: Command) -> CommandResult:
        """Hand the command to the engine's loop and wait on ours."""
        future = self._thread.execute(command, self._who)
        if future is None:
            raise CommandRefused("the engine has ended")
        return await asyncio.wrap_future(future)

    def note_frames_dropped(self, total: int) -> None:
        """Tell the engine, which serves the metrics, how many frames the terminal did not take."""
        self._thread.call(setattr, self._engine, "console_frames_dropped", total)

    def note(self, text: str) -> None:
        """Put what a library printed into the log of the engine. From any thread."""
        self._thread.emit(Notice(topic="output", message=f"output: {text}"))

    def watch(self, call: Callable[[], None]) -> None:
        """A look is answered at once: nothing is waited for."""

    def pace(self, seconds: float) -> None:
        """A picture is made when it is looked at."""

    async def close(self) -> None:
        """Stop receiving events."""
        self._thread.call(self._thread.events.close)

    def _ask(self) -> None:
        if self._asked:
            return
        self._asked = True  # before the call: the other thread may be done with it before it returns
        if not self._thread.call(self._publish):
            self._asked = False

    def _publish(self) -> None:
        """On the engine's loop: one reference is swapped in, which is all that the threads share."""
        try:
            self._snapshot = self._engine.snapshot(fresh=True)
        finally:
            self._asked = False
