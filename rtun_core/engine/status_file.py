"""`--status-file`: the whole snapshot as JSON in a file, always complete, for its owner only."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from rtun_core.bus import EventBus
from rtun_core.engine.line_output import write_all
from rtun_core.engine.snapshot_json import snapshot_json
from rtun_core.errors import RtunError
from rtun_core.events import Notice
from rtun_core.model import Snapshot
from rtun_core.net.tasks import TaskOwner


class StatusFile:
    """Writes the snapshot every `interval` seconds beside `path` and renames it there."""

    def __init__(
        self, path: Path, snapshot: Callable[[], Snapshot], bus: EventBus, *, interval: float = 2.0
    ) -> None:
        self._path = path
        self._snapshot = snapshot
        self._bus = bus
        self._interval = interval
        self._tasks = TaskOwner("status file")
        self._failing = False

    async def start(self) -> None:
        """Write the file for the first time. Raises RtunError when that fails."""
        try:
            await self._replace()
        except OSError as error:
            raise RtunError(f"--status-file: cannot write the file {self._path}: {error.strerror}") from None
        self._tasks.spawn(self._run(), "write")

    async def stop(self) -> None:
        """Remove the file: it speaks of a process that runs."""
        await self._tasks.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def write(self) -> None:
        """Write once; a failure is told once and tried again the next time."""
        try:
            await self._replace()
        except OSError as error:
            if not self._failing:
                message = f"cannot write the status file {self._path}: {error.strerror}"
                self._bus.emit(Notice(topic="status", message=message))
            self._failing = True
            return
        self._failing = False

    async def _replace(self) -> None:
        data = await snapshot_json(self._snapshot())
        await asyncio.to_thread(replace_file, self._path, data)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self.write()


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one step, readable by its owner only."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            write_all(descriptor, data)
        finally:
            os.close(descriptor)
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
