"""One run of an engine: alone on the main thread, or on a thread of its own beside the console."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rtun_core.cli.console import Console, ConsoleEnd, ConsoleOptions, EndKind, find_console
from rtun_core.cli.garbage import settled
from rtun_core.cli.outputs import OutputOptions, build_log, build_running
from rtun_core.errors import UsageError

if TYPE_CHECKING:
    import asyncio

    from rtun_core.bus import EventBus
    from rtun_core.engine.engine import Engine
    from rtun_core.engine.engine_thread import EngineThread
    from rtun_core.engine.log_lines import LogWriter
    from rtun_core.engine.service import Service

ServicesFactory = Callable[["EventBus"], Sequence["Service"]]

SWITCH_INTERVAL = 0.0001
"""Seconds that a thread may hold the interpreter while another waits. With the console on, the p99 of an echo
through a relay with 10,000 flows is 1.8 to 4.5 ms at 0.0005 and 1.4 to 2.1 at this; the default is 0.005."""


def run_engine(
    services_factory: ServicesFactory, outputs: OutputOptions, console: ConsoleOptions | None = None
) -> int:
    """Run services until a signal, a command or their own end, and return the exit status.

    Raises RtunError when something cannot be opened or fails; then everything was closed again.
    """
    import asyncio

    run = EngineRun(services_factory, outputs)
    if console is not None and console.show:
        return _run_with_console(run, console)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(run.alone())


class EngineRun:
    """An engine with its log and outputs, from opening to closing."""

    def __init__(self, services_factory: ServicesFactory, options: OutputOptions) -> None:
        self._services_factory = services_factory
        self.options = options
        self.has_console = False
        self.log: LogWriter | None = None

    async def alone(self) -> int:
        """Run on the main thread, which gets the signals."""
        engine, log = self._build()
        with _loop_signals(_handlers(engine, log, log.reopen)):
            return await self._live(engine, log)

    async def beside(self, made: Callable[[Engine], None]) -> int:
        """Run on another thread, which gets none; `made` is called once there is an engine."""
        from rtun_core.engine.thread_precedence import run_before

        run_before(threading.main_thread())
        engine, log = self._build()
        made(engine)
        return await self._live(engine, log)

    def reopen(self) -> None:
        """Open the log file anew, under whatever name it has now."""
        assert self.log is not None, "the engine is built"
        self.log.reopen()

    def _build(self) -> tuple[Engine, LogWriter]:
        from rtun_core.bus import EventBus
        from rtun_core.engine.engine import Engine

        bus = EventBus()
        engine = Engine(self._services_factory(bus), bus)
        self.log = build_log(bus, self.options)
        return engine, self.log

    async def _live(self, engine: Engine, log: LogWriter) -> int:
        async with AsyncExitStack() as stack:
            for output in (log, *build_running(engine, self.options)):
                await output.start()
                stack.push_async_callback(output.stop)
            # Readers of the bus end by themselves before their connections are closed.
            stack.callback(engine.bus.close)
            await engine.start()
            if not self.has_console:  # else once that has seen a first picture
                settled()
            try:
                await engine.run_until_stopped()
            finally:
                await engine.stop()
        return engine.status


def _run_with_console(run: EngineRun, options: ConsoleOptions) -> int:
    from rtun_core.engine.engine_thread import EngineThread

    if run.options.json:
        raise UsageError("--json: not together with --tui; accepted: --log-file PATH --log-format json")
    console = find_console()
    console.check()
    run.options, run.has_console = replace(run.options, quiet=True), True
    thread = EngineThread(run.beside, _loop_factory())
    reopen = partial(thread.call, run.reopen) if run.options.log_file is not None else None
    stays = _survives_hangup(run, options)
    # The console's own handlers lie over these and give way to them: no signal ever finds a default action.
    with _plain_signals(_handlers_beside(thread, reopen, stays)):
        try:
            end = _show(console, thread, replace(options, reopen=reopen, shown=thread.start))
        except BaseException:
            thread.hurry(1)
            thread.wait()
            raise
        if not _goes_on(end, stays):
            thread.request_stop(_reason(end))
        return thread.result()


def _show(console: Console, thread: EngineThread, options: ConsoleOptions) -> ConsoleEnd:
    """Show the console and tell the engine's log how that went.

    The engine starts behind the first frame: what it imports for its services is half a second's work.
    """
    from rtun_core.engine.live_source import LiveSource
    from rtun_core.engine.log_lines import LibraryFailure
    from rtun_core.events import ConsoleAttached, ConsoleDetached, ConsoleLost

    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    thread.emit(ConsoleAttached())
    try:
        end = console.show(LiveSource(thread), options)
    finally:
        sys.setswitchinterval(before)
    thread.start()  # of a console that closed before it was seen, too
    _let_go_of_terminal()
    if end.detail:
        thread.emit(LibraryFailure(topic="console", message=end.detail.rstrip()))
    if end.kind in (EndKind.LOST, EndKind.FAILED):
        thread.emit(ConsoleLost(reason=_reason(end), failed=end.kind is EndKind.FAILED))
    else:
        thread.emit(ConsoleDetached(reason=_reason(end)))
    return end


def _survives_hangup(run: EngineRun, options: ConsoleOptions) -> bool:
    can_come_back = run.options.control is not None or run.options.control_tcp is not None
    default = "headless" if can_come_back else "exit"
    return (options.on_hangup or default) == "headless"


def _let_go_of_terminal() -> None:
    """Have what was written to a terminal that is gone go nowhere: each write to it would be an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        try:
            os.get_terminal_size(descriptor)
        except OSError as error:
            if error.errno == errno.EIO:
                os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _goes_on(end: ConsoleEnd, survives_hangup: bool) -> bool:
    """Whether the engine outlives its console."""
    if end.kind is EndKind.LOST:
        return survives_hangup
    if end.kind is EndKind.FAILED:
        print(f"the console failed, rtun goes on without it: {_last_line(end.detail)}", file=sys.stderr)
    elif end.kind is EndKind.DETACHED:
        print(f"the console is closed, rtun goes on as process {os.getpid()}", file=sys.stderr)
    return end.kind in (EndKind.FAILED, EndKind.DETACHED)


def _reason(end: ConsoleEnd) -> str:
    if end.kind is EndKind.SIGNAL:
        return signal.Signals(end.signum).name
    return {
        EndKind.QUIT: "the console asked to quit",
        EndKind.DETACHED: "closed by its user",
        EndKind.LOST: "the terminal is gone",
        EndKind.FAILED: "the console failed",
        EndKind.ENGINE_ENDED: "the engine has ended",
    }[end.kind]


def _last_line(text: str) -> str:
    return text.rstrip().rpartition("\n")[2]


def _end(engine: Engine | EngineThread, signum: signal.Signals) -> None:
    """The first signal drains, the next one ends at once."""
    if engine.stopping:
        engine.hurry(128 + signum)
    else:
        engine.request_stop(signum.name)


def _handlers(
    engine: Engine | EngineThread, log: LogWriter, reopen: Callable[[], object]
) -> dict[signal.Signals, Callable[[], object]]:
    """What each signal does. SIGHUP reopens the log file if there is one, and is left alone if ignored."""
    table: dict[signal.Signals, Callable[[], object]] = {
        signum: partial(_end, engine, signum) for signum in (signal.SIGTERM, signal.SIGINT)
    }
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and log.has_file:
        table[hangup] = reopen
    elif hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        table[hangup] = partial(_end, engine, hangup)
    return table


def _handlers_beside(
    thread: EngineThread, reopen: Callable[[], object] | None, survives_hangup: bool
) -> dict[signal.Signals, Callable[[], object]]:
    """The same beside a console. A shell sends SIGHUP after the terminal went: that never hurries an end."""
    table: dict[signal.Signals, Callable[[], object]] = {
        signum: partial(_end, thread, signum) for signum in (signal.SIGTERM, signal.SIGINT)
    }
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None or (reopen is None and signal.getsignal(hangup) is signal.SIG_IGN):
        return table
    ends = partial(thread.request_stop, hangup.name)
    table[hangup] = reopen or (_nothing if survives_hangup else ends)
    return table


def _nothing() -> None:
    """For a signal that is to have no effect, and is not to be ignored by what this process starts."""


@contextmanager
def _loop_signals(handlers: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """Handlers on the running loop."""
    import asyncio

    loop = asyncio.get_running_loop()
    for signum, handler in handlers.items():
        loop.add_signal_handler(signum, handler)
    try:
        yield
    finally:
        for signum in handlers:
            loop.remove_signal_handler(signum)


@contextmanager
def _plain_signals(handlers: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """Handlers on the main thread while it waits for another thread, which Python interrupts for them."""

    def call(signum: int, _frame: object) -> None:
        handlers[signal.Signals(signum)]()

    before = {signum: signal.signal(signum, call) for signum in handlers}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        import asyncio

        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
