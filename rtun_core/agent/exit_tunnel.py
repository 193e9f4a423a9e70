"""One relay tunnel on the exit side, from the selected ICE path to its end (wire spec 9).

Batches go through: what the relay sends is decoded as a whole and handed to the flow table by flow;
answers of targets get their headers written in front of them, in the buffer they were received into. A
few datagrams, and those that come before the frame form is settled, go one by one.
When to beat, in which frame form, and when to close is decided by `TunnelPolicy`.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from rtun_core.agent.exit_flows import SCALAR_ROWS, Attachment, ExitFlows
from rtun_core.agent.tunnel_policy import CodecTerms, TunnelPolicy
from rtun_core.errors import RemoteProtocolError
from rtun_core.model import Traffic, TunnelId
from rtun_core.net.udp import HEADROOM, DatagramBatch, UdpSocket
from rtun_core.wire.address import Address
from rtun_core.wire.relay_batch import ERROR_REASONS, OK, BatchCodec, Decoded
from rtun_core.wire.relay_frame import MAX_DATAGRAM, Frame, RelayCodec, make_codec
from rtun_core.wire.relay_report import Ping, Pong, decode_report, encode_report
from rtun_core.wire.stun import COOKIE, is_stun

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Ints = NDArray[np.int64]
Rows = NDArray[np.intp]
Marks = NDArray[np.bool_]

_COOKIE: Final = np.frombuffer(COOKIE, np.uint32)[0]
_REFUSED: Final = (errno.ECONNREFUSED, errno.ECONNRESET)


class RelayPath(Protocol):
    """What ICE hands over; see `rtun_core.net.ice.SelectedPath`."""

    @property
    def socket(self) -> UdpSocket: ...
    @property
    def remote(self) -> Address: ...
    @property
    def rtt(self) -> float | None: ...
    @property
    def responder(self) -> Callable[[bytes, Address], bytes | None]: ...
    @property
    def early(self) -> Sequence[bytes]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelTerms:
    """What was agreed for one tunnel: `session` is what tunnels of one relay share."""

    session: str
    target: Address
    idle_timeout: float
    codec: CodecTerms
    reports: bool = False


class ExitTunnel:
    """One tunnel. `on_closed(tunnel, reason)` is called once, unless the owner called `close` itself.

    `clock` gives monotonic seconds. Payload is counted in `traffic`; `rx_frames` and `tx_frames` count
    all valid frames, as reports do. `drops` and `faults` count by reason.
    """

    def __init__(
        self,
        tunnel: TunnelId,
        path: RelayPath,
        terms: TunnelTerms,
        flows: ExitFlows,
        *,
        clock: Callable[[], float],
        on_closed: Callable[[ExitTunnel, str], None],
    ) -> None:
        self.id = tunnel
        self.remote = path.remote
        self.rtt = path.rtt
        self.terms = terms
        self.idle_timeout = terms.idle_timeout
        self.max_payload = terms.codec.max_payload or MAX_DATAGRAM
        self.opened_at = clock()
        self.draining = False
        self.closed = False
        self.drops: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.rx_frames = self.tx_frames = 0
        self._up_packets = self._up_bytes = self._down_packets = self._down_bytes = 0
        self._path = path
        self._socket = path.socket
        self._policy = TunnelPolicy(terms.codec, self.opened_at)
        self._codec: RelayCodec | None = None
        self._batch_codec: BatchCodec | None = None
        self._nonces = np.random.default_rng()
        self._flows = flows
        self._clock = clock
        self._on_closed = on_closed
        self._at: Attachment = flows.attach(self, terms.session, terms.target)
        self._follow_policy()

    @property
    def path_index(self) -> int:
        """Where the flow table has this tunnel."""
        return self._at.path

    @property
    def codec_name(self) -> str:
        """The frame form as it is shown, empty while undecided."""
        return "" if self._codec is None else self._codec.kind.value

    @property
    def local(self) -> Address:
        """Our address of the path."""
        return self._socket.local

    @property
    def traffic(self) -> Traffic:
        """Payload carried so far."""
        return Traffic(self._up_packets, self._up_bytes, self._down_packets, self._down_bytes)

    @property
    def quiet(self) -> float:
        """Seconds since the last valid frame."""
        return self._policy.quiet(self._clock())

    def start(self) -> None:
        """Take what came during the ICE phase, then read the socket, and beat if the form is known."""
        self._socket.start(self._on_batch, self._on_error)
        for datagram in self._path.early:
            self._take_one(datagram)
        self.tick()

    def tick(self) -> None:
        """Once a second: heartbeat and watchdog."""
        if self.closed:
            return
        step = self._policy.tick(self._clock())
        self._follow_policy()
        if step.close is not None:
            self._lose(step.close)
        elif step.heartbeat:
            self._send_frame(0, b"")

    def close(self) -> None:
        """Close silently, as the protocol has no farewell. May be called again."""
        if not self.closed:
            self.closed = True
            self._flows.detach(self._at)
            self._socket.close()

    def drop(self, reason: str, count: int = 1) -> None:
        """Count datagrams that are not carried."""
        self.drops[reason] += count

    def counters(self) -> tuple[Counter[str], Counter[str]]:
        """Drops and faults by reason, those of the tunnel's socket included."""
        drops = Counter(self.drops)
        stats = self._socket.stats
        for reason, count in stats.tx_dropped.items():
            drops[f"tunnel {reason}"] += count
        drops["kernel"] += stats.kernel_drops
        return +drops, Counter(self.faults)

    def downlink(self, data: Bytes, rows: Rows, flows: Words, lengths: Ints) -> None:
        """Carry `lengths[k]` bytes of `data[rows[k]]`, from column HEADROOM on, as flow `flows[k]`."""
        codec = self._batch_codec
        assert codec is not None, "flows are bound to a tunnel by frames, whose form is known"
        nonces = self._nonces.integers(0, 256, len(rows), np.uint8)
        codec.encode_headers(data, HEADROOM, rows, flows, lengths, nonces)
        starts = np.full(len(rows), HEADROOM - codec.header_size)
        sent = self._socket.send_rows(data, rows, starts, lengths + codec.header_size)
        self.tx_frames += len(rows)
        self._down_packets += sent
        self._down_bytes += int(lengths.sum()) * sent // len(rows)

    def downlink_one(self, flow: int, payload: bytes) -> None:
        """Carry one datagram as flow `flow`."""
        if self._send_frame(flow, payload):
            self._down_packets += 1
            self._down_bytes += len(payload)

    def _on_batch(self, batch: DatagramBatch) -> None:
        codec = self._batch_codec
        if codec is None or batch.count <= SCALAR_ROWS or not self._policy.settled:
            for row in range(batch.count):
                self._take_one(batch.payload(row))
            return
        aside = self._set_stun_aside(batch)
        decoded = codec.decode_headers(batch.data, HEADROOM, batch.lengths, batch.count)
        good = decoded.errors == OK
        if aside is not None:
            good &= ~aside
        valid = int(np.count_nonzero(good))
        if valid < batch.count:
            self._count_errors(decoded, aside)
        if valid:
            self._receive(batch, decoded, good, valid)

    def _take_one(self, datagram: bytes) -> None:
        """A datagram alone; the first one that is a frame settles the form."""
        if self.closed:
            return
        now = self._clock()
        if is_stun(datagram):
            self._answer_stun(datagram)
            return
        if not self._policy.settled:
            if not self._policy.detect(datagram, now):
                self.drop("codec")
                return
            self.tick()
        try:
            frame = self._known_codec().decode(datagram)
        except RemoteProtocolError as error:
            self.drop(error.reason)
            return
        self.rx_frames += 1
        self._policy.received(now)
        self._take_frame(frame, now)

    def _take_frame(self, frame: Frame, now: float) -> None:
        size = len(frame.payload)
        if frame.flow == 0 and (not size or self.terms.reports):
            if size:
                self._on_report(frame.payload)
        elif size > self.max_payload:
            self.drop("oversize")
        elif not self.closed:
            self._up_packets += 1
            self._up_bytes += size
            self._flows.uplink_one(self._at, frame.flow, frame.payload, now)

    def _set_stun_aside(self, batch: DatagramBatch) -> Marks | None:
        """Answer STUN; marks of the rows that were, None when there were none."""
        cookies = np.ascontiguousarray(batch.data[: batch.count, HEADROOM + 4 : HEADROOM + 8])
        suspects = np.flatnonzero(cookies.view(np.uint32)[:, 0] == _COOKIE)
        if not len(suspects):
            return None
        aside = np.zeros(batch.count, np.bool_)
        for row in suspects.tolist():
            datagram = batch.payload(row)
            if is_stun(datagram):
                aside[row] = True
                self._answer_stun(datagram)
        return aside

    def _answer_stun(self, datagram: bytes) -> None:
        answer = self._path.responder(datagram, self.remote)
        if answer is None:
            self.drop("stun")
        else:
            self._socket.send(answer)

    def _receive(self, batch: DatagramBatch, decoded: Decoded, good: Marks, valid: int) -> None:
        self.rx_frames += valid
        self._policy.received(self._clock())
        control = good & (decoded.flows == 0)
        if control.any():
            good = self._take_control(batch, decoded, good, control)
        oversize = good & (decoded.payload_len > self.max_payload)
        if oversize.any():
            self.drop("oversize", int(np.count_nonzero(oversize)))
            good &= ~oversize
        rows = np.flatnonzero(good)
        if not len(rows) or self.closed:
            return
        lengths = decoded.payload_len[rows]
        self._up_packets += len(rows)
        self._up_bytes += int(lengths.sum())
        starts = decoded.payload_at[rows]
        self._flows.uplink(self._at, batch.data, rows, decoded.flows[rows], starts, lengths)

    def _take_control(
        self,
        batch: DatagramBatch,
        decoded: Decoded,
        good: Marks,
        control: Marks,
    ) -> Marks:
        """Take heartbeats and agreed reports out of `good`; without reports flow 0 carries data too.

        `control` marks the frames of flow 0.
        """
        if not self.terms.reports:
            control &= decoded.payload_len == 0
            return np.logical_and(good, ~control)
        for row in np.flatnonzero(control & (decoded.payload_len > 0)).tolist():
            start = int(decoded.payload_at[row])
            self._on_report(batch.data[row, start : start + int(decoded.payload_len[row])].tobytes())
        return np.logical_and(good, ~control)

    def _on_report(self, payload: bytes) -> None:
        """Answer a ping; we send none, so a pong is not for us."""
        try:
            report = decode_report(payload)
        except RemoteProtocolError as error:
            self.faults[error.reason] += 1
            return
        if isinstance(report, Ping):
            pong = Pong(report.seq, report.sent_us, self.rx_frames, self.tx_frames)
            self._send_frame(0, encode_report(pong))
        else:
            self.faults["unsolicited"] += 1

    def _count_errors(self, decoded: Decoded, aside: Marks | None) -> None:
        errors = decoded.errors if aside is None else decoded.errors[~aside]
        for code, count in enumerate(np.bincount(errors).tolist()):
            if code != OK and count:
                self.drop(ERROR_REASONS[code], count)

    def _send_frame(self, flow: int, payload: bytes) -> bool:
        """Send one frame; whether it was not dropped."""
        self.tx_frames += 1
        return self._socket.send(self._known_codec().encode(flow, payload, random.getrandbits(8)))

    def _known_codec(self) -> RelayCodec:
        assert self._codec is not None, "frames come and go only once their form is known"
        return self._codec

    def _follow_policy(self) -> None:
        """Use the frame form that the policy has come to."""
        kind = self._policy.kind
        if kind is None or (self._codec is not None and self._codec.kind is kind):
            return
        self._codec = make_codec(kind, self.terms.codec.seed)
        self._batch_codec = BatchCodec(self._codec)
        asked = self.terms.codec.max_payload or self._codec.max_payload
        self.max_payload = min(asked, self._codec.max_payload)

    def _on_error(self, error: OSError) -> None:
        if error.errno not in _REFUSED:
            self.faults[f"tunnel socket {errno.errorcode.get(error.errno or 0, 'error')}"] += 1
        elif self._policy.refused(self._clock()):
            self._lose("the peer's port is closed")

    def _lose(self, reason: str) -> None:
        if not self.closed:
            self.close()
            self._on_closed(self, reason)
