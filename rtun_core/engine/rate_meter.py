"""How much is carried per second, from counters that only grow, sampled once a second."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from rtun_core.model import Rates, Traffic

MIN_PERIOD = 0.5  # seconds; a shorter one would make the rates jump


class RateMeter:
    """Rates by key. A key that is seen for the first time is measured from nothing: it began just now."""

    def __init__(self) -> None:
        self._sampled_at: float | None = None
        self._counts: dict[Hashable, Traffic] = {}
        self._rates: dict[Hashable, Rates] = {}

    def sample(self, counters: Iterable[tuple[Hashable, Traffic]], now: float) -> None:
        """Take the counters of everything that is there at `now` (monotonic seconds); others are forgotten.

        Ignored when the last sample is less than `MIN_PERIOD` old.
        """
        elapsed = None if self._sampled_at is None else now - self._sampled_at
        if elapsed is not None and elapsed < MIN_PERIOD:
            return
        counts = dict(counters)
        if elapsed is not None:
            nothing = Traffic()
            self._rates = {
                key: _rates(count, self._counts.get(key, nothing), elapsed) for key, count in counts.items()
            }
        self._sampled_at = now
        self._counts = counts

    def rates(self, key: Hashable) -> Rates:
        """Rates over the last sampled second; zero for what was not sampled twice."""
        return self._rates.get(key, _NONE)


_NONE = Rates()


def _rates(now: Traffic, before: Traffic, seconds: float) -> Rates:
    # A counter below its last value began anew (a tunnel that was replaced under its name).
    return Rates(
        up_packets=max(0, now.up_packets - before.up_packets) / seconds,
        up_bytes=max(0, now.up_bytes - before.up_bytes) / seconds,
        down_packets=max(0, now.down_packets - before.down_packets) / seconds,
        down_bytes=max(0, now.down_bytes - before.down_bytes) / seconds,
    )
