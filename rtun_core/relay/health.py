"""How good a channel is: smoothed round-trip time and loss, send errors, silence, and a grade.

Pure: every method takes `now` in seconds. What cannot be measured towards an original program
(RTT and loss need the peer's reports) stays None and does not count against the channel.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

RTT_WEIGHT = 0.25  # of a new sample; one report a second, so about 4 s of memory
LOSS_WEIGHT = 0.2
FULL_SAMPLE = 10  # frames; fewer weigh less: one lost frame of an idle channel's two is not half of all
RTT_FLOOR = 0.005  # below this, differences in RTT say nothing about a path
STALE_WITH_REPORTS = 4.0  # reports come every second
STALE_WITHOUT = 12.0  # heartbeats come every 3 s; wire spec 10
LOSS_BAD, LOSS_GOOD = 0.05, 0.02  # hysteresis
RTT_BAD, RTT_GOOD = 3.0, 2.0  # times the best channel's RTT ...
RTT_SLACK = 0.030  # ... plus this
RECOVERY = 5.0  # seconds of goodness before a degraded channel is trusted again
ERROR_MEMORY = 5.0


class Grade(enum.IntEnum):
    """Worse is larger; flows leave a channel for one of a lower grade."""

    GOOD = 0
    DEGRADED = 1
    STALE = 2


@dataclass(slots=True)
class ChannelHealth:
    """Measurements of one channel and the grade that follows, with hysteresis."""

    opened_at: float
    reports: bool = False
    rtt: float | None = None
    loss_up: float | None = None
    loss_down: float | None = None
    last_rx: float = 0.0
    last_answer: float = 0.0
    grade: Grade = Grade.GOOD
    reason: str = ""
    _good_since: float | None = None
    _errors: list[float] = field(default_factory=list)
    _last_counts: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        self.last_rx = self.last_answer = self.opened_at

    def received(self, now: float) -> None:
        """Something valid arrived."""
        self.last_rx = now

    def answered(self, now: float) -> None:
        """A report of ours was answered, so both ways work; what merely arrives proves one."""
        self.last_answer = now

    def send_failed(self, now: float) -> None:
        """The socket refused a datagram for a reason that concerns the path."""
        self._errors = [*self._errors[-7:], now]

    def sample_rtt(self, rtt: float) -> None:
        """Add one round-trip time in seconds."""
        self.rtt = rtt if self.rtt is None else self.rtt + RTT_WEIGHT * (rtt - self.rtt)

    def sample_counts(self, *, sent: int, arrived: int, peer_sent: int, received: int) -> None:
        """Add cumulative frame counts of both ends, all taken at one exchange of reports.

        `sent` by us until our ping, `arrived` of them at the peer; `peer_sent` until its pong,
        `received` of them by us. Frames overtaken on the way show as loss once and are made up for
        in the next sample, hence the smoothing. Counts older than the last ones came with a pong that
        was overtaken: `received` is of a later moment, so they are left out. A peer whose counters
        went back started anew.
        """
        counts = (sent, arrived, peer_sent, received)
        last = self._last_counts
        if last is not None and sent < last[0]:
            return
        self._last_counts = counts
        if last is None or arrived < last[1] or peer_sent < last[2]:
            return
        self.loss_up = _smooth(self.loss_up, sent - last[0], arrived - last[1])
        self.loss_down = _smooth(self.loss_down, peer_sent - last[2], received - last[3])

    @property
    def loss(self) -> float:
        """The worse direction's loss, 0 where unknown."""
        return max(self.loss_up or 0.0, self.loss_down or 0.0)

    @property
    def cost(self) -> float:
        """Effective seconds per round trip: RTT made worse by loss. For comparing channels only."""
        return max(self.rtt or RTT_FLOOR, RTT_FLOOR) * (1.0 + 20.0 * self.loss)

    def quiet(self, now: float) -> float:
        """Seconds since something valid arrived."""
        return now - self.last_rx

    def regrade(self, now: float, best_rtt: float | None) -> bool:
        """Judge anew against the best channel's RTT; True when the grade changed."""
        before = self.grade
        limit = STALE_WITH_REPORTS if self.reports else STALE_WITHOUT
        if self.quiet(now) > limit:
            self._set(Grade.STALE, f"silent for {self.quiet(now):.0f} s")
        elif self.reports and now - self.last_answer > STALE_WITH_REPORTS:
            self._set(Grade.STALE, f"no answer for {now - self.last_answer:.0f} s")
        elif problem := self._problem(now, best_rtt):
            self._set(Grade.DEGRADED, problem)
        elif self.grade is Grade.STALE:
            self._set(Grade.DEGRADED, "was silent")
        elif self.grade is not Grade.GOOD:
            self._recover(now, best_rtt)
        return self.grade is not before

    def _set(self, grade: Grade, reason: str) -> None:
        self.grade, self.reason, self._good_since = grade, reason, None

    def _problem(self, now: float, best_rtt: float | None) -> str:
        self._errors = [at for at in self._errors if now - at < ERROR_MEMORY]
        if len(self._errors) >= 2:
            return f"{len(self._errors)} send errors"
        if self.loss > LOSS_BAD:
            return f"loss {self.loss:.1%}"
        if self._slower_than(RTT_BAD, best_rtt):
            return f"rtt {(self.rtt or 0) * 1e3:.0f} ms"
        return ""

    def _slower_than(self, factor: float, best_rtt: float | None) -> bool:
        if self.rtt is None or best_rtt is None:
            return False
        return self.rtt > factor * max(best_rtt, RTT_FLOOR) + RTT_SLACK

    def _recover(self, now: float, best_rtt: float | None) -> None:
        if self._errors or self.loss > LOSS_GOOD or self._slower_than(RTT_GOOD, best_rtt):
            self._good_since = None
        elif self._good_since is None:
            self._good_since = now
        elif now - self._good_since >= RECOVERY:
            self._set(Grade.GOOD, "")


def _smooth(loss: float | None, sent: int, arrived: int) -> float | None:
    if sent <= 0:
        return loss
    before = loss or 0.0
    sample = min(max(1.0 - arrived / sent, 0.0), 1.0)
    return before + LOSS_WEIGHT * min(sent / FULL_SAMPLE, 1.0) * (sample - before)
