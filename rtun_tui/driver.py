"""The driver between Textual and a terminal that may be slow, stuck or gone.

Textual's own driver for Linux hands frames to a thread over a short queue, and waits when that is full: a
terminal that is not read stops the event loop. It takes a vanished terminal for one without input, and knows
nothing of SIGTERM and SIGHUP. ConsoleDriver keeps what that driver says to terminals and replaces how:

- writing never waits. When frames pile up they are dropped, all of them, and the screen is painted anew
  once the terminal has taken what was under way; sequences that switch modes are always kept;
- a terminal that is gone is noticed by either direction, told once, and from then on written to in vain;
- no signal stops the process; the ones that end it are given to the app, which can leave the screen first.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import re
import select
import signal
import termios
import threading
import tty
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from textual._ansi_sequences import SYNC_END, SYNC_START
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Resize
from textual.geometry import Size
from textual.message import Message

from rtun_tui.screen_writer import ScreenWriter
from rtun_tui.terminal import LEAVE_SCREEN, RESTORE_TITLE, SAVE_TITLE, in_foreground, title_sequence

PATIENCE: Final = 0.5  # seconds that a terminal gets at the end to take what waits
ENDING_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_STOPPING_SIGNALS: Final = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_POLL: Final = 100  # milliseconds between looks at whether it is time to end
_INPUT: Final = 4096  # bytes a read
_HANGUP: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL
# What the compositor makes begins by placing the cursor; nothing else that is written does.
_FRAME: Final = re.compile(r"\n*\x1b\[\d+;\d+H")


def install_signals(app: App[Any], on_signal: Callable[[signal.Signals], None]) -> Callable[[], None]:
    """Call `on_signal` on the running loop for the signals that end a process, until the driver stops.

    SIGTERM, SIGHUP and SIGINT, but none that is ignored now (nohup). When a terminal hangs up both this and
    `ConsoleDriver.on_lost` may be called, in either order. Returns what removes the handlers earlier.
    """
    loop = asyncio.get_running_loop()

    def call(number: int, _frame: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(on_signal, signal.Signals(number))

    before = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    before = {number: old for number, old in before.items() if old is not signal.SIG_IGN}
    # Not the loop's own handlers: removing one of those leaves the default action in place for a moment.
    for number in before:
        signal.signal(number, call)

    def remove() -> None:
        while before:
            number, old = before.popitem()
            signal.signal(number, signal.SIG_DFL if old is None else old)

    driver = app._driver
    if isinstance(driver, ConsoleDriver):
        driver.when_stopping.append(remove)
    return remove


class ConsoleDriver(LinuxDriver):
    """Textual's driver for Linux on a ScreenWriter, with an eye on the terminal and on signals.

    `on_lost` is called once, as a message of the app, when the terminal is gone; by default the app exits.
    An app that sets it while it mounts hears of every loss.
    """

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        self._signals_before = {
            number: signal.getsignal(number) for number in (*_STOPPING_SIGNALS, signal.SIGCONT)
        }
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self.on_lost: Callable[[], object] = app.exit
        self.when_stopping: list[Callable[[], None]] = []
        self._writer: ScreenWriter | None = None
        self._gone = threading.Event()
        self._active = False
        self._synchronised = False
        self._titled = False
        # What runs for us on the loop needs the app's context, which threads do not have.
        self._context = contextvars.copy_context()
        # Before this line Textual's handlers are in place, which stop the process. SIGCONT comes anyway.
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        signal.signal(signal.SIGCONT, lambda *_: self._on_loop(self._come_back))

    @property
    def frames_dropped(self) -> int:
        """How many frames the terminal was too slow for."""
        return 0 if self._writer is None else self._writer.frames_dropped

    @property
    def lost(self) -> bool:
        """Whether the terminal is gone."""
        return self._gone.is_set()

    @property
    def can_suspend(self) -> bool:
        """Never: what stops this process stops the service behind the console too."""
        return False

    def start_application_mode(self) -> None:
        """Take the terminal over. One that is already gone is told as lost, and nothing is drawn."""
        assert self._file is not None, "check_terminal comes first"
        self._writer = ScreenWriter(
            self._file.fileno(),
            on_drained=lambda: self._on_loop(self.repaint),
            on_lost=self._terminal_lost,
        )
        self._writer.start()
        super().start_application_mode()  # type: ignore[no-untyped-call]
        if self._writer_thread is None:
            self._terminal_lost()
            return
        # Textual has started its own writer, which got nothing to write: `write` below goes to ours.
        self._writer_thread.stop()
        self._writer_thread = None
        self._active = True
        for number in _STOPPING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        # Textual's handler asks for the size by itself: where one interrupts the other, the older size wins.
        signal.signal(signal.SIGWINCH, lambda *_: self._on_loop(self._tell_size))

    def stop_application_mode(self) -> None:
        """Give the terminal back. Neither raises nor waits, whatever state the terminal is in."""
        self._active = False
        while self.when_stopping:
            self.when_stopping.pop()()
        if self._titled:
            self.write(RESTORE_TITLE)
        super().stop_application_mode()

    def close(self) -> None:
        """Wait a little until the terminal has taken everything; a stuck one gets only the end."""
        if self._writer is not None:
            end = LEAVE_SCREEN + RESTORE_TITLE if self._titled else LEAVE_SCREEN
            self._writer.stop(PATIENCE, end.encode())
        for number, old in self._signals_before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)

    def write(self, data: str) -> None:
        """Queue what the terminal is to get. Never waits.

        The marks of a synchronised update come apart from their frame. They are put around it here, so that
        a frame and its marks are dropped or written as one.
        """
        if self._writer is None or self.lost:
            return
        if data in (SYNC_START, SYNC_END):
            self._synchronised = data == SYNC_START
        elif _FRAME.match(data):
            self._writer.frame(self._encoded(SYNC_START + data + SYNC_END if self._synchronised else data))
        else:
            self._writer.control(self._encoded(data))

    def set_title(self, text: str) -> None:
        """Give the window a title; the one it had comes back at the end."""
        if not self._titled:
            self._titled = True
            self.write(SAVE_TITLE)
        self.write(title_sequence(text))

    def repaint(self) -> None:
        """Have the app send every cell of the screen again. On the loop only."""
        self._app.refresh()

    def run_input_thread(self) -> None:
        """Turn input into messages until told to end.

        Textual's reads on at the end of file, for ever. Bytes that are no UTF-8 end its thread and the app.
        """
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")(errors="replace").decode
        poller = select.poll()
        poller.register(self.fileno, select.POLLIN)
        while not self.exit_event.is_set():
            for _, events in poller.poll(_POLL):
                data = b"" if events & _HANGUP else self._read()
                if data == b"":
                    self._terminal_lost()
                    return
                # The parser takes empty text, which half a character is, for the end of its input.
                if text := decode(data or b""):
                    self._process(parser.feed(text))
            self._process(parser.tick())

    def _process(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.process_message(message)

    def _read(self) -> bytes | None:
        """What was typed, b"" when the terminal is gone, None when only others may read it now."""
        try:
            return os.read(self.fileno, _INPUT)
        except OSError:
            if in_foreground(self.fileno):
                return b""
        self.exit_event.wait(_POLL / 1000)
        return None

    def _tell_size(self) -> None:
        if self._active and not self._in_band_window_resize:
            size = Size(*self._get_terminal_size())
            self._app.post_message(Resize(size, size))

    def _get_terminal_size(self) -> tuple[int, int]:
        """The size of what is drawn on. Textual asks stdout, which may be a file, and believes COLUMNS."""
        assert self._file is not None, "check_terminal comes first"
        with suppress(OSError):
            size = os.get_terminal_size(self._file.fileno())
            if size.columns and size.lines:
                return size.columns, size.lines
        return 80, 24

    def _encoded(self, data: str) -> bytes:
        assert self._file is not None, "check_terminal comes first"
        return data.encode(self._file.encoding or "utf-8", "replace")

    def _terminal_lost(self) -> None:
        """Have the app told, once it has started and unless it ends anyway. On any thread."""
        if not self._gone.is_set():
            self._gone.set()
            self._on_loop(lambda: self._app.call_later(self._tell_lost))

    def _tell_lost(self) -> None:
        on_lost, self.on_lost = self.on_lost, _nothing
        on_lost()

    def _on_loop(self, call: Callable[[], object]) -> None:
        """Call on the loop, from a thread or a signal handler. After its end there is nobody to call."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, context=self._context)

    def _come_back(self) -> None:
        """After SIGCONT: whoever had the terminal meanwhile may have changed anything."""
        if not self._active or self.lost or not in_foreground(self.fileno):
            return
        with suppress(termios.error):
            attributes = termios.tcgetattr(self.fileno)
            attributes[tty.LFLAG] = self._patch_lflag(attributes[tty.LFLAG])
            attributes[tty.IFLAG] = self._patch_iflag(attributes[tty.IFLAG])
            termios.tcsetattr(self.fileno, termios.TCSANOW, attributes)
        self.write("\x1b[?1049h\x1b[?25l\x1b[?1004h")
        self._enable_mouse_support()
        self._enable_bracketed_paste()
        self._disable_line_wrap()
        self.repaint()


def _nothing() -> None:
    """What a callback becomes once it was called."""
