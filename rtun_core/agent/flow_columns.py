"""Storage of many flows as columns: one numpy array per field, one slot (row) per flow.

A flow costs about 120 bytes here, and what is done to all of them, such as looking for idle ones, is one
vector operation (10,000 flows: some 20 us).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.intp]

NO_PATH: Final = -1
MIN_SAMPLE: Final = 0.5
"""Seconds between two samples of the rates at least: a shorter time would make them jump."""

_FIRST_CAPACITY = 64
_COLUMNS: Final = {
    "live": np.bool_,
    "flow": np.uint64,
    "scope": np.int32,
    "handle": np.int64,
    "path": np.int32,
    "moves": np.int32,
    "idle_timeout": np.float64,
    "opened_at": np.float64,
    "last": np.float64,
    "up_packets": np.int64,
    "up_bytes": np.int64,
    "down_packets": np.int64,
    "down_bytes": np.int64,
    "up_rate": np.float32,
    "down_rate": np.float32,
    "up_sample": np.int64,
    "down_sample": np.int64,
}


class FlowColumns:
    """The columns and their free slots. Times are seconds of the caller's clock.

    `flow` is the id on the wire, `scope` and `path` are indices that the owner gives meaning to
    (`path` NO_PATH: none), `handle` is that of the target's socket. Rates are bytes per second between
    the last two samples, whose counters are `up_sample` and `down_sample`.
    """

    live: NDArray[np.bool_]
    flow: NDArray[np.uint64]
    scope: NDArray[np.int32]
    handle: NDArray[np.int64]
    path: NDArray[np.int32]
    moves: NDArray[np.int32]
    idle_timeout: NDArray[np.float64]
    opened_at: NDArray[np.float64]
    last: NDArray[np.float64]
    up_packets: NDArray[np.int64]
    up_bytes: NDArray[np.int64]
    down_packets: NDArray[np.int64]
    down_bytes: NDArray[np.int64]
    up_rate: NDArray[np.float32]
    down_rate: NDArray[np.float32]
    up_sample: NDArray[np.int64]
    down_sample: NDArray[np.int64]

    def __init__(self) -> None:
        self._free: list[int] = []
        self._capacity = 0
        self._sampled_at: float | None = None
        self._resize(_FIRST_CAPACITY)

    def __len__(self) -> int:
        return self._capacity - len(self._free)

    def add(self, *, flow: int, scope: int, handle: int, path: int, idle_timeout: float, now: float) -> int:
        """Store a new flow and return its slot; every counter starts at 0."""
        if not self._free:
            self._resize(self._capacity * 2)
        slot = self._free.pop()
        for name in _COLUMNS:
            getattr(self, name)[slot] = 0
        self.live[slot] = True
        self.flow[slot] = flow
        self.scope[slot] = scope
        self.handle[slot] = handle
        self.path[slot] = path
        self.idle_timeout[slot] = idle_timeout
        self.opened_at[slot] = now
        self.last[slot] = now
        return slot

    def remove(self, slot: int) -> None:
        """Free the slot of a flow."""
        self.live[slot] = False
        self._free.append(slot)

    def sample_rates(self, now: float) -> None:
        """Once a second: bytes per second since the last call; one that comes too early is ignored."""
        elapsed = None if self._sampled_at is None else now - self._sampled_at
        if elapsed is not None and elapsed < MIN_SAMPLE:
            return
        if elapsed is not None:
            np.divide(self.up_bytes - self.up_sample, elapsed, out=self.up_rate, casting="same_kind")
            np.divide(self.down_bytes - self.down_sample, elapsed, out=self.down_rate, casting="same_kind")
        self.up_sample[:] = self.up_bytes
        self.down_sample[:] = self.down_bytes
        self._sampled_at = now

    def slots(self) -> Slots:
        """The slots of all flows."""
        return np.flatnonzero(self.live)

    def idle(self, now: float) -> Slots:
        """The slots of flows without traffic for longer than their own time-out."""
        return np.flatnonzero(self.live & (now - self.last > self.idle_timeout))

    def on_path(self, path: int) -> Slots:
        """The slots of flows whose way back is `path`."""
        return np.flatnonzero(self.live & (self.path == path))

    def per_path(self, paths: int) -> NDArray[np.intp]:
        """How many flows have each of the paths 0..paths as their way back."""
        used = self.path[self.live & (self.path != NO_PATH)]
        return np.bincount(used, minlength=paths)

    def copy(self) -> FlowColumns:
        """A picture that later changes do not touch, of the flows that live now, in slots 0..len."""
        slots = self.slots()
        picture = FlowColumns.__new__(FlowColumns)
        picture._free = []
        picture._capacity = len(slots)
        for name in _COLUMNS:
            setattr(picture, name, getattr(self, name)[slots])
        return picture

    def _resize(self, capacity: int) -> None:
        old = self._capacity
        for name, kind in _COLUMNS.items():
            column: NDArray[Any] = np.zeros(capacity, kind)
            if old:
                column[:old] = getattr(self, name)
            setattr(self, name, column)
        self._free.extend(range(capacity - 1, old - 1, -1))
        self._capacity = capacity
