"""The line at the top of the screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from textual.strip import Strip

from rtun_core.engine.source import Picture, SourceStatus
from rtun_tui.draw.header import header_text
from rtun_tui.painted import Painted


class Header(Painted):
    """`source` names what is looked at; `interval` is the time between two looks in seconds, 0 if unknown.

    Both hold from the next `show` on.
    """

    source = ""
    interval = 0.0

    def __init__(
        self,
        *,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._wall = wall
        self._picture: Picture | None = None
        self._status = SourceStatus("LIVE")
        self._paused_at: float | None = None

    def show(self, picture: Picture | None, status: SourceStatus, *, paused_at: float | None = None) -> None:
        """Take a picture, how its source is, and since when (Unix seconds) the view is held."""
        self._picture, self._status, self._paused_at = picture, status, paused_at
        self.sync()

    def paint(self, width: int, height: int) -> Sequence[Strip]:
        """The line."""
        now = self._wall()
        line = header_text(
            self._picture,
            self._status,
            width,
            self.look,
            None if self._paused_at is None else now - self._paused_at,
            brush=self.brush,
            source=self.source,
            hz=1 / self.interval if self.interval > 0 else 0.0,
            now=now,
        )
        return (line,)
