"""The sending half of an RTunnel session: bytes in, numbered packets out, kept until acknowledged.

Bytes are cut into packets only when a packet can leave, so small writes that pile up behind a slow link
travel together. A packet that was handed out once is handed out again only after `rewind`, which is what a
new WebSocket does: on the same one TCP already repeats what is lost (rtunnel spec 15, rule 2).
"""

from __future__ import annotations

from collections import deque

from rtun_core.errors import LocalProtocolError
from rtun_core.wire.rtunnel_budget import Budget
from rtun_core.wire.rtunnel_packet import HEADER_SIZE, encode_data, encode_eof
from rtun_core.wire.rtunnel_terms import ORIGINAL_SHAPE, WINDOW_PACKETS, Counters, Shape

_SMALL = 4096


class SendWindow:
    """Memory: at most `buffer` bytes that wait, and the packets that shape and `budget` allow."""

    def __init__(self, buffer: int, counters: Counters, budget: Budget | None = None) -> None:
        self.acked = 0
        self.sent = 0
        self.ending = False
        self._started = False  # the shape is not going to change any more
        self._buffer = buffer
        self._counters = counters
        self._budget = budget or Budget()
        self._shape = ORIGINAL_SHAPE
        self._eof_due = False
        self._numbered_eof = False
        self._chunks: deque[bytes | bytearray] = deque()
        self._offset = 0
        self._pending = 0
        self._window: deque[bytes] = deque()
        self._window_bytes = 0
        self._next_seq = 1
        self._cursor = 1

    def adopt(self, shape: Shape, *, numbered_eof: bool) -> None:
        """Learn what the peer takes. Before the first packet is cut."""
        self._shape = shape
        self._numbered_eof = numbered_eof
        self._eof_due = numbered_eof and self.ending

    @property
    def room(self) -> int:
        """Bytes that `write` would take now."""
        return 0 if self.ending else max(0, self._buffer - self._pending)

    @property
    def in_flight(self) -> int:
        """Packets that are not acknowledged."""
        return len(self._window)

    @property
    def drained(self) -> bool:
        """Whether all that was written, and a numbered end if one is wanted, was acknowledged."""
        return not (self._pending or self._window or self._eof_due)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take as much of `data` as there is room for; bytes objects are kept, anything else is copied.

        Raises LocalProtocolError after `finish`.
        """
        if self.ending:
            raise LocalProtocolError("bytes written after the end of the stream")
        taken = min(len(data), self.room)
        if not taken:
            return 0
        cut = 0 if self._pending else self._cut_directly(memoryview(data)[:taken])
        if cut < taken:
            self._append(data[cut:taken])
        return taken

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        if len(data) < _SMALL:
            self._append_small(data)
        else:
            self._chunks.append(bytes(data))  # a slice of all of a bytes object is that object
        self._pending += len(data)

    def _cut_directly(self, data: memoryview) -> int:
        """Make packets of whole ones while the window is open; returns the bytes that they have.

        It saves a copy of everything in a bulk stream, which keeps the sender busy enough to get there.
        """
        size, cut = self._shape.payload, 0
        while self._started and self._is_open and len(data) - cut >= size:
            self._keep(encode_data(self._next_seq, (data[cut : cut + size],), size))
            self._counters.bytes_out += size
            cut += size
        return cut

    def _append_small(self, data: bytes | bytearray | memoryview) -> None:
        """Gather small writes in one block: a deque of single bytes would cost hundreds of times its size."""
        last = self._chunks[-1] if self._chunks else None
        if isinstance(last, bytearray) and len(last) + len(data) <= self._shape.payload:
            last += data
        else:
            self._chunks.append(bytearray(data))

    def finish(self) -> None:
        """No more bytes will be written."""
        if not self.ending:
            self.ending = True
            self._eof_due = self._numbered_eof

    def greet(self) -> None:
        """Make the first packet an empty one: once it is acknowledged the peer's memory can be tested."""
        self._keep(encode_data(self._next_seq, (), 0))

    def take(self, budget: int) -> list[bytes]:
        """The next packets to send, until the window is full or about `budget` bytes are reached."""
        packets = []
        self._started = True
        while budget > 0 and (packet := self._next()) is not None:
            packets.append(packet)
            budget -= len(packet)
        self._counters.packets_out += len(packets)
        return packets

    def _next(self) -> bytes | None:
        if self._cursor == self._next_seq and not self._cut():
            return None
        packet = self._window[self._cursor - self.acked - 1]
        if self._cursor <= self.sent:
            self._counters.resends += 1
        else:
            self.sent = self._cursor
        self._cursor += 1
        return packet

    @property
    def _is_open(self) -> bool:
        return len(self._window) < WINDOW_PACKETS and self._window_bytes < min(
            self._shape.window, self._budget.share
        )

    def _cut(self) -> bool:
        if not self._is_open:
            return False
        if self._pending:
            self._keep(self._cut_data(min(self._pending, self._shape.payload)))
        elif self._eof_due:
            self._eof_due = False
            self._keep(encode_eof(self._next_seq))
        else:
            return False
        return True

    def _cut_data(self, size: int) -> bytes:
        parts: list[memoryview] = []
        missing = size
        while missing:
            head = self._chunks[0]
            part = memoryview(head)[self._offset : self._offset + missing]
            parts.append(part)
            missing -= len(part)
            self._offset += len(part)
            if self._offset == len(head):
                self._chunks.popleft()
                self._offset = 0
        self._pending -= size
        self._counters.bytes_out += size
        return encode_data(self._next_seq, parts, size)

    def _keep(self, packet: bytes) -> None:
        self._window.append(packet)
        self._count(len(packet))
        self._next_seq += 1

    def acknowledge(self, ack: int) -> bool:
        """Forget the packets up to `ack`, which lies in `acked..sent`. Tells whether that freed any."""
        freed = ack - self.acked
        self._count(-sum(len(self._window.popleft()) for _ in range(freed)))
        self.acked = ack
        self._cursor = max(self._cursor, ack + 1)
        return freed > 0

    def _count(self, size: int) -> None:
        self._window_bytes += size
        self._budget.used += size

    def rewind(self, reached: int) -> None:
        """Start a new WebSocket: the peer has everything up to `reached`, the rest is sent again."""
        self._cursor = reached + 1

    def discard(self) -> None:
        """Let go of everything: the session is over."""
        self.ending, self._eof_due = True, False
        self._chunks.clear()
        self._window.clear()
        self._count(-self._window_bytes)
        self._offset = self._pending = 0

    @property
    def unsent(self) -> int:
        """Bytes that are not in packets yet."""
        return self._pending

    @property
    def in_flight_bytes(self) -> int:
        """Bytes of payload that are not acknowledged."""
        return self._window_bytes - HEADER_SIZE * len(self._window)
