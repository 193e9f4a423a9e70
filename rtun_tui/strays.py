"""What would be written over the screen, and where it goes instead.

While the console is shown, Textual catches what is printed, and nobody would ever see it. A log handler that
was made earlier holds the real terminal, which cannot be redirected, and paints its lines over the screen.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from textual.events import Print
from textual.message import Message

from rtun_tui.terminal import stream_handlers_to_terminal

MAX_TEXT = 8192  # characters of one message


class Strays:
    """Tells what is printed and what is written here, whole lines at a time, on the thread that writes."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell
        self._begun = threading.local()

    def post_message(self, message: Message) -> bool:
        """What the app catches: a target for `App.begin_capture_print`."""
        if isinstance(message, Print):
            self.write(message.text)
        return True

    async def _post_message(self, message: Message) -> bool:
        return self.post_message(message)

    def write(self, text: str) -> None:
        """Take text; it is told once its line has ended."""
        text = (getattr(self._begun, "text", "") + text)[:MAX_TEXT]
        ended = text.endswith("\n") or len(text) == MAX_TEXT
        self._begun.text = "" if ended else text
        if ended and text.strip():
            self._tell(text.rstrip())

    def flush(self) -> None:
        """Nothing waits but the beginning of a line."""


@contextmanager
def caught_handlers(strays: Strays) -> Iterator[None]:
    """Have the log handlers that write to a terminal write to `strays`.

    Except what reaches the root logger as a warning or worse: the log of the engine has that already.
    """
    caught = [each for each in stream_handlers_to_terminal() if isinstance(each, logging.StreamHandler)]
    before = [handler.setStream(strays) for handler in caught]
    for handler in caught:
        handler.addFilter(_is_new)
    try:
        yield
    finally:
        for handler, stream in zip(caught, before, strict=True):
            handler.removeFilter(_is_new)
            handler.setStream(stream)


def _is_new(record: logging.LogRecord) -> bool:
    return record.levelno < logging.WARNING or not _reaches_root(logging.getLogger(record.name))


def _reaches_root(logger: logging.Logger) -> bool:
    while logger.propagate and logger.parent is not None:
        logger = logger.parent
    return logger.parent is None
