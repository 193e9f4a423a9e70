"""The simulated flows: numpy columns, one row per flow, and how much they carry.

A step over all flows is a handful of array passes (10,000 flows: some 0.2 ms). Rows stand close
together; a flow that ends is overwritten by the last one, so rows have no lasting order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtun_core.engine.simulated.scenery import MEAN_DOWN, TOP_RATE, Sort
from rtun_core.engine.simulated.sources import draw_sources
from rtun_core.flow_rows import ADDRESS_SIZE

Rows = NDArray[np.intp]
Floats = NDArray[np.float64]

TURN: Final = 8  # a flow decides about its rate every so many steps
JITTER: Final = 0.3  # spread of the logarithm of a flow's rate around its own
WAKE_BY: Final = 100.0  # seconds of silence after which a flow that does not end speaks again
NO_SLOT: Final = 0  # the slot of flows that wait for a tunnel
_CALIBRATION: Final = 2000  # flows, at least, that the common scale of rates is read off
_COLUMNS: Final = {
    "ids": np.uint64,
    "rule": np.int32,
    "slot": np.intp,
    "opened_at": np.float64,
    "last_active": np.float64,
    "moved_at": np.float64,
    "moves": np.int64,
    "down_bytes": np.float64,
    "down_packets": np.int64,
    "down_rate": np.float64,
    "usual": np.float64,
    "level": np.float64,
    "ratio": np.float64,
    "per_up": np.float64,
    "per_down": np.float64,
    "rest": np.float64,
    "wake": np.float64,
    "ending": np.bool_,
}
_STEADY_RATE: Final = 5e4  # bytes per second above which a flow hardly ever falls silent


class Static(NamedTuple):
    """Copies of what never changes in a flow's life; `per_up`: packets in a byte."""

    ids: NDArray[np.uint64]
    sources: NDArray[np.uint8]
    rule: NDArray[np.int32]
    opened_at: Floats
    per_up: Floats


class FlowColumns:
    """All flows. `slot` is a tunnel's small number, NO_SLOT without one; rates in bytes per second."""

    ids: NDArray[np.uint64]
    rule: NDArray[np.int32]
    slot: NDArray[np.intp]
    opened_at: Floats
    last_active: Floats
    moved_at: Floats
    moves: NDArray[np.int64]
    down_bytes: Floats
    down_packets: NDArray[np.int64]
    down_rate: Floats
    usual: Floats
    level: Floats
    ratio: Floats
    per_up: Floats  # packets in a byte
    per_down: Floats
    rest: Floats
    wake: Floats
    ending: NDArray[np.bool_]
    sources: NDArray[np.uint8]

    def __init__(self, noise: np.random.Generator, sorts: Sequence[Sort], *, first_id: int) -> None:
        """`sorts`: the traffic of each rule; `first_id`: where the 32-bit counter starts."""
        self._noise = noise
        self._traits = np.array([sort[3:] for sort in sorts], np.float64)
        self._next_id = first_id
        self._turn = 0
        self._scale = 1.0
        self._buffers: dict[str, NDArray[Any]] = {
            name: np.zeros(64, dtype) for name, dtype in _COLUMNS.items()
        }
        self._buffers["sources"] = np.zeros((64, ADDRESS_SIZE), np.uint8)
        self.count = 0
        self.version = 0  # another one whenever flows came or went
        self._show(0)

    def __len__(self) -> int:
        return self.count

    # ---- flows come and go ----------------------------------------------------------------------

    def calibrate(self, rules: NDArray[np.int32]) -> None:
        """Choose the scale of rates so that flows spread over rules like that carry MEAN_DOWN each."""
        sample = np.resize(rules, max(len(rules), _CALIBRATION))
        usual, rest, wake = self._usual(sample), *self._traits[sample, 5:7].T
        speaking = wake / (wake + _rest(rest, usual))
        self._scale = MEAN_DOWN / max(float((usual * speaking).mean()), 1e-9)

    def open(self, rules: NDArray[np.int32], slots: NDArray[np.intp], now: float) -> Rows:
        """Add flows, one for each element of `rules`; returns their rows. They speak at once."""
        first, last = self.count, self.count + len(rules)
        self._reserve(last)
        self._show(last)
        new = slice(first, last)
        self.ids[new] = (self._next_id + np.arange(len(rules), dtype=np.uint64)) & np.uint64(0xFFFFFFFF)
        self._next_id = (self._next_id + len(rules)) & 0xFFFFFFFF
        self.rule[new], self.slot[new] = rules, slots
        self.opened_at[new] = self.last_active[new] = self.moved_at[new] = now
        for column in (self.moves, self.down_bytes, self.down_packets, self.ending):
            column[new] = 0
        traits = self._traits[rules]
        usual = np.minimum(self._usual(rules) * self._scale, TOP_RATE)
        self.usual[new] = self.level[new] = usual
        self.down_rate[new] = 0.0
        self.ratio[new] = traits[:, 2] * self._noise.uniform(0.7, 1.3, len(rules))
        self.per_up[new], self.per_down[new] = 1.0 / traits[:, 3], 1.0 / traits[:, 4]
        self.rest[new], self.wake[new] = _rest(traits[:, 5], usual / self._scale), traits[:, 6]
        self.sources[new] = draw_sources(self._noise, len(rules), hosts=max(8, last // 6))
        return np.arange(first, last)

    def close(self, rows: Rows) -> None:
        """Forget flows."""
        keep = np.ones(self.count, np.bool_)
        keep[rows] = False
        left = int(np.count_nonzero(keep))
        holes = np.nonzero(~keep[:left])[0]
        movers = left + np.nonzero(keep[left:])[0]
        for buffer in self._buffers.values():
            buffer[holes] = buffer[movers]
        self._show(left)

    def give_a_past(self, now: float) -> None:
        """Let all flows have lived for a while: ages, bytes, silences, flows that are about to end."""
        noise, n = self._noise, self.count
        age = np.sort(noise.exponential(700.0, n))[::-1] + 1.0
        self.opened_at[:] = self.moved_at[:] = now - age
        speaking = noise.random(n) < self.wake / (self.wake + self.rest)
        silence = noise.uniform(2.0, WAKE_BY, n)
        self.level *= speaking
        self.last_active[:] = np.where(speaking, now, now - np.minimum(silence, age))
        self.ending[:] = ~speaking & (noise.random(n) < 0.3)
        self.down_bytes[:] = self.usual * age * noise.uniform(0.3, 1.0, n)
        self.down_packets[:] = self.down_bytes * self.per_down
        self.moves[:] = noise.poisson(np.minimum(age / 900.0, 3.0), n)

    def end_some(self, number: int) -> None:
        """Let that many flows fall silent for good."""
        if self.count and number:
            self.ending[self._noise.integers(0, self.count, number)] = True

    # ---- time -----------------------------------------------------------------------------------

    def step(self, now: float, dt: float, carried: Floats) -> Floats:
        """`dt` seconds pass; `carried` is the strength of the traffic in each slot, 0 for none.

        Returns (2, slots): what the flows of each slot carry, in bytes a second up and down.
        """
        self._decide(now)
        np.take(carried, self.slot, out=self.down_rate, mode="clip")
        self.down_rate *= self.level
        self.down_bytes += self.down_rate * dt
        packets = (self.down_bytes * self.per_down).astype(np.int64)
        np.copyto(self.last_active, now, where=packets != self.down_packets)
        self.down_packets[:] = packets
        sums = np.empty((2, len(carried)))
        sums[0] = np.bincount(self.slot, self.down_rate * self.ratio, len(carried))
        sums[1] = np.bincount(self.slot, self.down_rate, len(carried))
        return sums

    def on_slot(self, slot: int, rule: int | None = None) -> Rows:
        """Rows of the flows on a tunnel; those that wait are told apart by their rule."""
        chosen = self.slot == slot
        if rule is not None:
            chosen &= self.rule == rule
        return np.nonzero(chosen)[0]

    def idle(self, before: float) -> Rows:
        """Rows without traffic since `before`."""
        return np.nonzero(self.last_active < before)[0]

    def rows_of(self, ids: NDArray[np.uint64]) -> Rows:
        """Rows of flow ids; unknown ones are left out."""
        return np.nonzero(np.isin(self.ids, ids))[0]

    def move(self, rows: Rows, slot: int, now: float) -> None:
        """Give flows to another tunnel."""
        self.slot[rows] = slot
        self.moved_at[rows] = now
        self.moves[rows] += 1

    def loads(self, slots: int) -> list[int]:
        """Flows on each slot below `slots`."""
        counts: list[int] = np.bincount(self.slot, minlength=slots).tolist()
        return counts

    def static(self) -> Static:
        """Copies of the columns that stay as they are until `version` is another one."""
        return Static(
            self.ids.copy(),
            self.sources.copy(),
            self.rule.copy(),
            self.opened_at.copy(),
            self.per_up.copy(),
        )

    def by_rule(self, rules: int) -> list[int]:
        """Flows of each rule."""
        counts: list[int] = np.bincount(self.rule, minlength=rules).tolist()
        return counts

    def spoken_up(self, rule: int) -> float:
        """Packets a second that the sources of a rule would send."""
        mine = self.rule == rule
        return float((self.level[mine] * self.ratio[mine] * self.per_up[mine]).sum())

    def _decide(self, now: float) -> None:
        """One in TURN flows falls silent, speaks again, or changes its rate."""
        mine = slice(self.count * self._turn // TURN, self.count * (self._turn + 1) // TURN)
        self._turn = (self._turn + 1) % TURN
        usual, ending = self.usual[mine], self.ending[mine]
        chance = self._noise.random(len(usual))
        speaking = self.level[mine] > 0.0
        stay = speaking & (chance > self.rest[mine]) & ~(ending & (chance < 0.5))
        late = now - self.last_active[mine] > WAKE_BY
        wake = ~speaking & ~ending & ((chance < self.wake[mine]) | late)
        factor = np.exp(JITTER * self._noise.standard_normal(len(usual)))
        self.level[mine] = usual * factor * (stay | wake)

    # ---- storage --------------------------------------------------------------------------------

    def _usual(self, rules: NDArray[np.int32]) -> Floats:
        """Heavy-tailed rates, without the common scale."""
        weight, spread = self._traits[rules, 0], self._traits[rules, 1]
        usual: Floats = weight * np.exp(spread * self._noise.standard_normal(len(rules)))
        return usual

    def _reserve(self, count: int) -> None:
        room = len(self._buffers["ids"])
        if count <= room:
            return
        for name, buffer in self._buffers.items():
            grown = np.zeros((max(count, 2 * room), *buffer.shape[1:]), buffer.dtype)
            grown[:room] = buffer
            self._buffers[name] = grown

    def _show(self, count: int) -> None:
        self.count = count
        self.version += 1
        for name, buffer in self._buffers.items():
            setattr(self, name, buffer[:count])


def _rest(rest: Floats, usual: Floats) -> Floats:
    """Chances to fall silent; flows that carry much are steadier."""
    steadied: Floats = rest / (1.0 + usual / (_STEADY_RATE / MEAN_DOWN))
    return steadied
