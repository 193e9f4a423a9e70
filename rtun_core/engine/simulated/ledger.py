"""Who carried how much: totals and rates of every tunnel slot, updated for all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rtun_core.engine.simulated.scenery import Sort
from rtun_core.model import Rates, Traffic

UP, DOWN = 0, 1


class Carried(NamedTuple):
    """Bytes both ways, or bytes a second."""

    up: float = 0.0
    down: float = 0.0

    @classmethod
    def total(cls, parts: Iterable[Carried]) -> Self:
        """The sum of several."""
        up = down = 0.0
        for part in parts:
            up += part.up
            down += part.down
        return cls(up, down)

    def traffic(self, sort: Sort) -> Traffic:
        """As counters, in packets of that sort of traffic."""
        return Traffic(
            int(self.up / sort.size_up), int(self.up), int(self.down / sort.size_down), int(self.down)
        )

    def rates(self, sort: Sort) -> Rates:
        """As rates, in packets of that sort of traffic."""
        return Rates(self.up / sort.size_up, self.up, self.down / sort.size_down, self.down)


class Ledger:
    """Bytes per slot; a slot that was never used has carried nothing."""

    def __init__(self) -> None:
        self._totals = np.zeros((2, 16))
        self._rates = np.zeros((2, 16))
        self._read: tuple[list[Carried], list[Carried]] | None = None  # totals and rates, as last read

    def carry(self, rates: NDArray[np.float64], seconds: float) -> None:
        """`rates`, (2, slots) bytes a second up and down, hold for that time."""
        slots = rates.shape[1]
        self._rates[:, :slots] = rates
        self._totals[:, :slots] += rates * seconds
        self._read = None

    def add(self, slot: int, more: Carried) -> None:
        """Write something to a slot's totals."""
        self._totals[:, slot] += more
        self._read = None

    def total(self, slot: int) -> Carried:
        """What a slot has carried, in bytes."""
        return self._columns()[0][slot]

    def rate(self, slot: int) -> Carried:
        """What a slot carries, in bytes a second."""
        return self._columns()[1][slot]

    def clear(self, slot: int) -> Carried:
        """Begin anew; returns what the slot had carried."""
        total = self.total(slot)
        self._totals[:, slot] = self._rates[:, slot] = 0.0
        self._read = None
        return total

    def _columns(self) -> tuple[list[Carried], list[Carried]]:
        if self._read is None:
            totals, rates = self._totals.tolist(), self._rates.tolist()
            self._read = list(map(Carried, *totals)), list(map(Carried, *rates))
        return self._read

    def reserve(self, slots: int) -> None:
        """Make room for that many slots."""
        room = self._totals.shape[1]
        if slots > room:
            more = ((0, 0), (0, max(slots, 2 * room) - room))
            self._totals, self._rates = np.pad(self._totals, more), np.pad(self._rates, more)
            self._read = None
