"""The original's session engine as a model, bugs included: the opposite end of the session tests.

It follows rtunnel spec 5. The three concurrent loops of the original become three calls: `read_tcp`,
`write_socket` and `read_socket`. Its random choices come from a seeded generator.
"""

import random
import struct
from collections import deque

HEADER = struct.Struct(">BQQI")
DATA, ACK, FIN = 1, 2, 4
QUEUE = 128
MAX_EARLY = 1024
PAYLOAD = 16_384


def packet(flag: int, *, seq: int = 0, ack: int = 0, payload: bytes = b"") -> bytes:
    return HEADER.pack(flag, seq, ack, len(payload)) + payload


class GoPeer:
    """One end of a session of the original. Flags tell which of its bugs was hit."""

    def __init__(self, rng: random.Random, rto: float = 1.0) -> None:
        self.rng = rng
        self.rto = rto
        self.source = bytearray()
        self.delivered = bytearray()
        self.duplicates = 0
        self.resent = 0
        self.frozen = False
        self.closed = False
        self.attached = False
        self.stalled = False
        self._next_seq = 1
        self.acked = 0
        self.expected = 1
        self.window: dict[int, bytes] = {}
        self._early: dict[int, bytes] = {}
        self._data: deque[bytes] = deque()
        self._acks: deque[int] = deque()
        self._inbox: deque[bytes] = deque()
        self._resend = False
        self._timer: float | None = None
        self._fin = False

    def attach(self) -> None:
        self.attached = True

    def lose(self) -> None:
        """The WebSocket fails: unread messages are gone, and perhaps the packet in the writer's hand."""
        self.attached = False
        self._inbox.clear()
        if self._acks and self.rng.random() < 0.3:
            self._acks.popleft()
        elif self._data and self.rng.random() < 0.3:
            self._data.popleft()

    def close_tcp(self) -> None:
        """The local TCP ends: nothing is drained, and nobody is told without a WebSocket."""
        self.closed = True
        self._fin = self.attached
        self._data.clear()
        self._acks.clear()

    def read_tcp(self) -> None:
        """Cut what the local TCP sent into packets while there are window tokens."""
        while self.source and len(self.window) < QUEUE and len(self._data) < QUEUE and not self.closed:
            payload = bytes(self.source[:PAYLOAD])
            del self.source[:PAYLOAD]
            self.window[self._next_seq] = packet(DATA, seq=self._next_seq, payload=payload)
            self._data.append(self.window[self._next_seq])
            self._next_seq += 1

    def tick(self, now: float) -> None:
        """The one-shot timer: it does not start itself again."""
        if self._timer is not None and now >= self._timer:
            self._timer = None
            self._resend = True

    def write_socket(self) -> list[bytes]:
        """Everything the writer would send now: one ready source at a time, chosen at random."""
        sent: list[bytes] = []
        while self.attached and not self.frozen:
            if self._fin:
                self._fin, self.attached = False, False
                return [*sent, packet(FIN)]
            ready = [name for name, is_ready in self._sources().items() if is_ready]
            if not ready:
                break
            sent += self._write(self.rng.choice(ready))
        return sent

    def _sources(self) -> dict[str, bool]:
        return {
            "resend": self._resend and not self.stalled,
            "ack": bool(self._acks),
            "data": bool(self._data),
        }

    def _write(self, source: str) -> list[bytes]:
        if source == "ack":
            return [packet(ACK, ack=self._acks.popleft())]
        if source == "data":
            return [self._data.popleft()]
        self._resend = False
        burst = list(self.window.values())
        self.rng.shuffle(burst)
        self.resent += len(burst)
        return burst

    def receive(self, message: bytes, now: float) -> None:
        self._inbox.append(message)
        self.read_socket(now)

    def read_socket(self, now: float) -> None:
        """Handle what has arrived. A stalled local TCP, or a full queue of ACKs, stops the reader."""
        while self._inbox and not (self.stalled or self.frozen or self.closed) and len(self._acks) < QUEUE:
            flag, seq, ack, length = HEADER.unpack_from(self._inbox[0])
            payload = self._inbox.popleft()[HEADER.size : HEADER.size + length]
            if flag == DATA:
                self._on_data(seq, payload)
            elif flag == ACK:
                self._on_ack(ack, now)
            elif flag == FIN:
                self.closed, self.attached = True, False

    def _on_data(self, seq: int, payload: bytes) -> None:
        if seq > self.expected:
            self._early[seq] = payload
            if len(self._early) > MAX_EARLY:
                self.close_tcp()
                return
        elif seq < self.expected:
            self.duplicates += seq != 0
        else:
            self.delivered += payload
            self.expected += 1
            while self.expected in self._early:
                self.delivered += self._early.pop(self.expected)
                self.expected += 1
        self._acks.append(self.expected - 1)

    def _on_ack(self, ack: int, now: float) -> None:
        if ack <= self.acked:
            self._resend = True
            return
        for seq in range(self.acked + 1, ack + 1):
            if seq >= self._next_seq:
                self.frozen = True  # no token to give back: blocked for good, with the lock in hand
                return
            self.window.pop(seq, None)
        self.acked = ack
        self._timer = now + self.rto if self.window else None
        self._resend = self._resend and bool(self.window)
