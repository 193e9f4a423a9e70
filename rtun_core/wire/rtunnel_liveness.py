"""Pings, round trips and silence of one WebSocket after the other (rtunnel spec 6 and 15, rule 18)."""

from __future__ import annotations

import struct

from rtun_core.wire.rtunnel_rtt import RttEstimator

_PAYLOAD = struct.Struct(">q")
_NS = 1_000_000_000


class Liveness:
    """Ping payloads are our own clock in the eight bytes that the original uses; only we read them back."""

    def __init__(self, *, interval: float, dead_after: float) -> None:
        self.rtt: float | None = None
        self.heard_at = 0.0
        self._interval = interval
        self._dead_after = dead_after
        self._estimator = RttEstimator()
        self._ping: bytes | None = None
        self._ping_at = 0.0
        self._next_ping = 0.0

    @property
    def srtt(self) -> float | None:
        """Smoothed round trip in seconds, None before the first answer."""
        return None if self.rtt is None else self._estimator.srtt_ns / _NS

    def attached(self, now: float) -> None:
        """A new WebSocket: its silence starts now, and its first ping is due."""
        self.heard_at = self._next_ping = now
        self._ping = None

    def ping(self, now: float) -> bytes | None:
        """The payload of a ping, if one is due."""
        if now < self._next_ping:
            return None
        self._next_ping = now + self._interval
        self._ping_at = now
        self._ping = _PAYLOAD.pack(int(now * _NS))
        return self._ping

    def pong(self, payload: bytes, now: float) -> None:
        """Take a pong. Only the answer to the latest ping is a round trip; any pong is a sign of life."""
        self.heard_at = now
        if self._ping is None or payload != self._ping:
            return
        self._ping = None
        self.rtt = now - self._ping_at
        self._estimator.sample(int(self.rtt * _NS))

    @property
    def next_ping(self) -> float:
        """When the next ping is due."""
        return self._next_ping

    @property
    def dead_at(self) -> float:
        """When the silence will have lasted too long."""
        return self.heard_at + self._dead_after
