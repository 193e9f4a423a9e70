"""Asking a peer how far it has got (rtunnel spec 15, rules 8 and 9).

The original answers each data packet, so also a probe, with one acknowledgement, in order. Behind a new
WebSocket older answers may still queue in front of the new one. Those to our data grow, since it was in
sequence, so a value that comes twice in a row is where the peer really is; unless both are late answers to
probes of an earlier WebSocket. Those all repeat the position of that time, and how many can be missing is
known: that value is only believed after as many more. Believing too early would repeat packets that the
peer has.
"""

from __future__ import annotations

_MAX_LATE = 62


class Probe:
    """The questions of one session; `active` from a new WebSocket until the position is known."""

    def __init__(self) -> None:
        self.active = False
        self.asked_at = 0.0
        self._unsent = 0
        self._open = 0
        self._position = 0
        self._needed = 2
        self._answer: int | None = None
        self._run = 0

    def start(self, now: float, *, once: bool) -> None:
        """Ask on a new WebSocket; once is enough for a peer whose ACKs cannot be late."""
        self.active = True
        self.asked_at = now
        self._needed = 2 + min(self._open, _MAX_LATE)
        self._unsent = 1 if once else self._needed
        self._answer = None

    def stop(self) -> None:
        """Nobody is there to answer, or the answer does not matter any more."""
        self.active = False
        self._unsent = 0

    def take(self) -> int:
        """How many probes to send now."""
        unsent, self._unsent = self._unsent, 0
        self._open += unsent
        return unsent

    def answer(self, value: int, *, sent: int, advanced: bool) -> bool:
        """Take an acknowledgement while active. True if it is the position; `sent` is our last packet."""
        if not advanced:
            self._open = max(0, self._open - 1)
        self._run = self._run + 1 if value == self._answer else 1
        self._answer = value
        needed = self._needed if value == self._position else 2
        if value != sent and self._run < needed:
            return False
        self._position = value
        return True

    def passed(self, *, advanced: bool) -> None:
        """An acknowledgement came while not active. What comes after an advancing one is never late."""
        self._open = 0 if advanced else max(0, self._open - 1)
