"""An engine on a thread and event loop of its own, beside a console on the main thread.

The console may be slow, blocked by its terminal, or gone; the engine does not notice. What crosses the
border is a reference to an immutable snapshot, a drained queue of events, and calls that are handed to the
engine's loop and never waited for by the engine.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from rtun_core.bus import Subscription
from rtun_core.commands import Command, CommandResult
from rtun_core.engine.engine import Engine
from rtun_core.event import Event

EVENTS = 4096  # unread events kept for a console that does not come to look

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Body = Callable[[Callable[[Engine], None]], Awaitable[int]]


class EngineThread:
    """Runs `body`, which builds an engine, announces it by its argument, and returns the exit status.

    What is asked for before there is an engine is done as soon as there is one.
    """

    def __init__(self, body: Body, loop_factory: LoopFactory) -> None:
        self._body = body
        self._loop_factory = loop_factory
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events: Subscription | None = None
        self._engine: concurrent.futures.Future[Engine] = concurrent.futures.Future()
        self.done: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._stop_asked = False
        self._thread = threading.Thread(target=self._run, name="engine")

    def start(self) -> None:
        """Start the thread and wait for nothing. Calling it again does nothing."""
        if self._thread.ident is None:
            self._thread.start()

    @property
    def made(self) -> Engine | None:
        """The engine, None before there is one. Its methods belong to its own loop: `call`, `execute`."""
        if not self._engine.done() or self._engine.exception() is not None:
            return None
        return self._engine.result()

    @property
    def engine(self) -> Engine:
        """The engine, once there is one. Raises what `body` raised when it ended before that."""
        return self._engine.result()

    @property
    def events(self) -> Subscription | None:
        """What the engine emits, from its first event on; may be drained from any one thread."""
        return self._events

    def call(self, function: Callable[..., object], *args: Any) -> bool:
        """Have a function called on the engine's loop; False when that loop has ended."""
        if self._engine.done():
            return self._call(function, *args)
        self._engine.add_done_callback(lambda _: self._call(function, *args))
        return True

    def _call(self, function: Callable[..., object], *args: Any) -> bool:
        if self._loop is None or self.made is None:
            return False
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop was closed meanwhile
            return False
        return True

    def execute(self, command: Command, who: str) -> concurrent.futures.Future[CommandResult] | None:
        """Have a command carried out by the engine; None when its loop has ended, or not begun."""
        if self._loop is None or self.done.done() or self.made is None:
            return None
        work = self.made.execute(command, who)
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            return None

    def emit(self, event: Event) -> None:
        """Put an event into the log of the engine."""
        self.call(lambda: self.engine.bus.emit(event))

    @property
    def stopping(self) -> bool:
        """Whether an end was asked for."""
        return self._stop_asked or (self.made is not None and self.made.stopping)

    def request_stop(self, reason: str, status: int = 0) -> None:
        """Ask the engine for an orderly end."""
        self._stop_asked = True
        self.call(lambda: self.engine.request_stop(reason, status))

    def hurry(self, status: int) -> None:
        """Ask the engine for an end without draining."""
        self.call(lambda: self.engine.hurry(status))

    def wait(self) -> None:
        """Wait for the end of the thread, if it was started."""
        if self._thread.ident is not None:
            self._thread.join()

    def result(self) -> int:
        """Wait for the end of the thread and return the exit status. Raises what ended the engine."""
        self.wait()
        return self.done.result()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                self._loop = runner.get_loop()
                status = runner.run(self._announce())
        except BaseException as error:
            if not self._engine.done():
                self._engine.set_exception(error)
            self.done.set_exception(error)
        else:
            self.done.set_result(status)

    async def _announce(self) -> int:
        return await self._body(self._made)

    def _made(self, engine: Engine) -> None:
        # Subscribing belongs to this thread, and comes before anything is emitted.
        self._events = engine.bus.subscribe(EVENTS)
        self._engine.set_result(engine)
