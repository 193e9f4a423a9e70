"""What all simulated parts share: the clock, the dice, the flows, what is due later, what happened."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count
from random import Random

import numpy as np

from rtun_core.engine.simulated.flow_columns import NO_SLOT, FlowColumns
from rtun_core.engine.simulated.ledger import Ledger
from rtun_core.engine.simulated.scenery import Sort
from rtun_core.event import Event
from rtun_core.model import TunnelId

FIRST_FLOW = 0x00A1EE00  # the id of the oldest flow


class Scene:
    """One simulated world's common ground. `now` is Unix seconds and moves only by `advance`."""

    def __init__(self, *, seed: int, now: float, sorts: Sequence[Sort]) -> None:
        self.now = now
        self.random = Random(seed)
        self.noise = np.random.default_rng(seed)
        self.flows = FlowColumns(self.noise, sorts, first_id=FIRST_FLOW)
        self.slots: list[TunnelId | None] = [None]
        self.ledger = Ledger()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._events: list[Event] = []
        self._numbers: Iterator[int] = count(1)

    # ---- what happened --------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """Note what happened."""
        self._events.append(event)

    def take_events(self) -> list[Event]:
        """Everything that happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    # ---- what is to happen ----------------------------------------------------------------------

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after that time."""
        heapq.heappush(self._agenda, (self.now + seconds, next(self._order), action))

    def advance(self, seconds: float) -> None:
        """Move the clock and do what is due, in order."""
        self.now += seconds
        while self._agenda and self._agenda[0][0] <= self.now:
            heapq.heappop(self._agenda)[2]()

    # ---- numbers --------------------------------------------------------------------------------

    def next_tunnel(self) -> TunnelId:
        """A name for a tunnel that none had before."""
        return TunnelId(f"t{next(self._numbers)}")

    def name_tunnels(self, numbers: Sequence[int]) -> None:
        """Give the next tunnels these numbers; further ones follow the largest."""
        self._numbers = chain(numbers, count(max(numbers) + 1))

    def take_slot(self, tunnel: TunnelId) -> int:
        """A small number for a tunnel, free for another once it is given back."""
        for slot in range(NO_SLOT + 1, len(self.slots)):
            if self.slots[slot] is None:
                self.slots[slot] = tunnel
                return slot
        self.slots.append(tunnel)
        self.ledger.reserve(len(self.slots))
        return len(self.slots) - 1

    def give_back(self, slot: int) -> None:
        """The tunnel is gone, and no flow has its slot any more."""
        self.slots[slot] = None
