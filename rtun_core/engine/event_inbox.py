"""Events that wait for somebody to look, or for a link to be clear."""

from __future__ import annotations

from collections import deque

from rtun_core.bus import HISTORY
from rtun_core.event import Stamped
from rtun_core.events import BusLagged, EngineStopping


class EventInbox:
    """Bounded as a subscription of the bus is: whoever comes too late is told how many are missing.

    `seq` is the sequence of the newest event, None before the first; `stopping`: the engine ends.
    """

    def __init__(self, capacity: int = HISTORY) -> None:
        self.seq: int | None = None
        self.stopping = False
        self._capacity = capacity
        self._events: deque[Stamped] = deque()
        self._skipped = 0

    def put(self, stamped: Stamped) -> None:
        """Keep one more event."""
        self.seq = max(self.seq or 0, stamped.seq)
        self.stopping = self.stopping or isinstance(stamped.event, EngineStopping)
        if len(self._events) >= self._capacity:
            lost = self._events.popleft().event
            self._skipped += lost.skipped if isinstance(lost, BusLagged) else 1
        self._events.append(stamped)

    def drain(self, limit: int | None = None) -> list[Stamped]:
        """What is unread, oldest first, at most `limit` (from 2 on) of it.

        A `BusLagged` leads when something is missing.
        """
        events: list[Stamped] = []
        skipped, self._skipped = self._skipped, 0
        if skipped:
            first = self._events[0]
            events.append(Stamped(first.seq - 1, first.ts, first.mono, BusLagged(skipped=skipped)))
        while self._events and (limit is None or len(events) < limit):
            events.append(self._events.popleft())
        return events

    def __len__(self) -> int:
        return len(self._events)
