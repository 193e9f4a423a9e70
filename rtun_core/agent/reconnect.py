"""How long to wait before the next attempt to reach the signalling server."""

from __future__ import annotations

FIRST_DELAY = 0.5
LONGEST_DELAY = 15.0


class Backoff:
    """Exponential back-off between `first` and `longest` seconds; each delay is shortened by up to half.

    The jitter keeps the agents of a restarted server from coming back all at once.
    """

    def __init__(self, first: float = FIRST_DELAY, longest: float = LONGEST_DELAY) -> None:
        self._first = first
        self._longest = longest
        self._step = first

    def succeeded(self) -> None:
        """A session was established: the next failure starts from the shortest delay again."""
        self._step = self._first

    def failed(self, jitter: float, *, refused: bool = False) -> float:
        """Seconds to wait now, `jitter` being uniform in 0..1.

        `refused` says that trying again soon is pointless, as with a wrong secret: the longest step.
        """
        if refused:
            self._step = self._longest
        delay = self._step * (1.0 - jitter / 2)
        self._step = min(self._step * 2, self._longest)
        return delay
