"""The highest rate at which a side loses less than one datagram in a thousand."""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.bench.lanes import Side

MAX_LOSS: Final = 0.001
_COARSE_LOSS: Final = 0.01
_TRIES: Final = 3
_FIRST_RATE: Final = 20_000.0
_COARSE: Final = 1.4
_FINE: Final = 1.12
_LEAST_RATE: Final = 500.0


def coarse_capacity(side: Side, size: int) -> float:
    """Roughly, in datagrams per second; quick, and not put off by a pause of the machine."""
    return _search(_Try(side, size, seconds=0.3, max_loss=_COARSE_LOSS), _FIRST_RATE, _COARSE)


def highest_rate(side: Side, size: int, *, first: float) -> float:
    """In datagrams per second that arrive, looked for from the rate `first` on."""
    return _search(_Try(side, size, seconds=0.4, max_loss=MAX_LOSS), first, _FINE)


class _Try(NamedTuple):
    side: Side
    size: int
    seconds: float
    max_loss: float

    def at(self, rate: float) -> float | None:
        """The rate that arrived, None if too much was lost; tried again, since pauses lose too."""
        for _ in range(_TRIES):
            sample = self.side.run(rate, self.seconds, self.size)
            if sample.loss < self.max_loss:
                return sample.delivered
        return None


def _search(attempt: _Try, first: float, factor: float) -> float:
    """Step up from `first` until it loses, or down until it does not."""
    best = attempt.at(first)
    if best is None:
        return _step_down(attempt, first, factor)
    rate = first
    while (more := attempt.at(rate := rate * factor)) is not None:
        if more < best * 1.02:  # the generator has reached its limit
            break
        best = more
    return best


def _step_down(attempt: _Try, first: float, factor: float) -> float:
    rate = first
    while rate > _LEAST_RATE:
        rate /= factor
        if (best := attempt.at(rate)) is not None:
            return best
    return rate
