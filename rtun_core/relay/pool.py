"""How many channels a rule keeps, and when one is opened, replaced, drained or closed.

Theory of operation (wire spec 10.3). A channel is *opening*, then *active*, perhaps *draining*, then
gone. The number wanted is `min` while the rule has no flows and `max` as soon as it has one. At most
one attempt to open runs at a time; the next thing to do is the first of:

1. fewer healthy, non-draining channels than wanted     -> open, "scale-up"
2. an active channel is past its lifetime               -> open, "rotate"; drain the old one when it is up
3. `min` is 0, nothing is active, a datagram waits      -> open, "demand-open"

A draining channel closes when it has been without flows for a moment, in which answers that are under way
still come. Without flows, channels above `min` close, newest first. A
channel that went silent is replaced before it is given up: it counts as missing, so a successor opens
while it may still come back; what is then too much drains. A path that is dead for every channel must not
grow the pool without bound: above twice the wanted number nothing is opened, unless all that exist drain.
Pure: time comes in as `now`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from rtun_core.model import TunnelId

OPEN_TIMEOUT = 10.0  # two gatherings of 2 s, DNS and round trips; the originals' 5 s often fails
OPEN_TIMEOUT_MAX = 30.0
LINGER = 1.0  # a drained channel still takes answers: they are sent to where their flow was last heard
IDLE_GRACE = 5.0  # a channel that was just opened is not closed for want of flows


class Open(NamedTuple):
    """Start one attempt to open a channel; answer with `opened` or `open_failed`."""

    source: str
    timeout: float
    replaces: TunnelId | None = None


class Drain(NamedTuple):
    """Give the channel no new flows and move away those it has."""

    id: TunnelId
    reason: str


class Close(NamedTuple):
    """Close the channel now."""

    id: TunnelId
    reason: str


Action = Open | Drain | Close


@dataclass(slots=True)
class Member:
    """One channel as the pool sees it."""

    id: TunnelId
    opened_at: float
    expires_at: float
    draining: bool = False
    recycle: bool = False
    empty_since: float | None = None  # draining, and without flows


class PoolView(NamedTuple):
    """What the pool must know of the world at a step.

    `flows` per channel, `total_flows` of the rule, `silent` channels that hear nothing, `demand`: a
    datagram waits and nothing is up, `can_open`: there is a signalling session to open with.
    """

    flows: dict[TunnelId, int]
    total_flows: int
    silent: frozenset[TunnelId] = frozenset()
    demand: bool = False
    can_open: bool = True


class PoolPolicy:
    """The pool of one rule. Counts and lifetimes in seconds; see the module text."""

    def __init__(self, *, minimum: int, maximum: int, lifetime: float, retry_interval: float) -> None:
        self.min, self.max = minimum, maximum
        self.lifetime, self.retry_interval = lifetime, retry_interval
        self.members: dict[TunnelId, Member] = {}
        self.attempt: Open | None = None
        self.extra = 0  # asked for above `min`; see `ask_for_one`
        self._attempt_at = self._hold_until = 0.0
        self._timeout = OPEN_TIMEOUT

    def wanted(self, flows: int) -> int:
        """How many channels this rule wants while it has `flows` flows."""
        return min(self.max, max(self.min + self.extra, self.max if flows else self.min))

    def active(self) -> list[Member]:
        """Channels that take new flows, oldest first."""
        return [member for member in self.members.values() if not member.draining]

    def step(self, now: float, view: PoolView) -> list[Action]:
        """What to do now."""
        total = view.total_flows
        actions = self._close_drained(now, view.flows)
        actions += self._shrink(now, total, view.silent, demand=view.demand)
        opening = self._next_open(now, total, view.silent, demand=view.demand) if view.can_open else None
        if opening is not None:
            self.attempt, self._attempt_at = opening, now
            actions.append(opening)
        return actions

    def opened(self, channel: TunnelId, now: float) -> list[Action]:
        """The running attempt gave a channel."""
        attempt, self.attempt = self.attempt, None
        self._timeout, self._hold_until = OPEN_TIMEOUT, 0.0
        self.members[channel] = Member(channel, now, now + self.lifetime)
        if attempt is not None and attempt.replaces in self.members:
            return self._drain(attempt.replaces, f"replaced by {channel}")
        return []

    def open_failed(self, now: float) -> None:
        """The running attempt gave nothing: wait longer next time, and not start again at once."""
        self.attempt = None
        self._timeout = min(self._timeout * 2, OPEN_TIMEOUT_MAX) if self.members else OPEN_TIMEOUT
        self._hold_until = self._attempt_at + self.retry_interval

    def adopt(self, channel: TunnelId, now: float) -> None:
        """Take over a channel that was opened outside of an attempt (an agent switch)."""
        self.members[channel] = Member(channel, now, now + self.lifetime)

    def lost(self, channel: TunnelId) -> None:
        """The channel is gone."""
        self.members.pop(channel, None)

    def start_over(self) -> None:
        """Another agent is in use: the running attempt and its failures were about the former one."""
        self.attempt = None
        self._timeout, self._hold_until = OPEN_TIMEOUT, 0.0

    def set_limits(self, minimum: int, maximum: int) -> None:
        """Keep `minimum` channels without flows and `maximum` with any, and none asked for above that."""
        self.min, self.max, self.extra = minimum, maximum, 0

    def ask_for_one(self) -> None:
        """Keep one channel more on request, up to `max`, also without flows, until `take_one_back`."""
        now_wanted = max(len(self.active()), self.min + self.extra)
        self.extra = max(self.extra, min(self.max, now_wanted + 1) - self.min)

    def take_one_back(self) -> None:
        """A channel is closed on request: one that was asked for, if there is any, is not opened again."""
        self.extra = max(0, self.extra - 1)

    def drain(self, channel: TunnelId, reason: str) -> list[Action]:
        """Drain on request; the pool opens another one if it then has too few."""
        return self._drain(channel, reason) if channel in self.members else []

    def recycle(self, channel: TunnelId) -> None:
        """Replace the channel as if its lifetime had ended."""
        self.members[channel].recycle = True

    def _drain(self, channel: TunnelId, reason: str) -> list[Action]:
        member = self.members[channel]
        if member.draining:
            return []
        member.draining = True
        return [Drain(channel, reason)]

    def _close_drained(self, now: float, flows: dict[TunnelId, int]) -> list[Action]:
        done = list[TunnelId]()
        for member in self.members.values():
            if not member.draining or flows.get(member.id):
                member.empty_since = None
            elif member.empty_since is None:
                member.empty_since = now
            elif now - member.empty_since >= LINGER:
                done.append(member.id)
        return [self._close(channel, "drained") for channel in done]

    def _close(self, channel: TunnelId, reason: str) -> Close:
        del self.members[channel]
        return Close(channel, reason)

    def _shrink(self, now: float, flows: int, silent: frozenset[TunnelId], *, demand: bool) -> list[Action]:
        """Drain what is too much: silent channels, and of the healthy ones the newest."""
        spare = sum(member.id not in silent for member in self.active()) - self.wanted(flows)
        if spare < 0 or demand:
            return []
        newest = self.active()[::-1]
        leaving = [member for member in newest if member.id in silent]
        leaving += [member for member in newest if member.id not in silent][:spare]
        ready = [member for member in leaving if now - member.opened_at >= IDLE_GRACE]
        reason = "scale-down" if not flows else "surplus"
        return [each for member in ready for each in self._drain(member.id, reason)]

    def _next_open(self, now: float, flows: int, silent: frozenset[TunnelId], *, demand: bool) -> Open | None:
        if self.attempt is not None or now < self._hold_until:
            return None
        active, wanted = self.active(), self.wanted(flows)
        if active and len(self.members) >= 2 * max(wanted, 1):
            return None
        healthy = [member for member in active if member.id not in silent]
        if len(healthy) < wanted:
            return Open("scale-up", self._timeout)
        for member in active:
            if now >= member.expires_at or member.recycle:
                return Open("rotate", self._timeout, replaces=member.id)
        return Open("demand-open", self._timeout) if demand and not healthy else None
