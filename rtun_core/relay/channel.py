"""One peer-to-peer channel of the relay: frames in and out of a connected UDP socket, in batches."""

from __future__ import annotations

import enum
import errno
import random
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtun_core.errors import RemoteProtocolError
from rtun_core.model import AgentId, RuleId, Traffic, TunnelId
from rtun_core.net.ice import SelectedPath
from rtun_core.net.udp import HEADROOM, DatagramBatch
from rtun_core.relay.channel_policy import ChannelPolicy
from rtun_core.relay.flow_table import Rows
from rtun_core.relay.health import ChannelHealth
from rtun_core.wire.relay_batch import ERROR_REASONS, OK, BatchCodec, Decoded
from rtun_core.wire.relay_frame import RelayCodec
from rtun_core.wire.relay_report import Ping, Pong, decode_report, encode_report
from rtun_core.wire.stun import is_stun

_PINGS_REMEMBERED = 16


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


class Downlink(NamedTuple):
    """Answers of one batch: rows of `batch`, with flow id, payload column and length of each."""

    batch: DatagramBatch
    rows: Rows
    flows: NDArray[np.uint64]
    payload_at: NDArray[np.int64]
    payload_len: NDArray[np.int64]


class Channel:
    """Carries frames; knows its health, counts everything, decides nothing about flows.

    `on_downlink(channel, answers)` is called inside the socket's callback: the batch is reused after
    it returns. `on_lost(channel, reason)` is called once, when the peer is gone.
    """

    def __init__(
        self,
        identity: ChannelIdentity,
        path: SelectedPath,
        policy: ChannelPolicy,
        *,
        reports: bool,
        max_payload: int,
        on_downlink: Callable[[Channel, Downlink], None],
        on_lost: Callable[[Channel, str], None],
    ) -> None:
        assert policy.codec is not None, "a channel starts when its codec is known"
        self.id, self.number, self.rule, self.agent = identity
        self.remote = path.remote
        self.max_payload = max_payload
        self.health = ChannelHealth(time.monotonic(), reports=reports)
        self.opened_at = time.time()
        self.stage = Stage.PREPARED
        self.flows = 0  # as of the last tick or move
        self.preferred = False
        self.closed = False
        self.reason = ""
        self.drops: dict[str, int] = {}
        self.rx_frames = self.tx_frames = 0
        self.up_packets = self.up_bytes = self.down_packets = self.down_bytes = 0
        self.rate = 0.0  # packets a second, both ways, smoothed by the tick
        self._rate_mark = 0
        self._path = path
        self._socket = path.socket
        self._policy = policy
        self._codec: RelayCodec = policy.codec
        self._batch_codec = BatchCodec(self._codec)
        self._starts = HEADROOM - self._codec.header_size
        self._on_downlink = on_downlink
        self._on_lost = on_lost
        self._nonces = np.random.default_rng()
        self._ping_seq = 0
        self._pings: dict[int, int] = {}  # seq -> frames sent until then
        if path.rtt is not None:
            self.health.sample_rtt(path.rtt)

    @property
    def draining(self) -> bool:
        """Whether flows are to leave it."""
        return self.stage in (Stage.DRAINING, Stage.RETIRING)

    @property
    def codec_name(self) -> str:
        """The wire name of the codec."""
        return self._codec.kind.value

    @property
    def local(self) -> str:
        """Our address of the nominated pair."""
        return str(self._socket.local)

    @property
    def traffic(self) -> Traffic:
        """Payload carried so far."""
        return Traffic(self.up_packets, self.up_bytes, self.down_packets, self.down_bytes)

    def start(self, early: list[bytes]) -> None:
        """Read the socket from now on; `early` arrived while the path was being set up."""
        now = time.monotonic()
        for datagram in early:
            self._receive_one(datagram, now)
        self._socket.start(self._on_batch, self._on_error)
        self.tick(now)

    def send(
        self, batch: DatagramBatch, rows: Rows, flows: NDArray[np.uint64], lengths: NDArray[np.int64]
    ) -> None:
        """Frame and send rows of a batch in place; what the socket refuses is counted there."""
        nonces = self._nonces.integers(0, 256, len(rows), np.uint8)
        self._batch_codec.encode_headers(batch.data, HEADROOM, rows, flows, lengths, nonces)
        sizes = lengths + self._codec.header_size
        sent = self._socket.send_rows(batch.data, rows, np.full(len(rows), self._starts), sizes)
        self.tx_frames += len(rows)
        self.up_packets += sent
        self.up_bytes += int(lengths.sum()) * sent // len(rows)
        if sent < len(rows):
            self.health.send_failed(time.monotonic())

    def tick(self, now: float) -> None:
        """Once a second: heartbeat, report, watchdog, rate."""
        if self.closed:
            return
        if (reason := self._policy.lost(now)) is not None:
            self.lose(reason)
            return
        if self._policy.heartbeat_due(now):
            self._send_control(b"")
        if self.health.reports:
            self._ping(now)
        packets = self.up_packets + self.down_packets
        self.rate += 0.3 * (packets - self._rate_mark - self.rate)
        self._rate_mark = packets

    def lose(self, reason: str) -> None:
        """Close because of the peer or the path, and tell the owner."""
        if not self.closed:
            self.close(reason)
            self._on_lost(self, reason)

    def close(self, reason: str) -> None:
        """Close quietly; the peer notices by ICMP or its watchdog, as with the originals."""
        self.closed = True
        self.reason = reason
        self._socket.close()

    def all_drops(self) -> dict[str, int]:
        """Drops by reason: of this channel's frames and of its socket."""
        stats = self._socket.stats
        drops = self.drops | {f"channel {reason}": count for reason, count in stats.tx_dropped.items()}
        return drops | ({"kernel": stats.kernel_drops} if stats.kernel_drops else {})

    def _ping(self, now: float) -> None:
        self._ping_seq = (self._ping_seq + 1) & 0xFFFFFFFF
        self._pings[self._ping_seq] = self.tx_frames
        if len(self._pings) > _PINGS_REMEMBERED:
            del self._pings[next(iter(self._pings))]
        self._send_control(encode_report(Ping(self._ping_seq, int(now * 1e6), self.tx_frames)))

    def _send_control(self, payload: bytes) -> None:
        self.tx_frames += 1
        self._socket.send(self._codec.encode(0, payload, random.randrange(256)))

    def _on_batch(self, batch: DatagramBatch) -> None:
        now = time.monotonic()
        decoded = self._batch_codec.decode_headers(batch.data, HEADROOM, batch.lengths, batch.count)
        good = decoded.errors == OK
        valid = int(np.count_nonzero(good))
        if valid < batch.count:
            self._reject(batch, decoded)
        if not valid:
            return
        self.rx_frames += valid
        self.health.received(now)
        self._policy.received(now)
        data = good & (decoded.flows != 0)
        if np.count_nonzero(data) < valid:
            for row in np.nonzero(good & ~data)[0].tolist():
                self._control_frame(_payload(batch, decoded, row), now)
        self._deliver(batch, decoded, np.nonzero(data)[0])

    def _deliver(self, batch: DatagramBatch, decoded: Decoded, rows: Rows) -> None:
        if not len(rows) or self.closed:
            return
        lengths = decoded.payload_len[rows]
        self.down_packets += len(rows)
        self.down_bytes += int(lengths.sum())
        answers = Downlink(batch, rows, decoded.flows[rows], decoded.payload_at[rows], lengths)
        self._on_downlink(self, answers)

    def _reject(self, batch: DatagramBatch, decoded: Decoded) -> None:
        """Answer what is STUN, count what is nothing."""
        for row in np.nonzero(decoded.errors != OK)[0].tolist():
            datagram = batch.payload(row)
            if is_stun(datagram):
                self._answer_stun(datagram)
            else:
                self._drop(f"decode {ERROR_REASONS[decoded.errors[row]]}")

    def _answer_stun(self, datagram: bytes) -> None:
        answer = self._path.responder(datagram, self.remote)
        if answer is None:
            self._drop("stun")
        else:
            self._socket.send(answer)

    def _receive_one(self, datagram: bytes, now: float) -> None:
        try:
            frame = self._codec.decode(datagram)
        except RemoteProtocolError as error:
            self._drop(f"decode {error.reason}")
            return
        self.rx_frames += 1
        self.health.received(now)
        self._policy.received(now)
        if frame.flow == 0:
            self._control_frame(frame.payload, now)
        else:
            self._drop("no flow")

    def _control_frame(self, payload: bytes, now: float) -> None:
        """Flow 0: a heartbeat, or a report where reports were agreed."""
        if not payload:
            return
        if not self.health.reports:
            self._drop("no flow")
            return
        try:
            report = decode_report(payload)
        except RemoteProtocolError as error:
            self._drop(f"decode {error.reason}")
            return
        if isinstance(report, Pong):
            self._pong(report, now)
        else:
            answer = Pong(report.seq, report.sent_us, self.rx_frames, self.tx_frames)
            self._send_control(encode_report(answer))

    def _pong(self, pong: Pong, now: float) -> None:
        sent = self._pings.pop(pong.seq, None)
        if sent is None:
            self._drop("decode report")
            return
        self.health.sample_rtt(max(now - pong.echo_sent_us / 1e6, 0.0))
        self.health.sample_counts(
            sent=sent, arrived=pong.rx_frames, peer_sent=pong.tx_frames, received=self.rx_frames
        )

    def _on_error(self, error: OSError) -> None:
        now = time.monotonic()
        if error.errno in (errno.ECONNREFUSED, errno.ECONNRESET):
            if self._policy.refused(now):
                self.lose("the peer's port is closed")
            return
        self.health.send_failed(now)
        self._drop(f"socket {errno.errorcode.get(error.errno or 0, 'error')}")

    def _drop(self, reason: str) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + 1


def _payload(batch: DatagramBatch, decoded: Decoded, row: int) -> bytes:
    start = int(decoded.payload_at[row])
    return batch.data[row, start : start + int(decoded.payload_len[row])].tobytes()
