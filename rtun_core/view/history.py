"""Five minutes of what was carried, one sample a second: what the plots are made of.

`History` is written by the engine, sample by sample, whether somebody looks or not. A `HistoryPicture`
is an immutable copy of it, oldest sample first, that threads share and consoles draw. A second
without a sample is NaN: a gap in a plot is a gap in what is known, never a zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rtun_core.model import Snapshot, TunnelId, TunnelView

STEP: Final = 1.0  # seconds from one sample to the next
SAMPLES: Final = 300
MAX_TUNNELS: Final = 256
KEEP_GONE: Final = 60  # samples that a tunnel stays after it was last seen

_EARLY: Final = 0.9  # seconds; a sample sooner than this is none
_LATE: Final = 0.4  # of a step; a sample may come later than this before a second counts as missing

Series: TypeAlias = NDArray[np.float32]

_TOTALS: Final = ("up", "down", "drops", "packets")
_OF_TUNNEL: Final = ("rtt", "loss", "up", "down")


def _empty() -> Series:
    return np.empty(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class TunnelHistory:
    """One tunnel: round trip in ms, loss as a share of 1 (the worse direction), bytes per second.

    All have the length of the whole history, so that the same index is the same second everywhere.
    """

    rtt: Series
    loss: Series
    up: Series
    down: Series


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class HistoryPicture:
    """What is known of the last minutes. `end` is the Unix time of the newest sample.

    `up` and `down` in bytes/s, `drops` and `packets` (both directions, carried) in datagrams/s, all of
    one length of at most `SAMPLES`. `count` is how many samples there ever were, gaps included: it
    tells plots of several samples a column which of them belong together.
    """

    step: float
    end: float
    up: Series
    down: Series
    drops: Series
    packets: Series = field(default_factory=_empty)
    tunnels: Mapping[TunnelId, TunnelHistory] = field(default_factory=dict)
    count: int = 0

    def drop_share(self, seconds: float = 60.0) -> float | None:
        """Dropped datagrams of the last `seconds` as a share of all; None while there was none at all."""
        last = max(1, round(seconds / self.step))
        dropped = float(np.nansum(self.drops[-last:]))
        everything = dropped + float(np.nansum(self.packets[-last:]))
        return dropped / everything if everything > 0 else None


class History:
    """Collects samples. One per second is taken; the fixed rings never grow, whatever comes."""

    def __init__(self) -> None:
        self._totals = _Ring(len(_TOTALS))
        self._tunnels: dict[TunnelId, _TunnelRing] = {}
        self._count = 0
        self._end: float | None = None
        self._dropped = 0

    def observe(self, snapshot: Snapshot) -> None:
        """Take a sample at `snapshot.ts`. Ignored less than 0.9 s after the last one.

        Seconds that were missed become NaN. A clock that was set back starts from there, with no gap.
        """
        elapsed = STEP if self._end is None else snapshot.ts - self._end
        if not math.isfinite(elapsed) or -_EARLY <= elapsed < _EARLY:
            return
        missed = min(SAMPLES, max(0, int(elapsed / STEP + _LATE) - 1))
        dropped = sum(snapshot.drops.values())
        growth = math.nan if self._end is None else max(0, dropped - self._dropped) / max(elapsed, STEP)
        self._dropped, self._end = dropped, snapshot.ts
        self._push_totals(snapshot, growth, missed)
        self._push_tunnels(snapshot.tunnels, missed)
        self._count += missed + 1

    def picture(self) -> HistoryPicture:
        """A copy of what is known now, read-only."""
        length = min(self._count, SAMPLES)
        up, down, drops, packets = self._totals.rows(self._count, length)
        tunnels = {
            name: TunnelHistory(*each.ring.rows(self._count, length)) for name, each in self._tunnels.items()
        }
        return HistoryPicture(
            step=STEP,
            end=self._end or 0.0,
            up=up,
            down=down,
            drops=drops,
            packets=packets,
            tunnels=tunnels,
            count=self._count,
        )

    def _push_totals(self, snapshot: Snapshot, drops: float, missed: int) -> None:
        rates = snapshot.rates
        sample = (rates.up_bytes, rates.down_bytes, drops, rates.up_packets + rates.down_packets)
        self._totals.push(self._count, missed, sample)

    def _push_tunnels(self, views: Iterable[TunnelView], missed: int) -> None:
        seen = {view.id: view for view in views}
        for name in [name for name, each in self._tunnels.items() if self._is_over(name in seen, each)]:
            del self._tunnels[name]
        for name in seen:
            if name not in self._tunnels and self._has_room(seen):
                self._tunnels[name] = _TunnelRing()
            if name in self._tunnels:
                self._tunnels[name].seen = self._count + missed
        for name, each in self._tunnels.items():
            sample = _tunnel_sample(seen[name]) if name in seen else _UNKNOWN
            each.ring.push(self._count, missed, sample)

    def _is_over(self, here: bool, tunnel: _TunnelRing) -> bool:
        return not here and self._count - tunnel.seen > KEEP_GONE

    def _has_room(self, seen: Mapping[TunnelId, TunnelView]) -> bool:
        """Whether one more tunnel may be kept; one that is gone makes way."""
        if len(self._tunnels) < MAX_TUNNELS:
            return True
        gone = [name for name in self._tunnels if name not in seen]
        if not gone:
            return False
        del self._tunnels[min(gone, key=lambda name: self._tunnels[name].seen)]
        return True


_UNKNOWN: Final = (math.nan,) * len(_OF_TUNNEL)


class _Ring:
    """Some series of `SAMPLES` samples. The number of a sample, from 0 on, says where it stands."""

    __slots__ = ("_cells",)

    def __init__(self, rows: int) -> None:
        self._cells = np.full((rows, SAMPLES), np.nan, np.float32)

    def push(self, number: int, missed: int, sample: tuple[float, ...]) -> None:
        """Write `missed` samples that are not known from `number` on, then `sample`."""
        if missed:
            self._cells[:, np.arange(number, number + missed) % SAMPLES] = np.nan
        self._cells[:, (number + missed) % SAMPLES] = sample

    def rows(self, count: int, length: int) -> tuple[Series, ...]:
        """The newest `length` of `count` samples of each row, oldest first, as a copy."""
        oldest = count % SAMPLES
        halves = (self._cells[:, oldest:], self._cells[:, :oldest])
        turned = np.concatenate(halves, axis=1)[:, SAMPLES - length :]
        turned.flags.writeable = False
        return tuple(turned)


class _TunnelRing:
    __slots__ = ("ring", "seen")

    def __init__(self) -> None:
        self.ring = _Ring(len(_OF_TUNNEL))
        self.seen = 0  # number of the last sample in which it was there


def _tunnel_sample(view: TunnelView) -> tuple[float, ...]:
    known = [loss for loss in (view.loss_up, view.loss_down) if loss is not None]
    rtt = math.nan if view.rtt_ms is None else view.rtt_ms
    return rtt, max(known, default=math.nan), view.rates.up_bytes, view.rates.down_bytes
