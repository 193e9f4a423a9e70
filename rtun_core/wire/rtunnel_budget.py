"""Memory that all sessions of a service share for what they have under way.

A window wide enough for one stream over a long way is far too much for each of two hundred streams: they
would fill a gigabyte here and as much in the kernel, which then drops what arrives. So a session may have
an eighth of what is left of the whole. One alone has its full window; n equally busy ones settle at
total / (8 + n) each, and never use more than the total, but for what every session may have anyway.
"""

from __future__ import annotations

from typing import Final

TOTAL: Final = 64 * 1024 * 1024
FLOOR: Final = 131_072
"""Bytes that a session may always have under way: two of the biggest packets."""

_PART = 8


class Budget:
    """Counts bytes of packets that were cut and not acknowledged, of all sessions together."""

    __slots__ = ("total", "used")

    def __init__(self, total: int = TOTAL) -> None:
        self.total = total
        self.used = 0

    @property
    def share(self) -> int:
        """Bytes that one session may have under way at this moment."""
        return max(FLOOR, (self.total - self.used) // _PART)
