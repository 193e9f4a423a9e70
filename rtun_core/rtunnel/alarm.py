"""One timer for everything that its owner waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic


class Alarm:
    """Calls `on_time` at the time it was set to, or earlier if it was set earlier before.

    An alarm that goes off too early costs less than one that is replaced each time.
    """

    __slots__ = ("_due", "_on_time", "_timer")

    def __init__(self, on_time: Callable[[], None]) -> None:
        self._on_time = on_time
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def set(self, due: float) -> None:
        """Go off at `due` (monotonic seconds) at the latest."""
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_later(due - monotonic(), self._ring)

    def cancel(self) -> None:
        """Do not go off."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self._on_time()
