"""Times in a recording as people write them, and where the player stands."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final

from rtun_core.errors import UsageError

SLOWEST: Final = 0.1  # times as fast as it happened
FASTEST: Final = 100.0

_ACCEPTED: Final = "HH:MM:SS, YYYY-MM-DDTHH:MM:SS, +SECONDS, -SECONDS, start or end"


def moment(where: str, *, here: float, start: float, end: float) -> float:
    """The Unix time that is meant, between `start` and `end`. Raises UsageError.

    A time of day, in this machine's zone, is the one nearest to `here` that was recorded. Seconds count from
    `here`, and lead no further than to the start or the end.
    """
    if where in ("start", "end"):
        return start if where == "start" else end
    if where[:1] in ("+", "-"):
        return min(max(here + _seconds(where), start), end)
    found = [each for each in _candidates(where, here) if int(start) <= each <= end]
    if not found:
        raise UsageError(f"{where} was not recorded; accepted: {clock(start)} to {clock(end)}")
    return max(start, min(found, key=lambda each: abs(each - here)))


def checked_speed(factor: float) -> float:
    """The factor, if a recording can play that fast. Raises UsageError."""
    if not SLOWEST <= factor <= FASTEST:
        raise UsageError(f"speed {factor:g}: accepted: {SLOWEST:g} to {FASTEST:g}")
    return factor


def clock(ts: float) -> str:
    """The time of day."""
    return datetime.fromtimestamp(ts).strftime("%H:%M:%S")


def _seconds(where: str) -> float:
    try:
        seconds = float(where)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise UsageError(f"{where} is no time in a recording; accepted: {_ACCEPTED}")
    return seconds


def _candidates(where: str, here: float) -> list[float]:
    """What a time of day may mean: today, and the days around it."""
    today = datetime.fromtimestamp(here).date()
    days = [today + timedelta(days=days) for days in (-1, 0, 1)]
    try:
        if "T" in where:
            return [datetime.fromisoformat(where).timestamp()]
        time = datetime.strptime(where, "%H:%M:%S" if where.count(":") == 2 else "%H:%M").time()
        return [datetime.combine(day, time).timestamp() for day in days]
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{where} is no time in a recording; accepted: {_ACCEPTED}") from None


class ReplayClock:
    """The moment that is shown: it moves with the clock `factor` times as fast, unless held or stopped.

    `now`, here and below, is monotonic seconds.
    """

    def __init__(self, position: float, *, factor: float, now: float) -> None:
        self.position = position
        self.factor = checked_speed(factor)
        self.held = False
        self.stopped = False
        self._now = now

    @property
    def plays(self) -> bool:
        """Whether it moves by itself."""
        return not self.held and not self.stopped

    def restart(self, now: float) -> None:
        """Let no time have passed."""
        self._now = now

    def advance(self, now: float) -> float:
        """Let the time pass that has passed; the position."""
        if self.plays:
            self.position += (now - self._now) * self.factor
        self._now = now
        return self.position

    def hold(self, now: float, *, on: bool) -> None:
        """Stand still while on; taking that back plays on, also after `stop`."""
        self.advance(now)
        self.held = on
        self.stopped = self.stopped and on

    def stop(self, now: float) -> None:
        """Stand still until told to play."""
        self.advance(now)
        self.stopped = True

    def play(self, now: float, factor: float) -> None:
        """Go on, that fast. Raises UsageError."""
        checked_speed(factor)
        self.advance(now)
        self.factor, self.stopped = factor, False
