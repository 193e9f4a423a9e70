"""The line at the bottom of the screen."""

from __future__ import annotations

from collections.abc import Sequence

from textual.strip import Strip

from rtun_tui.draw.footer import Hint, hints_strip, message_strip
from rtun_tui.painted import Painted


class KeyHints(Painted):
    """What the keys do here. A message stands in their place until the next one, an empty one, or `clear`."""

    _hints: Sequence[Hint] = ()
    _message: tuple[str, str] = ("", "hint")

    def show(self, hints: Sequence[Hint]) -> None:
        """Key, word, and whether it works now; the most important first, how to leave last."""
        if tuple(hints) != self._hints:
            self._hints = tuple(hints)
            self.sync()

    def message(self, text: str, role: str = "hint") -> None:
        """Say something; how long is for the caller to decide."""
        if (text, role) != self._message:
            self._message = (text, role)
            self.sync()

    def clear(self) -> None:
        """The hints again."""
        self.message("")

    def paint(self, width: int, height: int) -> Sequence[Strip]:
        """The line."""
        text, role = self._message
        if text:
            return (message_strip(text, role, width, self.brush),)
        return (hints_strip(self._hints, width, self.brush),)
