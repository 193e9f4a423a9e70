"""Lines of events on their way out: to standard output, standard error or a file.

A terminal that is not read, a full pipe or a slow disk blocks whoever writes to it. So each output has a
thread of its own and a bounded queue in front of it; the engine's loop never waits for a reader, and the
reader learns from `bus.lagged` what it missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import select
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from rtun_core.bus import HISTORY, EventBus
from rtun_core.errors import RtunError
from rtun_core.event import Stamped
from rtun_core.events import Notice
from rtun_core.net.tasks import TaskOwner

FINISH_LIMIT = 1.0  # seconds to write the last lines when stopping

Job = tuple[Callable[[], None], "asyncio.Future[None]", asyncio.AbstractEventLoop]


class Sink(Protocol):
    """Where bytes go. Called on the output's thread; may block, raises OSError.

    `recovers` says whether writing may succeed again after an error, as on a disk that was full.
    """

    name: str
    recovers: bool

    def write(self, data: bytes) -> None:
        """Write all of `data`."""

    def close(self) -> None:
        """Let go of what was opened here."""


class DescriptorSink:
    """An open file descriptor, which stays open: standard output or standard error."""

    recovers = False

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        write_all(self._descriptor, data)

    def close(self) -> None:
        """Nothing was opened here."""


class FileSink:
    """A file that is appended to and can be opened anew under the same name."""

    recovers = True

    def __init__(self, path: Path, option: str) -> None:
        """Open the file. Raises RtunError that begins with the name of the option."""
        self.name = str(path)
        self._path = path
        try:
            self._descriptor = self._open()
        except OSError as error:
            raise RtunError(f"{option}: cannot write the file {path}: {error.strerror}") from None

    def write(self, data: bytes) -> None:
        write_all(self._descriptor, data)

    def reopen(self) -> None:
        """Continue in a new file of the same name. On OSError the old one stays in use."""
        fresh = self._open()
        os.close(self._descriptor)
        self._descriptor = fresh

    def close(self) -> None:
        os.close(self._descriptor)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


class OutputThread:
    """Runs blocking calls in order on a daemon thread, so that a stuck one never holds the exit."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._pending = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], None]) -> asyncio.Future[None]:
        """Run `call` on the thread; the future has its end, or the OSError that it raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._pending += 1
        self._jobs.put((call, future, loop))
        return future

    def close(self) -> bool:
        """End the thread when it has nothing left to do. False when a call is stuck in it."""
        self._jobs.put(None)
        if self._pending == 0:
            self._thread.join()
        return self._pending == 0

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, future, loop = job
            error: OSError | None = None
            try:
                call()
            except OSError as problem:
                error = problem
            # A closed loop means that the program ended while this call was stuck: nobody asks any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._report, future, error)

    def _report(self, future: asyncio.Future[None], error: OSError | None) -> None:
        self._pending -= 1
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(None)


class EventLines:
    """Every event of the bus as bytes into a sink. `render` gives the line with its end, or nothing."""

    def __init__(self, bus: EventBus, sink: Sink, render: Callable[[Stamped], bytes]) -> None:
        self._bus = bus
        self._sink = sink
        self._render = render
        self._subscription = bus.subscribe(HISTORY)
        self._thread = OutputThread(f"write {sink.name}")
        self._tasks = TaskOwner(f"lines to {sink.name}")
        self._pump = self._tasks.spawn(self._run(), "pump")
        self._failing = False

    def submit(self, call: Callable[[], None]) -> asyncio.Future[None]:
        """Run a call between two writes, on the thread that writes."""
        return self._thread.submit(call)

    async def stop(self) -> None:
        """Write what is still unread, for a bounded time, and close the sink."""
        self._subscription.close()
        await asyncio.wait({self._pump}, timeout=FINISH_LIMIT)
        await self._tasks.close()
        if self._thread.close():
            self._sink.close()

    async def _run(self) -> None:
        while events := await self._subscription.get():
            data = b"".join(map(self._render, events))
            if data and not await self._write(data):
                self._subscription.close()
                return

    async def _write(self, data: bytes) -> bool:
        """Whether the sink is still of use."""
        try:
            await self._thread.submit(partial(self._sink.write, data))
        except OSError as error:
            if self._sink.recovers and not self._failing:
                self._bus.emit(
                    Notice(topic="log", message=f"cannot write {self._sink.name}: {error.strerror}")
                )
            self._failing = True
            return self._sink.recovers
        self._failing = False
        return True


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything, also where the descriptor was made non-blocking by another program."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])
