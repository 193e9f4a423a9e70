"""A thread that writes to a terminal, behind a queue that never makes anyone wait."""

from __future__ import annotations

import os
import select
import termios
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

MAX_WAITING_FRAMES: Final = 4  # 1 s at 4 Hz: more are stale anyway
PIECE: Final = 4096  # bytes a write: what a pseudo-terminal holds
_POLL: Final = 100  # milliseconds between looks at whether it is time to end


class ScreenWriter:
    """Writes to the terminal `fileno` what is queued, in order.

    `control` is kept whatever happens: mode switches and copied text, which come as often as keys. `frame`
    is kept while few wait; when there are too many, all that wait are dropped and further ones too, until
    the terminal has taken everything else: then `on_drained` is called, which is to bring a frame of the
    whole screen. `on_lost` is called when writing fails. Both are called on the thread of the writer.
    """

    def __init__(
        self, fileno: int, *, on_drained: Callable[[], object], on_lost: Callable[[], object]
    ) -> None:
        self.frames_dropped = 0
        self._on_drained = on_drained
        self._on_lost = on_lost
        self._terminal = fileno
        self._fd = _own_descriptor(fileno)
        self._changed = threading.Condition()
        self._queue: deque[tuple[bool, bytes]] = deque()  # (is it a frame, what to write)
        self._stale = False
        self._ending = False
        self._given_up = False
        # A daemon: where the descriptor could not be made non-blocking, it may hang for ever.
        self._thread = threading.Thread(target=self._run, name="screen-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def control(self, data: bytes) -> None:
        """Write, in order, what must not be lost."""
        with self._changed:
            if not self._given_up:
                self._queue.append((False, data))
                self._changed.notify()

    def frame(self, data: bytes) -> None:
        """Write a frame, or drop it."""
        with self._changed:
            if self._given_up:
                return
            waiting = sum(is_frame for is_frame, _ in self._queue)
            if self._stale or waiting >= MAX_WAITING_FRAMES:
                self._stale = True
                self.frames_dropped += waiting + 1
                self._queue = deque(item for item in self._queue if not item[0])
            else:
                self._queue.append((True, data))
                self._changed.notify()

    def stop(self, patience: float, last: bytes) -> None:
        """End when everything is written, or after `patience` seconds.

        In the latter case what the terminal has not read is taken back, as far as the kernel still has it,
        and `last` is all that it gets once it reads again.
        """
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(patience)
        if self._thread.is_alive():
            self._give_up()
            self._thread.join(3 * _POLL / 1000)
            if self._thread.is_alive():
                return
            with suppress(OSError, termios.error):
                termios.tcflush(self._terminal, termios.TCOFLUSH)
                os.write(self._fd, last)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _run(self) -> None:
        while (data := self._next()) is not None:
            try:
                self._send(memoryview(data))
            except OSError:
                self._give_up()
                self._on_lost()

    def _next(self) -> bytes | None:
        """Wait for something to write; None at the end."""
        with self._changed:
            while not self._given_up:
                if self._queue:
                    return self._queue.popleft()[1]
                if self._stale:
                    self._stale = False
                    self._on_drained()
                if self._ending:
                    return None
                self._changed.wait()
            return None

    def _send(self, data: memoryview) -> None:
        """Write all of it, in pieces. Raises OSError when the terminal is gone."""
        room = select.poll()
        room.register(self._fd, select.POLLOUT)
        while data and not self._given_up:
            try:
                data = data[os.write(self._fd, data[:PIECE]) :]
            except BlockingIOError:
                # The kernel may promise room for less than it takes: hence a breath after the poll.
                room.poll(_POLL)
                time.sleep(0.005)

    def _give_up(self) -> None:
        with self._changed:
            self._given_up = True
            self._queue.clear()
            self._changed.notify()


def _own_descriptor(fileno: int) -> int:
    """The terminal, opened anew without blocking.

    The flag belongs to what is opened, not to a descriptor: set on the one we have, it would bother the
    shell and everyone else who has it from there. A terminal that may not be opened is shared, and blocks.
    """
    try:
        return os.open(os.ttyname(fileno), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return os.dup(fileno)
