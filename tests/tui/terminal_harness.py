"""A terminal for tests: a pseudo-terminal with a process of ours on it, and a model of its screen.

A thread reads all the time, as a terminal does, unless it is told to stop. Tests wait for what is on the
screen and never sleep.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

import psutil

from tests.tui.screen_model import Screen

ROOT = Path(__file__).parents[2]
DEADLINE = 15.0  # seconds for anything that should happen
MAX_RAW = 16 * 2**20  # bytes kept

# Makes the terminal the controlling one of a new session, as a login does, and becomes the program.
_LAUNCHER = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a test run in the background ignores
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
for fileno in (int(text) for text in sys.argv[2].split(",")):
    if os.isatty(fileno):
        fcntl.ioctl(fileno, termios.TIOCSCTTY, 0)
        break
for text in sys.argv[3].split(","):
    if text:
        os.close(int(text))
os.execv(sys.argv[4], sys.argv[4:])
"""


class Attributes(NamedTuple):
    """What a terminal does with input by itself."""

    echo: bool
    canonical: bool
    signals: bool


class Child(Protocol):
    """What a terminal asks of its process; `subprocess.Popen` has it."""

    pid: int

    def poll(self) -> int | None:
        """The status if it has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """The status once it has ended."""

    def send_signal(self, sig: int, /) -> None:
        """Nothing happens when it has ended."""

    def kill(self) -> None:
        """kill -9."""


class Start(NamedTuple):
    """How a process is to be started; its terminal is the slave."""

    argv: Sequence[str]
    slave: int
    env: Mapping[str, str]
    cwd: Path
    ignore_hangup: bool
    redirect: Mapping[int, Path | None]


class Terminal:
    """A process on a pseudo-terminal of `size` (columns, lines).

    The environment is a small one with TERM=xterm-256color and a UTF-8 locale, and `env` over it.
    `ignore_hangup` starts the process as nohup does; `redirect` maps 0, 1 or 2 to a path to be opened, or to
    None to be closed.
    """

    def __init__(
        self,
        *argv: str,
        size: tuple[int, int] = (80, 24),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        ignore_hangup: bool = False,
        redirect: Mapping[int, Path | None] | None = None,
        start: Callable[[Start], Child] | None = None,
    ) -> None:
        self.screen = Screen(*size)
        self.raw = bytearray()
        self._master, self._slave = os.openpty()
        self._set_size(*size)
        self.before = self.attributes()
        self._changed = threading.Condition()
        self._reading = True
        self._quiet = False  # the last look found nothing to read
        self._closing = False
        wanted = Start(argv, self._slave, environment(env or {}), cwd or ROOT, ignore_hangup, redirect or {})
        self._popen = (start or _start)(wanted)
        self._reader = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process id of the program."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the program has not ended."""
        return self._popen.poll() is None

    def send(self, keys: str | bytes) -> None:
        """Type."""
        os.write(self._master, keys.encode() if isinstance(keys, str) else keys)

    def write_over(self, text: str) -> None:
        """Write to the terminal behind the program's back, and set it as a shell has it."""
        os.write(self._slave, text.encode())
        attributes = termios.tcgetattr(self._slave)
        attributes[3] |= termios.ECHO | termios.ICANON | termios.ISIG
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)

    def signal(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        self._popen.send_signal(number)

    def stop_reading(self) -> None:
        """From now on output is not taken: it fills the kernel's buffers, then the program has to wait."""
        with self._changed:
            self._reading = False

    def resume_reading(self) -> None:
        """Take output again."""
        with self._changed:
            self._reading = True

    def hang_up(self) -> None:
        """Take the terminal away, as a broken connection does."""
        self._stop_reader()

    def resize(self, columns: int, lines: int) -> None:
        """Change the size, with SIGWINCH for the program. 0, 0 is unknown: the model keeps what it has."""
        if columns and lines:
            with self._changed:
                self.screen.resize(columns, lines)
        self._set_size(columns, lines)

    def attributes(self) -> Attributes:
        """What the terminal is set to. Raises termios.error after it hung up."""
        flags = termios.tcgetattr(self._slave)[3]
        return Attributes(
            echo=bool(flags & termios.ECHO),
            canonical=bool(flags & termios.ICANON),
            signals=bool(flags & termios.ISIG),
        )

    def text(self) -> str:
        """What the screen shows now."""
        with self._changed:
            return self.screen.text()

    def output(self) -> bytes:
        """Every byte so far."""
        with self._changed:
            return bytes(self.raw)

    def wait_for(self, wanted: str | Callable[[Screen], object], timeout: float = DEADLINE) -> None:
        """Wait until the screen shows a text, or satisfies a predicate. Raises AssertionError."""

        def shown() -> bool:
            return wanted in self.screen.text() if isinstance(wanted, str) else bool(wanted(self.screen))

        with self._changed:
            if not self._changed.wait_for(shown, timeout):
                raise AssertionError(
                    f"{wanted!r} did not appear in {timeout} s; shown:\n{self.screen.text()}"
                )

    def wait_end(self, timeout: float = DEADLINE) -> int:
        """Wait until the program has ended and all its output was read; its status, -n for a signal."""
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s; shown:\n{self.text()}") from None
        with self._changed:
            self._quiet = False
            self._changed.wait_for(lambda: self._quiet or self._closing or not self._reading, timeout)
        return status

    def cpu_seconds(self) -> float:
        """Processor time that the program has used."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def close(self) -> None:
        """Kill the program if it still runs, and give everything back."""
        if self.running:
            self._popen.kill()
        self._popen.wait()
        self._stop_reader()
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1

    def _read(self) -> None:
        """Take output as it comes. Looks again every 20 ms whether it still should."""
        while not self._closing:
            if not self._reading:
                time.sleep(0.02)
            elif select.select([self._master], [], [], 0.02)[0]:
                self._take(os.read(self._master, 65536))
            else:
                with self._changed:
                    self._quiet = True
                    self._changed.notify_all()

    def _take(self, data: bytes) -> None:
        with self._changed:
            self.raw += data
            del self.raw[:-MAX_RAW]
            self.screen.feed(data)
            self._quiet = False
            self._changed.notify_all()

    def _stop_reader(self) -> None:
        if self._closing:
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._reader.join()
        os.close(self._master)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def _start(wanted: Start) -> Child:
    files = [
        os.open(path, os.O_RDWR | os.O_CREAT) if (path := wanted.redirect.get(number)) else wanted.slave
        for number in range(3)
    ]
    closed = ",".join(str(number) for number, path in wanted.redirect.items() if path is None)
    nohup = "nohup" if wanted.ignore_hangup else ""
    try:
        return subprocess.Popen(
            [sys.executable, "-ISc", _LAUNCHER, nohup, "0,1,2", closed, *wanted.argv],
            stdin=files[0],
            stdout=files[1],
            stderr=files[2],
            env=wanted.env,
            cwd=wanted.cwd,
            start_new_session=True,
        )
    finally:
        for fileno in files:
            if fileno != wanted.slave:
                os.close(fileno)


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """What a program of ours finds: nothing of the developer's own but where programs are."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "LANG": "C.UTF-8",
        "TEXTUAL_ANIMATIONS": "none",
        **extra,
    }
