"""The log: events as lines for people, on standard error and in a file, and what libraries have to say.

    14:02:11.123 WARN  tunnel t4 degraded: loss 4.2%

Names and reasons come from peers, so control characters are shown as escapes and a line stays a line.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from rtun_core.bus import EventBus
from rtun_core.engine.json_lines import json_line
from rtun_core.engine.line_output import DescriptorSink, EventLines, FileSink
from rtun_core.event import Level, Stamped
from rtun_core.events import Notice

LogFormat = Literal["text", "json"]

MAX_LIBRARY_TEXT = 8192  # characters of one message of a library, traceback included

_WORDS = {Level.DEBUG: "DEBUG", Level.INFO: "INFO ", Level.WARNING: "WARN ", Level.ERROR: "ERROR"}
_COLOURS = {Level.DEBUG: "2", Level.INFO: "32", Level.WARNING: "33", Level.ERROR: "31"}
# Marks that turn the direction of writing, and line ends that only some programs know.
_TURNS = (*range(0x200E, 0x2010), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    code: f"\\u{code:04x}" for code in _TURNS
}
_MORE = "\n    | "


class LibraryFailure(Notice, frozen=True, kw_only=True, tag="notice"):
    """A notice about an error that a library logged; the same as a notice in its JSON form."""

    level: ClassVar[Level] = Level.ERROR


class LibraryLog(logging.Handler):
    """Turns what libraries log, from warnings on, into notices on the bus; from any thread."""

    def __init__(self, bus: EventBus) -> None:
        super().__init__(logging.WARNING)
        self._bus = bus
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Called by the logging package."""
        try:
            notice = _notice(record, self.format(record))
            if threading.get_ident() == self._thread:
                self._bus.emit(notice)
            else:
                self._loop.call_soon_threadsafe(self._bus.emit, notice)
        except Exception:
            self.handleError(record)


class LogWriter:
    """The log on the descriptor `stderr` (None: not there) and in `file`, from `level` on."""

    def __init__(
        self,
        bus: EventBus,
        *,
        level: Level = Level.INFO,
        stderr: int | None = 2,
        file: Path | None = None,
        file_format: LogFormat = "text",
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._bus = bus
        self._level = level
        self._stderr = stderr
        self._path = file
        self._format = file_format
        self._environ = environ
        self._outputs: list[EventLines] = []
        self._file: tuple[FileSink, EventLines] | None = None
        self._library: LibraryLog | None = None

    async def start(self) -> None:
        """Begin with the next event. Raises RtunError when the file cannot be written."""
        if self._path is not None:
            render = json_line if self._format == "json" else text_line
            sink = FileSink(self._path, "--log-file")
            self._file = (sink, self._open(sink, render))
        if self._stderr is not None:
            coloured = wants_colour(self._stderr, self._environ)
            self._open(DescriptorSink(self._stderr, "standard error"), partial(text_line, colour=coloured))
        self._library = LibraryLog(self._bus)
        logging.getLogger().addHandler(self._library)
        # aioquic writes of every failed connection what our own events say in a sentence.
        logging.getLogger("quic").setLevel(logging.ERROR)

    async def stop(self) -> None:
        """Write what is left and close the file."""
        if self._library is not None:
            logging.getLogger().removeHandler(self._library)
        await asyncio.gather(*(output.stop() for output in self._outputs))
        self._outputs.clear()
        self._file = None

    @property
    def has_file(self) -> bool:
        """Whether there is a file to reopen."""
        return self._path is not None

    def reopen(self) -> None:
        """Continue in a new file of the same name, after the old one was renamed."""
        if self._file is not None:
            sink, output = self._file
            output.submit(sink.reopen).add_done_callback(self._reopened)

    def _open(self, sink: DescriptorSink | FileSink, render: Callable[[Stamped], bytes]) -> EventLines:
        output = EventLines(self._bus, sink, partial(_loud_enough, render, self._level))
        self._outputs.append(output)
        return output

    def _reopened(self, done: asyncio.Future[None]) -> None:
        if error := done.exception():
            self._bus.emit(Notice(topic="log", message=f"cannot reopen the log file {self._path}: {error}"))


def text_line(stamped: Stamped, *, colour: bool = False) -> bytes:
    """One event for people, in local time; further lines of a message are indented."""
    level = stamped.event.severity
    clock = datetime.fromtimestamp(stamped.ts).strftime("%H:%M:%S.%f")[:-3]
    word = f"\x1b[{_COLOURS[level]}m{_WORDS[level]}\x1b[0m" if colour else _WORDS[level]
    return f"{clock} {word} {visible(stamped.event.text())}\n".encode(errors="backslashreplace")


def visible(text: str) -> str:
    """`text` with control characters shown as escapes; line ends stay, and what follows them is indented."""
    return _MORE.join(line.translate(_CONTROLS) for line in text.split("\n"))


def wants_colour(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether a descriptor is a terminal that may be coloured: NO_COLOR is unset or empty."""
    return os.isatty(descriptor) and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def _loud_enough(render: Callable[[Stamped], bytes], level: Level, stamped: Stamped) -> bytes:
    return render(stamped) if stamped.event.severity >= level else b""


def _notice(record: logging.LogRecord, text: str) -> Notice:
    kind = LibraryFailure if record.levelno >= logging.ERROR else Notice
    return kind(topic=record.name, message=f"{record.name}: {text[:MAX_LIBRARY_TEXT]}")
