"""Recording an engine while it runs: a picture a second and every event, for `rtun replay`.

The picture is taken on the engine's loop; packing and writing it happen on a thread of the recording, one
picture at a time. A disk that is too slow costs pictures, which are counted, never time of the loop.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import numpy as np

from rtun_core.bus import HISTORY, EventBus
from rtun_core.commands import Command, CommandResult, StartRecording, StopRecording
from rtun_core.engine.engine import Engine
from rtun_core.engine.paths import recordings_dir
from rtun_core.engine.recording import RecordingWriter
from rtun_core.errors import CommandRefused, RtunError, UsageError
from rtun_core.event import Stamped, counted
from rtun_core.events import Notice
from rtun_core.model import Snapshot
from rtun_core.net.tasks import TaskOwner
from rtun_core.view.biggest import biggest
from rtun_core.view.project import as_flow_rows

INTERVAL: Final = 1.0  # seconds from picture to picture
MAX_FLOWS: Final = 20_000  # recorded of each picture
FINISH_LIMIT: Final = 5.0  # seconds to write what is left when stopping

_Result = TypeVar("_Result")


class Recorder:
    """Records an engine, from its start on if there is a path, else when a command asks for it."""

    def __init__(self, engine: Engine, path: Path | None = None) -> None:
        self._engine = engine
        self._path = path
        self._recording: Recording | None = None
        self._busy = asyncio.Lock()

    async def start(self) -> None:
        """Begin to record, and to take commands. Raises RtunError when the file cannot be written."""
        if self._path is not None:
            try:
                await self._begin(self._path.absolute())
            except RtunError as error:
                raise type(error)(f"--record: {error}") from None
        self._engine.handlers.append(self)

    async def stop(self) -> None:
        """Close the recording in good order."""
        self._engine.handlers.remove(self)
        async with self._busy:
            if self._recording is not None:
                await self._end(self._recording)

    def handles(self, command: Command) -> bool:
        """Whether this is about recording."""
        return isinstance(command, StartRecording | StopRecording)

    async def handle(self, command: Command) -> CommandResult:
        """Begin or end. Raises CommandRefused, or UsageError for a file that cannot be used."""
        async with self._busy:
            if isinstance(command, StartRecording):
                if self._recording is not None:
                    raise CommandRefused(f"{self._recording.path} is being recorded into already")
                path = default_path(time.time()) if command.path is None else _absolute(command.path)
                await self._begin(path)
                return CommandResult(text=f"recording into {path}", data={"path": str(path)})
            if self._recording is None:
                raise CommandRefused("nothing is being recorded")
            return await self._end(self._recording)

    async def _begin(self, path: Path) -> None:
        recording = Recording(path, self._engine.snapshot, self._engine.bus)
        await recording.start()
        self._recording = recording
        self._engine.recording = str(path)

    async def _end(self, recording: Recording) -> CommandResult:
        self._recording = None
        self._engine.recording = ""
        await recording.stop()
        skipped = f", {recording.skipped} skipped" if recording.skipped else ""
        text = f"{counted(recording.pictures, 'picture')} recorded into {recording.path}{skipped}"
        return CommandResult(text=text, data={"path": str(recording.path), "pictures": recording.pictures})


class Recording:
    """One recording from its first picture to the last. `pictures` were written, `skipped` came too soon."""

    def __init__(
        self,
        path: Path,
        snapshot: Callable[[], Snapshot],
        bus: EventBus,
        *,
        interval: float = INTERVAL,
        max_flows: int = MAX_FLOWS,
        mono: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.pictures = 0
        self.skipped = 0
        self._snapshot = snapshot
        self._bus = bus
        self._interval = interval
        self._max_flows = max_flows
        self._mono = mono
        self._told: set[str] = set()
        self._tasks = TaskOwner("recording", self._task_failed)
        self._thread = ThreadPoolExecutor(1, "recording")

    async def start(self) -> None:
        """Open the file and record the first picture. Raises RtunError; then nothing is left open."""
        self._events = self._bus.subscribe(HISTORY)
        try:
            self._writer = await self._in_thread(lambda: _open(self.path))
        except BaseException:
            self._events.close()
            self._thread.shutdown(wait=False)
            raise
        await self.take()
        self._tasks.spawn(self._run(), "take")

    async def take(self) -> None:
        """Record a picture and the events since the last one. A failure is told once and tried again."""
        snapshot, events = self._snapshot(), self._events.drain()
        if len(snapshot.flows) > self._max_flows:
            text = (
                f"of {len(snapshot.flows):,} flows the {self._max_flows:,} with the most traffic are recorded"
            )
            self._tell("many", text)
        try:
            await self._in_thread(lambda: self._write(snapshot, events))
        except RtunError as error:
            self._tell("failed", str(error))
        else:
            self._told.discard("failed")

    async def stop(self) -> None:
        """Write the last events and close the file, within a bounded time."""
        await self._tasks.close()
        self._events.close()
        events = self._events.drain()
        # Behind what the thread may still be writing.
        closing = asyncio.wrap_future(self._thread.submit(self._finish, events))
        await asyncio.wait({closing}, timeout=FINISH_LIMIT)
        self._thread.shutdown(wait=False)
        if not closing.done():
            closing.cancel()
            self._tell("stuck", f"the recording {self.path} was not closed within {FINISH_LIMIT:g} s")
        elif error := closing.exception():
            self._tell("closing", str(error))

    async def _run(self) -> None:
        due = self._mono()
        while True:
            due += self._interval
            await asyncio.sleep(max(0.0, due - self._mono()))
            await self.take()
            late = int((self._mono() - due) / self._interval)
            if late > 0:
                due += late * self._interval
                self.skipped += late
                self._tell("slow", f"writing the recording {self.path} is slow: pictures are skipped")

    def _write(self, snapshot: Snapshot, events: list[Stamped]) -> None:
        """On the thread."""
        if events:
            self._writer.append_events(events)
        self._writer.append_picture(with_most_traffic(snapshot, self._max_flows))
        self.pictures += 1

    def _finish(self, events: list[Stamped]) -> None:
        """On the thread."""
        try:
            if events:
                self._writer.append_events(events)
        finally:
            self._writer.close()

    def _in_thread(self, call: Callable[[], _Result]) -> asyncio.Future[_Result]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _tell(self, what: str, message: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._bus.emit(Notice(topic="recording", message=message))

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._tell("ended", f"the recording {self.path} ended: {error!r}")


def with_most_traffic(snapshot: Snapshot, count: int) -> Snapshot:
    """The snapshot with its `count` busiest flows, in their order; `flows_total` says how many there are."""
    flows = as_flow_rows(snapshot.flows)
    if len(flows) <= count:
        return snapshot
    kept = flows.take(np.isin(flows.ids, biggest(flows, count).ids))
    return msgspec.structs.replace(snapshot, flows=kept, flows_total=len(flows))


def default_path(now: float) -> Path:
    """Where a recording goes that begins at `now`, Unix seconds, and was given no place."""
    return recordings_dir() / f"rtun-{datetime.fromtimestamp(now):%Y%m%d-%H%M%S}.rec"


def _absolute(path: str) -> Path:
    return Path(os.path.expanduser(path)).absolute()


def _open(path: Path) -> RecordingWriter:
    if path.parent == recordings_dir():
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the directory {path.parent}: {error.strerror}") from None
    return RecordingWriter(path)
