"""How often the console looks: as often as it was asked to, and never more than it may cost."""

from __future__ import annotations

import statistics
from collections import deque

SLOWEST = 5.0  # seconds
FASTEST = 0.1
REMEMBERED = 7  # looks
JUDGED = 4  # looks from which on their cost counts: the first ones lay out the screen, and import code
_STEPS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0)


class Governor:
    """Seconds between two looks. A look that costs much makes the next one come later.

    The console may take `share` of a core. At 4 Hz a look may cost 12 ms before anything changes: one at
    10,000 flows costs some 5, one at 100,000 some 7, and two or three times that on a busy machine.
    """

    def __init__(self, interval: float = 0.25, *, share: float = 0.05) -> None:
        self.interval = interval
        self._share = share
        self._costs: deque[float] = deque(maxlen=REMEMBERED)

    def spent(self, seconds: float) -> None:
        """Account the CPU time of one look."""
        self._costs.append(seconds)

    @property
    def pause(self) -> float:
        """Seconds until the next look. The median counts, so that a dialog or a resize changes nothing."""
        if len(self._costs) < JUDGED:
            return self.interval
        return max(self.interval, statistics.median_low(self._costs) / self._share)

    def faster(self) -> None:
        """The next shorter interval."""
        self.interval = next((step for step in reversed(_STEPS) if step < self.interval - 1e-9), FASTEST)

    def slower(self) -> None:
        """The next longer interval."""
        self.interval = next((step for step in _STEPS if step > self.interval + 1e-9), SLOWEST)
