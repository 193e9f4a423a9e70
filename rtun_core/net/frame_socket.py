"""A connected UDP socket that carries relay frames in batches: what relay and agent have in common.

Headers are written in front of the payloads, in the buffer that they were received into; received batches
are decoded as a whole. A few datagrams, and those that come before the frame form is settled, go one by
one, which is cheaper for them. STUN that arrives after hand-over is answered, heartbeats are kept up,
reports are told apart, and everything that is dropped is counted by reason. Rules are in `FramePolicy`.
"""

from __future__ import annotations

import asyncio
import errno
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rtun_core.errors import RemoteProtocolError
from rtun_core.net.udp import DatagramBatch, Spans, UdpSocket
from rtun_core.wire.address import Address
from rtun_core.wire.frame_policy import FramePolicy, FrameTerms
from rtun_core.wire.relay_batch import ERROR_REASONS, OK, BatchCodec
from rtun_core.wire.relay_frame import MAX_DATAGRAM, CodecKind, Frame, RelayCodec, make_codec
from rtun_core.wire.relay_report import Ping, Pong, decode_report, encode_report
from rtun_core.wire.stun import COOKIE, is_stun

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Ints = NDArray[np.int64]
Rows = NDArray[np.intp]
Marks = NDArray[np.bool_]

SCALAR_ROWS: Final = 6
"""Up to this many datagrams are handled one by one. Us of CPU for 1, 4, 6, 8 and 10 datagrams of 1200 bytes
from frame to targets, sends included: one by one 16, 48, 67, 84, 104; as a batch 57, 76, 86, 91, 100."""

_COOKIE: Final = np.frombuffer(COOKIE, np.uint32)[0]
_REFUSED: Final = (errno.ECONNREFUSED, errno.ECONNRESET)


class FramePath(Protocol):
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


class Frames(NamedTuple):
    """Payloads of data frames in a flat buffer, as `Spans`, and the flow id of each.

    The buffer is reused when the callback has returned.
    """

    data: Bytes
    starts: Ints
    lengths: Ints
    flows: Words

    def take(self, which: Rows | Marks) -> Frames:
        """Some of them, by position or by mark."""
        return Frames(self.data, self.starts[which], self.lengths[which], self.flows[which])

    @property
    def spans(self) -> Spans:
        """The payloads alone."""
        return Spans(self.data, self.starts, self.lengths)


class FrameOwner(Protocol):
    """Whom a frame socket tells. `on_lost` comes once, after the socket was closed."""

    def on_frame(self, flow: int, payload: bytes) -> None: ...
    def on_frames(self, frames: Frames) -> None: ...
    def on_report(self, report: Ping | Pong) -> None: ...
    def on_lost(self, reason: str) -> None: ...


class FrameSocket:
    """One end of a channel. `clock` gives monotonic seconds; `ready` is set when the frame form is known.

    `rx_frames` and `tx_frames` count all valid frames, as reports do; `received` and `sent` count the
    payload of data frames, as packets and bytes. With `reports`, payload on flow 0 is a report; without,
    it is data of flow 0, as with the originals.
    """

    def __init__(
        self,
        path: FramePath,
        terms: FrameTerms,
        owner: FrameOwner,
        *,
        reports: bool,
        max_payload: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`max_payload`: bytes that were asked for, 0 for as much as the codec leaves."""
        self.remote = path.remote
        self.rtt = path.rtt
        self.reports = reports
        self.max_payload = max_payload or MAX_DATAGRAM
        self.ready = asyncio.Event()
        self.closed = False
        self.drops: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.rx_frames = self.tx_frames = 0
        self.received_packets = self.received_bytes = self.sent_packets = self.sent_bytes = 0
        self._asked = max_payload
        self._seed = terms.seed
        self._path = path
        self._socket = path.socket
        self._owner = owner
        self._clock = clock
        self._policy = FramePolicy(terms, clock())
        self._codec: RelayCodec | None = None
        self._untagged = True  # without a tag, STUN may decode: it is looked for first
        self._batch_codec: BatchCodec | None = None
        self._follow_policy()

    @property
    def codec_name(self) -> str:
        """The frame form as it is shown, empty while undecided."""
        return "" if self._codec is None else self._codec.kind.value

    @property
    def local(self) -> Address:
        """Our address of the path."""
        return self._socket.local

    @property
    def quiet(self) -> float:
        """Seconds since the last valid frame."""
        return self._policy.quiet(self._clock())

    def start(self) -> None:
        """Read from now on; what came while the path was being set up goes first, through the same door."""
        self._socket.take_segments()
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
            self._socket.close()

    def drop(self, reason: str, count: int = 1) -> None:
        """Count datagrams that are not carried."""
        self.drops[reason] += count

    def counters(self) -> tuple[Counter[str], Counter[str]]:
        """Drops and faults by reason, those of the socket included."""
        drops = Counter(self.drops)
        stats = self._socket.stats
        for reason, count in stats.tx_dropped.items():
            drops[f"tunnel {reason}"] += count
        drops["kernel"] += stats.kernel_drops
        return +drops, +self.faults

    def send(self, frames: Frames) -> int:
        """Frame and send payloads in place.

        The header overwrites what stands before each of them. Returns how many were sent or wait for the
        kernel; the others are counted.
        """
        codec, count = self._batch_codec, len(frames.starts)
        if codec is None:
            self.drop("codec", count)
            return 0
        nonces = np.frombuffer(random.randbytes(count), np.uint8)
        codec.encode_headers(frames.data, frames.starts, frames.flows, frames.lengths, nonces)
        size = codec.header_size
        sent = self._socket.send_spans(Spans(frames.data, frames.starts - size, frames.lengths + size))
        self.tx_frames += count
        self.sent_packets += sent
        self.sent_bytes += int(np.add.reduce(frames.lengths)) * sent // count
        return sent

    def send_one(self, flow: int, payload: bytes) -> bool:
        """Frame and send one datagram; whether it was sent or waits for the kernel."""
        if self._codec is None:
            self.drop("codec")
            return False
        if not self._send_frame(flow, payload):
            return False
        self.sent_packets += 1
        self.sent_bytes += len(payload)
        return True

    def send_report(self, report: Ping | Pong) -> None:
        """Send a report; only where reports were agreed."""
        self._send_frame(0, encode_report(report))

    def _send_frame(self, flow: int, payload: bytes) -> bool:
        self.tx_frames += 1
        return self._socket.send(self._known_codec().encode(flow, payload, random.getrandbits(8)))

    def _known_codec(self) -> RelayCodec:
        assert self._codec is not None, "frames come and go only once their form is known"
        return self._codec

    def _on_batch(self, batch: DatagramBatch) -> None:
        codec = self._batch_codec
        few = batch.count <= SCALAR_ROWS
        if codec is None or few or not self._policy.settled or (self._untagged and _has_cookie(batch)):
            for row in range(batch.count):
                self._take_one(batch.payload(row))
            return
        decoded = codec.decode_headers(batch.data, batch.starts, batch.lengths)
        frames, valid = Frames(batch.data, decoded.starts, decoded.lengths, decoded.flows), batch.count
        if decoded.errors is not None:
            good = decoded.errors == OK
            frames, valid = frames.take(good), int(np.count_nonzero(good))
            self._reject(batch, decoded.errors)
        if valid:
            self._receive(frames, valid)

    def _take_one(self, datagram: bytes) -> None:
        """A datagram alone; the first one that is a frame settles the form."""
        if self.closed:
            return
        if (self._untagged or not self._policy.settled) and is_stun(datagram):
            self._answer_stun(datagram)
            return
        if not self._policy.settled:
            if not self._policy.detect(datagram, self._clock()):
                self.drop("codec")
                return
            self.tick()
        try:
            frame = self._known_codec().decode(datagram)
        except RemoteProtocolError as error:
            if is_stun(datagram):
                self._answer_stun(datagram)
            else:
                self.drop(f"decode {error.reason}")
            return
        self.rx_frames += 1
        self._policy.received(self._clock())
        self._take_frame(frame)

    def _take_frame(self, frame: Frame) -> None:
        size = len(frame.payload)
        if frame.flow == 0 and (not size or self.reports):
            if size:
                self._take_report(frame.payload)
        elif size > self.max_payload:
            self.drop("oversize")
        else:
            self.received_packets += 1
            self.received_bytes += size
            self._owner.on_frame(frame.flow, frame.payload)

    def _reject(self, batch: DatagramBatch, errors: Bytes) -> None:
        """Answer what is STUN, count what is nothing. With a tag, nothing that is STUN is a frame as well."""
        for index in np.flatnonzero(errors != OK).tolist():
            datagram = batch.payload(index)
            if is_stun(datagram):
                self._answer_stun(datagram)
            else:
                self.drop(f"decode {ERROR_REASONS[errors[index]]}")

    def _answer_stun(self, datagram: bytes) -> None:
        answer = self._path.responder(datagram, self.remote)
        if answer is None:
            self.drop("stun")
        else:
            self._socket.send(answer)

    def _receive(self, frames: Frames, valid: int) -> None:
        self.rx_frames += valid
        self._policy.received(self._clock())
        if np.count_nonzero(frames.flows) < valid:
            frames = self._take_control(frames)
        oversize = frames.lengths > self.max_payload
        if np.count_nonzero(oversize):
            self.drop("oversize", int(np.count_nonzero(oversize)))
            frames = frames.take(~oversize)
        count = len(frames.starts)
        if not count or self.closed:
            return
        self.received_packets += count
        self.received_bytes += int(np.add.reduce(frames.lengths))
        self._owner.on_frames(frames)

    def _take_control(self, frames: Frames) -> Frames:
        """Take heartbeats and agreed reports, on flow 0; the frames that are left."""
        control = frames.flows == 0
        if not self.reports:
            return frames.take(~(control & (frames.lengths == 0)))
        for payload in frames.take(control & (frames.lengths > 0)).spans.payloads():
            self._take_report(bytes(payload))
        return frames.take(~control)

    def _take_report(self, payload: bytes) -> None:
        if self.closed:  # by the owner, at an earlier report of the same batch
            return
        try:
            report = decode_report(payload)
        except RemoteProtocolError as error:
            self.faults[error.reason] += 1
            return
        self._owner.on_report(report)

    def _follow_policy(self) -> None:
        """Use the frame form that the policy has come to."""
        kind = self._policy.kind
        if kind is None or (self._codec is not None and self._codec.kind is kind):
            return
        self._codec = make_codec(kind, self._seed)
        self._batch_codec = BatchCodec(self._codec)
        self._untagged = kind is CodecKind.OBFS_V1
        self.max_payload = min(self._asked or self._codec.max_payload, self._codec.max_payload)
        self.ready.set()

    def _on_error(self, error: OSError) -> None:
        if error.errno not in _REFUSED:
            self.faults[f"tunnel socket {errno.errorcode.get(error.errno or 0, 'error')}"] += 1
        elif self._policy.refused(self._clock()):
            self._lose("the peer's port is closed")

    def _lose(self, reason: str) -> None:
        if not self.closed:
            self.close()
            self._owner.on_lost(reason)


def _has_cookie(batch: DatagramBatch) -> bool:
    """Whether any datagram carries STUN's magic cookie."""
    words: NDArray[Any] = np.ndarray((len(batch.data) - 3,), np.uint32, batch.data, 0, (1,))
    return bool(np.count_nonzero(words[batch.starts + 4] == _COOKIE))
