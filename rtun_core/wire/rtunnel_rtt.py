"""Round trips of one RTunnel session, smoothed the way the original does it (rtunnel spec 6).

Our engine never repeats a packet on the same WebSocket, so the timeout computed here drives nothing; it is
kept because it tells what the original at the other end is likely to do, and for display.
"""

from __future__ import annotations

from typing import Final

MIN_RTO_NS: Final = 200_000_000
MAX_RTO_NS: Final = 60_000_000_000


class RttEstimator:
    """Mean, deviation and timeout in whole nanoseconds, truncated toward zero after each step."""

    def __init__(self) -> None:
        self.srtt_ns = 100_000_000
        self.rttvar_ns = 50_000_000
        self.rto_ns = 1_000_000_000

    def sample(self, rtt_ns: int) -> None:
        """Take one round trip. The original's clock can step, so negative samples are arithmetic too."""
        if self.srtt_ns == 0:
            self.srtt_ns, self.rttvar_ns = rtt_ns, int(rtt_ns / 2)
            self.rto_ns = self.srtt_ns + 4 * self.rttvar_ns
            return
        self.rttvar_ns = int(0.75 * self.rttvar_ns + 0.25 * abs(self.srtt_ns - rtt_ns))
        self.srtt_ns = int(0.875 * self.srtt_ns + 0.125 * rtt_ns)
        self.rto_ns = min(max(self.srtt_ns + 4 * self.rttvar_ns, MIN_RTO_NS), MAX_RTO_NS)
