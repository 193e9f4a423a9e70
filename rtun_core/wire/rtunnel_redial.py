"""When a client opens its next WebSocket (rtunnel spec 15, rules 11 and 12)."""

from __future__ import annotations

from typing import Final

SPACING: Final = 1.0
"""Seconds between two WebSockets of one session, at least."""
_MAX_DELAY = 30.0
_MAX_DOUBLINGS = 5


class Redial:
    """Growing, jittered delays. `jitter` is a number from 0 to 1 that the caller draws."""

    def __init__(self) -> None:
        self._failures = 0
        self._opened_at = float("-inf")

    def opened(self, now: float) -> None:
        """A WebSocket was opened. Until `useful` it counts as one more failure."""
        self._opened_at = now
        self._failures += 1

    def useful(self) -> None:
        """The peer spoke on it: the next loss is followed by a dial at once."""
        self._failures = 0

    def failed(self, now: float, jitter: float) -> float:
        """A dial failed: the time of the next one."""
        self._failures += 1
        return self.lost(now, jitter)

    def lost(self, now: float, jitter: float) -> float:
        """The WebSocket is gone: the time of the next dial."""
        return max(now + self._delay(jitter), self._opened_at + SPACING)

    def _delay(self, jitter: float) -> float:
        if not self._failures:
            return 0.0
        whole = SPACING * 2.0 ** min(self._failures - 1, _MAX_DOUBLINGS)
        return min(whole, _MAX_DELAY) * (1.0 + jitter / 2)
