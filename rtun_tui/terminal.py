"""The terminal as a place: whether the console can be shown there, what it can show, how it is left.

Nothing here draws. The checks are made before any part of the console is started, so that a refusal is one
line and no escape code has been written.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TextIO

SAVE_TITLE = "\x1b[22;2t"
RESTORE_TITLE = "\x1b[23;2t"
MAX_TITLE = 80  # characters

# Every mode that the console switches on, switched off, in an order that leaves the main screen last. CAN
# comes first: it ends an escape sequence of which the terminal got only a part.
LEAVE_SCREEN = "\x18" + "".join(
    (
        "\x1b[0m",
        "\x1b[?2026l",  # end of a synchronised update
        "\x1b[?2048l",  # resize told in the input
        "\x1b[?2004l",  # bracketed paste
        "\x1b[?1016l\x1b[?1015l\x1b[?1006l\x1b[?1003l\x1b[?1000l",  # mouse
        "\x1b[?1004l",  # focus in and out
        "\x1b[<u",  # keyboard protocol
        "\x1b[?7h",  # line wrap
        "\x1b[?1049l",  # main screen
        "\x1b[?25h",  # cursor
    )
)

# What Python puts into LC_CTYPE by itself when the locale is C (PEP 538): it says nothing about the terminal.
_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")


def check_terminal(stdin: TextIO | None, stderr: TextIO | None, environ: Mapping[str, str]) -> str | None:
    """One sentence why the console cannot be shown here, or None when it can.

    It reads keys from `stdin` and draws on `stderr`; None or a closed file stands for a closed descriptor.
    """
    if sys.platform == "win32":
        return "the console needs a Unix terminal; accepted here: a run without it"
    for name, stream in (("standard input", stdin), ("standard error", stderr)):
        if reason := _no_terminal(name, stream):
            return reason
    term = environ.get("TERM", "")
    if not term:
        return "the console needs to know its terminal, and TERM is not set"
    if term == "dumb":
        return "the console needs a terminal that can place its cursor, and TERM says dumb"
    assert stdin is not None, "it is a terminal"
    if not in_foreground(stdin.fileno()):
        return "the console cannot start as a background job: bring it to the foreground first"
    return None


def in_foreground(fileno: int) -> bool:
    """Whether this process may read the terminal. True also where job control does not reach us."""
    try:
        return os.tcgetpgrp(fileno) == os.getpgrp()
    except OSError:
        return True


def wants_colour(environ: Mapping[str, str]) -> bool:
    """Whether colours are wanted: a NO_COLOR that is not empty says no."""
    return not environ.get("NO_COLOR")


def ascii_only(environ: Mapping[str, str], encoding: str | None) -> bool:
    """Whether to draw with ASCII alone.

    RTUN_ASCII decides if it is set (0 means no). Otherwise the locale does, its first variable that is set;
    without one, the encoding of the stream.
    """
    if chosen := environ.get("RTUN_ASCII"):
        return chosen != "0"
    if not _is_utf8(encoding or ""):
        return True
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        value = environ.get(name)
        if value and not (name == "LC_CTYPE" and value in _COERCED):
            return not _is_utf8(value)
    return False


def stream_handlers_to_terminal() -> list[logging.Handler]:
    """The log handlers that write to a terminal, of the root logger and of every named one.

    Their lines would be painted over the screen: they hold the real stream, which cannot be redirected.
    """
    found: dict[int, logging.Handler] = {}
    for logger in _loggers():
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and _is_terminal(handler.stream):
                found[id(handler)] = handler
    return list(found.values())


def title_sequence(text: str) -> str:
    """The sequence that gives the window a title; control characters are left out, length is bounded."""
    shown = "".join(character for character in text if character.isprintable())
    return f"\x1b]2;{shown[:MAX_TITLE]}\x07"


def _no_terminal(name: str, stream: TextIO | None) -> str | None:
    if stream is None or stream.closed:
        return f"the console needs a terminal, and {name} is closed"
    if not _is_terminal(stream):
        return f"the console needs a terminal, and {name} is not one"
    return None


def _is_terminal(stream: object) -> bool:
    """Whether a stream is a terminal; what a handler calls its stream may be anything."""
    isatty = getattr(stream, "isatty", None)
    try:
        return isatty is not None and bool(isatty())
    except (OSError, ValueError):
        return False


def _loggers() -> Iterator[logging.Logger]:
    yield logging.getLogger()
    for logger in list(logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield logger


def _is_utf8(name: str) -> bool:
    return "utf8" in name.lower().replace("-", "")
