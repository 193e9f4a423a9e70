"""The event bus: services emit, subscribers read at their own pace.

What a subscriber may assume:

* events arrive in the order of `seq`, which counts every event emitted since the bus was made;
* emitting never blocks, never awaits and never fails because of a reader;
* a reader that falls behind by more than its capacity loses its *oldest* unread events and then gets
  one `BusLagged` in their place, so it always knows that and how many it missed;
* the newest `HISTORY` events can be had again by sequence, so that a reader that reconnects within
  that window misses nothing.

`emit` belongs to the engine's thread. `Subscription.drain` may be called from another thread.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable

from rtun_core.event import Event, Stamped
from rtun_core.events import BusLagged

HISTORY = 4096


class Subscription:
    """One reader's bounded queue."""

    def __init__(self, bus: EventBus, capacity: int) -> None:
        self._bus = bus
        self._queue: deque[Stamped] = deque()
        self._capacity = capacity
        self._skipped = 0
        self._waiter: asyncio.Future[None] | None = None
        self.closed = False

    def push(self, stamped: Stamped) -> None:
        """Called by the bus only."""
        if len(self._queue) >= self._capacity:
            self._queue.popleft()
            self._skipped += 1
        self._queue.append(stamped)
        self._wake()

    def preload(self, events: Iterable[Stamped]) -> None:
        """Called by the bus only, before the first push. What history has lost already counts as skipped."""
        for stamped in events:
            if isinstance(stamped.event, BusLagged):
                self._skipped += stamped.event.skipped
            else:
                self.push(stamped)

    def drain(self) -> list[Stamped]:
        """Everything unread, oldest first; a `BusLagged` leads when something is missing."""
        events: list[Stamped] = []
        skipped, self._skipped = self._skipped, 0
        while self._queue:
            events.append(self._queue.popleft())
        if skipped:
            first = events[0] if events else self._bus.stamp(BusLagged(skipped=skipped))
            events.insert(0, Stamped(first.seq - 1, first.ts, first.mono, BusLagged(skipped=skipped)))
        return events

    async def get(self) -> list[Stamped]:
        """Wait for at least one event and drain; an empty list means the bus was closed."""
        while not self._queue and not self.closed:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self.drain()

    def close(self) -> None:
        """Stop receiving; a waiting `get` returns."""
        self._bus.unsubscribe(self)
        self.finish()

    def finish(self) -> None:
        """Called by the bus when it closes."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class EventBus:
    """Stamps events, keeps the newest, and hands them to every subscriber."""

    def __init__(
        self,
        *,
        wall: Callable[[], float] = time.time,
        mono: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._mono = mono
        self._start = mono()
        self._subscribers: list[Subscription] = []
        self._history: deque[Stamped] = deque(maxlen=HISTORY)
        self.seq = 0

    def stamp(self, event: Event) -> Stamped:
        """Give `event` the current envelope without emitting it."""
        return Stamped(self.seq, self._wall(), self._mono() - self._start, event)

    def emit(self, event: Event) -> None:
        """Hand `event` to every subscriber. Never blocks."""
        self.seq += 1
        stamped = self.stamp(event)
        self._history.append(stamped)
        for subscriber in self._subscribers:
            subscriber.push(stamped)

    def subscribe(self, capacity: int = 1024, *, since: int | None = None) -> Subscription:
        """A new reader; with `since`, it first gets what history still holds after that sequence."""
        subscription = Subscription(self, max(1, capacity))
        if since is not None:
            subscription.preload(self.after(since))
        self._subscribers.append(subscription)
        return subscription

    def after(self, seq: int) -> list[Stamped]:
        """Events with a sequence above `seq`, led by `BusLagged` when history no longer reaches back."""
        events = [stamped for stamped in self._history if stamped.seq > seq]
        missing = (events[0].seq if events else self.seq + 1) - seq - 1
        if missing > 0 and events:
            first = events[0]
            events.insert(0, Stamped(first.seq - 1, first.ts, first.mono, BusLagged(skipped=missing)))
        return events

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a reader; unknown ones are ignored."""
        if subscription in self._subscribers:
            self._subscribers.remove(subscription)

    def close(self) -> None:
        """Let every waiting reader return after it has drained."""
        for subscriber in list(self._subscribers):
            subscriber.finish()
        self._subscribers.clear()
