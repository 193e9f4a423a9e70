"""One peer-to-peer channel of the relay: a frame socket with health, reports and a stage of life."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from rtun_core.model import AgentId, RuleId, Traffic, TunnelId
from rtun_core.net.frame_socket import FramePath, Frames, FrameSocket
from rtun_core.relay.health import ChannelHealth
from rtun_core.wire.frame_policy import FrameTerms
from rtun_core.wire.relay_report import Ping, Pong

_PINGS_REMEMBERED = 16
_RATE_WEIGHT = 0.3  # of a new second


class Stage(enum.Enum):
    """What flows may do with a channel: prepared -> active -> draining, or retiring after a switch."""

    PREPARED = "prepared"  # opened for an agent switch that is not decided yet: no flows
    ACTIVE = "active"
    DRAINING = "draining"  # flows leave, none come
    RETIRING = "retiring"  # of a former agent: still delivers answers for a moment


class ChannelIdentity(NamedTuple):
    """Who a channel is: `number` is its short name inside the rule's flow table."""

    id: TunnelId
    number: int
    rule: RuleId
    agent: AgentId


class Receiver(Protocol):
    """Where answers go. The buffer of `frames` is reused after the call."""

    def deliver(self, frames: Frames) -> None: ...
    def deliver_one(self, flow: int, payload: bytes) -> None: ...


class Channel:
    """Carries frames, measures its health, decides nothing about flows.

    Answers go to `receiver`. `on_lost(channel, reason)` is called once, when the peer is gone.
    """

    def __init__(
        self,
        identity: ChannelIdentity,
        path: FramePath,
        terms: FrameTerms,
        *,
        reports: bool,
        max_payload: int,
        receiver: Receiver,
        on_lost: Callable[[Channel, str], None],
    ) -> None:
        self.id, self.number, self.rule, self.agent = identity
        self.health = ChannelHealth(time.monotonic(), reports=reports)
        self.frames = FrameSocket(path, terms, self, reports=reports, max_payload=max_payload)
        self.opened_at = time.time()
        self.stage = Stage.PREPARED
        self.flows = 0  # as of the last tick or move
        self.preferred = False
        self.rate = 0.0  # packets a second, both ways, smoothed by the tick
        self._rate_mark = 0
        self._receiver = receiver
        self._tell_lost = on_lost
        self._ping_seq = 0
        self._pings: dict[int, int] = {}  # seq -> frames sent until then
        if path.rtt is not None:
            self.health.sample_rtt(path.rtt)

    @property
    def draining(self) -> bool:
        """Whether flows are to leave it."""
        return self.stage in (Stage.DRAINING, Stage.RETIRING)

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self.frames.closed

    @property
    def max_payload(self) -> int:
        """The largest payload it carries, in bytes."""
        return self.frames.max_payload

    @property
    def traffic(self) -> Traffic:
        """Payload carried so far."""
        frames = self.frames
        down = (frames.received_packets, frames.received_bytes)
        return Traffic(frames.sent_packets, frames.sent_bytes, *down)

    def send(self, frames: Frames) -> None:
        """Frame and send payloads in place; what the socket refuses is counted there."""
        if self.frames.send(frames) < len(frames.starts):
            self.health.send_failed(time.monotonic())

    def send_one(self, flow: int, payload: bytes) -> None:
        """Frame and send one datagram."""
        if not self.frames.send_one(flow, payload):
            self.health.send_failed(time.monotonic())

    def tick(self, now: float) -> None:
        """Once a second: heartbeat, watchdog, report, rate."""
        self.frames.tick()
        if self.closed:
            return
        self.health.received(now - self.frames.quiet)
        if self.health.reports:
            self._ping(now)
        packets = self.frames.sent_packets + self.frames.received_packets
        self.rate += _RATE_WEIGHT * (packets - self._rate_mark - self.rate)
        self._rate_mark = packets

    def close(self) -> None:
        """Close quietly; the peer notices by ICMP or its watchdog, as with the originals.

        Who waits for `frames.ready` is woken up and finds the channel closed.
        """
        self.frames.close()
        self.frames.ready.set()

    def drops(self) -> dict[str, int]:
        """Drops by reason."""
        return dict(self.frames.counters()[0])

    def faults(self) -> dict[str, int]:
        """What the peer did wrong, by reason."""
        return dict(self.frames.counters()[1])

    def on_frame(self, flow: int, payload: bytes) -> None:
        """One answer of the agent's target."""
        self._receiver.deliver_one(flow, payload)

    def on_frames(self, frames: Frames) -> None:
        """Answers of the agent's target."""
        self._receiver.deliver(frames)

    def on_report(self, report: Ping | Pong) -> None:
        """A pong is a measurement; a ping is answered, though our agents send none."""
        mine = self.frames
        if isinstance(report, Ping):
            mine.send_report(Pong(report.seq, report.sent_us, mine.rx_frames, mine.tx_frames))
            return
        sent = self._pings.pop(report.seq, None)
        if sent is None:
            mine.faults["unsolicited"] += 1
            return
        now = time.monotonic()
        self.health.answered(now)
        self.health.sample_rtt(max(now - report.echo_sent_us / 1e6, 0.0))
        self.health.sample_counts(
            sent=sent, arrived=report.rx_frames, peer_sent=report.tx_frames, received=mine.rx_frames
        )

    def on_lost(self, reason: str) -> None:
        """The peer or the path is gone."""
        self._tell_lost(self, reason)

    def _ping(self, now: float) -> None:
        self._ping_seq = (self._ping_seq + 1) & 0xFFFFFFFF
        self._pings[self._ping_seq] = self.frames.tx_frames
        if len(self._pings) > _PINGS_REMEMBERED:
            del self._pings[next(iter(self._pings))]
        self.frames.send_report(Ping(self._ping_seq, int(now * 1e6), self.frames.tx_frames))
