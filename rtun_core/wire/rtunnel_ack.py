"""When to acknowledge (rtunnel spec 15, rules 3 and 5).

The original answers an acknowledgement that does not advance by sending its whole window again. So on one
WebSocket values only grow; the two exceptions are the answer to a probe, which the original never sends,
and the nudge, which asks for exactly that.
"""

from __future__ import annotations


class AckPolicy:
    """Gathers acknowledgements: one for `every` packets, or `delay` seconds after the first of them."""

    def __init__(self, *, delay: float, every: int) -> None:
        self._delay = delay
        self._every = every
        self._told = 0
        self._value = 0
        self._due: float | None = None
        self._nudge = False

    def attach(self, baseline: int) -> None:
        """A new WebSocket: tell nothing up to `baseline` again."""
        self._told = baseline
        self._due = None
        self._nudge = False

    def nudge(self) -> None:
        """Tell the current value once even if it does not advance."""
        self._nudge = True

    def update(self, accepted: int, now: float, *, urgent: bool = False) -> None:
        """The local TCP has taken everything up to packet `accepted`."""
        self._value = accepted
        if accepted <= self._told:
            return
        if urgent or accepted - self._told >= self._every:
            self._due = now
        elif self._due is None:
            self._due = now + self._delay

    def take(self, now: float) -> bool:
        """Whether to send the current value now; if so it counts as sent."""
        if not self._nudge and (self._due is None or now < self._due):
            return False
        self._told, self._due, self._nudge = self._value, None, False
        return True

    @property
    def timer(self) -> float | None:
        """When `take` has something. None while there is nothing to wait for."""
        return self._due
