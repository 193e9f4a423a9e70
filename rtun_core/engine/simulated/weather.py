"""What a path is like: a round trip that wanders, loss in bursts, trouble that comes and goes."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

PULL = 0.12  # of the distance back to the usual round trip, a second
CALM = 0.2  # of full trouble that goes in a second once it is over
BURST_PULL = 0.45


@dataclass(slots=True, kw_only=True)
class PathWeather:
    """One path. Times in seconds, loss as a share; `step` is called once a simulated second."""

    usual_rtt: float
    usual_loss: float = 0.0
    rtt: float = 0.0
    loss: float = 0.0
    _wander: float = 0.0
    _burst: float = 0.0
    _severity: float = 0.0
    _extra: tuple[float, float] = (0.0, 0.0)
    _until: float = 0.0
    _growth: float = 1.0

    def __post_init__(self) -> None:
        self.rtt, self.loss = self.usual_rtt, self.usual_loss

    def trouble(self, extra_rtt: float, extra_loss: float, *, ramp: float, until: float) -> None:
        """Grow worse by that much over `ramp` seconds, until then."""
        self._extra, self._until, self._growth = (extra_rtt, extra_loss), until, 1.0 / ramp

    def burst(self, loss: float) -> None:
        """Lose that share for a moment."""
        self._burst = max(self._burst, loss)

    def step(self, random: Random, now: float) -> None:
        """One second passes."""
        self._wander += random.gauss(0.0, 0.018) * self.usual_rtt - PULL * self._wander
        self._burst = self._burst * (1 - BURST_PULL) if self._burst > 1e-4 else 0.0
        change = self._growth if now < self._until else -CALM
        self._severity = min(max(self._severity + change, 0.0), 1.0)
        self._blend()

    def settle(self) -> None:
        """Bring trouble that has begun to its full size."""
        self._severity = 1.0 if self._until else 0.0
        self._blend()

    def _blend(self) -> None:
        extra_rtt, extra_loss = self._extra
        self.rtt = max(self.usual_rtt * 0.7, self.usual_rtt + self._wander + self._severity * extra_rtt)
        self.loss = min(1.0, self.usual_loss + self._burst + self._severity * extra_loss)
