"""A batch of datagrams as a value: one flat buffer, vectors of positions and lengths, raw sockaddrs.

`BatchIO` is the system-call layer below `rtun_core.net.udp`: recvmmsg/sendmmsg on Linux
(`rtun_core.net.udp_mmsg`), plain socket calls elsewhere (`rtun_core.net.udp_plain`). Each thread has one
of them, shared by all its sockets: a reader runs its callback to completion before another one reads,
so ten thousand sockets need no more buffers than one.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rtun_core.net.sockaddr import NAME_SIZE, unpack_sockaddr
from rtun_core.wire.address import Address

BATCH: Final = 128
"""Datagrams of one batch. Forwarding under saturation, us of CPU per 1200-byte datagram with batches of
32, 64, 128: 3.4, 3.0, 2.6; at 128 one callback, and what the loop waits for it, is still below 1 ms."""

HEADROOM: Final = 64
"""Columns in front of each received payload, free for headers that are written in place."""

STRIDE: Final = 2176
"""Bytes of a row: the headroom and the largest datagram that is received whole (ROOM)."""

ROOM: Final = STRIDE - HEADROOM

DROP_REASONS: Final = ("oversize", "refused", "buffers", "queue", "socket")

_NAME_STRIDE = 32  # rows of names start on 8-byte boundaries, so that the first 8 bytes read as one word


class UdpStats:
    """Counters of one socket, or of a set of sockets.

    `rx_bytes` and `tx_bytes` count UDP payload. `kernel_drops` are datagrams that the kernel threw away
    because nobody read them in time (Linux only; an estimate where it drops joined ones). `tx_dropped` counts
    what was not sent, by reason: `oversize` (larger than the system sends), `refused` (the peer's port is
    closed), `buffers` (the system is out of memory), `queue` (our queue of datagrams that wait for the
    kernel is full), `socket` (anything else, such as no route or a closed socket). `segments`: runs of equal
    datagrams go out as one message; false once kernel, route or device refused that.
    """

    __slots__ = ("kernel_drops", "rx_bytes", "rx_packets", "segments", "tx_bytes", "tx_dropped", "tx_packets")

    def __init__(self) -> None:
        self.rx_packets = 0
        self.rx_bytes = 0
        self.tx_packets = 0
        self.tx_bytes = 0
        self.kernel_drops = 0
        self.segments = True
        self.tx_dropped: dict[str, int] = dict.fromkeys(DROP_REASONS, 0)

    def received(self, batch: DatagramBatch) -> None:
        """Count the datagrams of `batch`."""
        self.rx_packets += batch.count
        self.rx_bytes += sum(batch.sizes)

    def sent(self, packets: int, size: int) -> None:
        """Count `packets` datagrams of `size` bytes together."""
        self.tx_packets += packets
        self.tx_bytes += size


class Spans(NamedTuple):
    """Datagrams in a flat buffer: number k is `data[starts[k] : starts[k] + lengths[k]]`."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def take(self, which: NDArray[np.intp] | NDArray[np.bool_]) -> Spans:
        """Some of them, by position or by mark."""
        return Spans(self.data, self.starts[which], self.lengths[which])

    def part(self, first: int, last: int) -> Spans:
        """The datagrams [first, last)."""
        return Spans(self.data, self.starts[first:last], self.lengths[first:last])

    def payloads(self, first: int = 0) -> Iterator[memoryview]:
        """Each datagram from number `first` on."""
        memory = self.data.data
        for start, length in zip(self.starts[first:].tolist(), self.lengths[first:].tolist(), strict=True):
            yield memory[start : start + length]


class DatagramBatch:
    """Received datagrams. Reused by its reader: valid only during the callback.

    `data`       flat bytes that hold every payload; `memory` is the same as a buffer
    `count`      datagrams
    `starts`     (count,) where each payload begins in `data`
    `lengths`    (count,) bytes of each payload; `sizes` is the same as a list
    `truncated`  None, or (count,) marks where a datagram was larger than ROOM and its end is lost
    `names`      (BATCH, 28) raw sockaddr of each sender, see `rtun_core.net.sockaddr`
    `ipv6`       whether any of them came from an IPv6 socket

    Rows of STRIDE bytes hold a payload each, at column HEADROOM; the columns before and after it may be
    written, and so may the payload. A batch that was `place`d has no room around payloads, and no names.
    """

    __slots__ = (
        "_lengths",
        "_name_memory",
        "_room",
        "_starts",
        "_words",
        "count",
        "data",
        "ipv6",
        "lengths",
        "lengths_view",
        "memory",
        "names",
        "sizes",
        "starts",
        "truncated",
    )

    def __init__(self, slots: Spans | None = None) -> None:
        """`slots`: where datagrams are received, in place of BATCH rows of its own."""
        # one byte more than the rows: a plain read takes ROOM + 1 bytes to notice a datagram that is larger
        self.data: NDArray[np.uint8] = aligned(BATCH * STRIDE + 1) if slots is None else slots.data
        self.memory = self.data.data
        name_memory = aligned(BATCH * _NAME_STRIDE)
        self._name_memory = name_memory.data
        padded_names = name_memory.reshape(BATCH, _NAME_STRIDE)
        self.names: NDArray[np.uint8] = padded_names[:, :NAME_SIZE]
        self._words: NDArray[np.uint64] = padded_names.view(np.uint64)[:, 0]
        self._starts: NDArray[np.int64] = np.arange(BATCH) * STRIDE + HEADROOM
        self._lengths: NDArray[np.int64] = np.zeros(BATCH, np.int64)
        self._room = ROOM
        if slots is not None:
            self._starts, self._lengths, self._room = slots.starts, slots.lengths, int(slots.lengths[0])
        self.lengths_view = self._lengths.data
        self.ipv6 = False
        self.resize(0)

    def resize(self, count: int) -> None:
        """Put the first `count` rows in use. A length above the room becomes a mark."""
        self.count = count
        self.starts = self._starts[:count]
        self.lengths = self._lengths[:count]
        self.sizes: list[int] = self.lengths.tolist()
        self.truncated: NDArray[np.bool_] | None = None
        if count and max(self.sizes) > self._room:
            self.truncated = self.lengths > self._room
            np.minimum(self.lengths, self._room, out=self.lengths)
            self.sizes = self.lengths.tolist()

    def place(self, starts: list[int], sizes: list[int]) -> None:
        """Say where in `data` the datagrams are, after `resize`."""
        self.count, self.sizes = len(starts), sizes
        self.starts, self.lengths = np.array(starts, np.int64), np.array(sizes, np.int64)

    def length_column(self) -> NDArray[np.int64]:
        """The lengths of all BATCH rows, for the reader to fill; `lengths_view` is the same for one."""
        return self._lengths

    def set_name(self, row: int, raw: bytes) -> None:
        """Write the sender's raw sockaddr of one row, for the reader."""
        self._name_memory[row * _NAME_STRIDE : row * _NAME_STRIDE + NAME_SIZE] = raw

    def read_from(self, sock: socket.socket, row: int) -> None:
        """Fill a row with the next datagram of a connected socket; its name is left as it is.

        Raises OSError, BlockingIOError when none is waiting.
        """
        # the byte after the last column is the first of the next row's headroom, which nobody uses yet
        start = row * STRIDE + HEADROOM
        self.lengths_view[row] = sock.recv_into(self.memory[start : start + ROOM + 1])

    def name_keys(self) -> list[int] | list[bytes]:
        """A hashable key of each row's sender: an int on an IPv4 socket, the 28 bytes on an IPv6 one."""
        if not self.ipv6:
            words: list[int] = self._words[: self.count].tolist()
            return words
        raw = self.names[: self.count].tobytes()
        return [raw[at : at + NAME_SIZE] for at in range(0, len(raw), NAME_SIZE)]

    def spans(self) -> Spans:
        """All of them."""
        return Spans(self.data, self.starts, self.lengths)

    def payload(self, index: int) -> bytes:
        """A copy of one payload."""
        start = int(self.starts[index])
        return bytes(self.memory[start : start + self.sizes[index]])

    def address(self, row: int) -> Address:
        """The sender of `row`."""
        return unpack_sockaddr(self.names[row].tobytes())


class BatchIO(Protocol):
    """The system calls on batches, without any policy. One per thread."""

    batch: DatagramBatch
    segments: DatagramBatch
    """What `receive_segments` fills."""
    sender: SpanSender | None
    """None where datagrams can be sent one by one only."""
    error: OSError | None
    """What ended the last receive, after the rows it filled; None when it was no error."""
    overflow: int | None
    """The kernel's drop counter (32 bits, of one socket) as the last receive saw it; None if it did not."""

    def receive(self, sock: socket.socket, start: int, limit: int) -> int:
        """Fill up to `limit` rows of the batch from row `start` on; how many, 0 when none is waiting.

        Rows, names and `length_column` are filled; `resize` is the caller's. Never raises for the
        network's sake: see `error`.
        """

    def receive_segments(self, sock: socket.socket, limit: int) -> int:
        """Fill `segments` from up to `limit` messages of a socket with UDP_GRO; how many messages.

        `segments.count` is how many datagrams they held.
        """


class SpanSender(Protocol):
    """Sends many datagrams with one system call. `segments_refused`: the last could not go in segments."""

    segments_refused: bool

    def load(
        self,
        spans: Spans,
        names: NDArray[np.uint8] | None,
        peers: Sequence[int] | None,
        *,
        segment: bool = True,
    ) -> None:
        """Prepare up to BATCH datagrams, see `UdpSocket.send_spans`. They must outlive `transmit`.

        `segment` allows runs of equal datagrams to one peer to go as one message, see `net.udp_segment`.
        """

    def transmit(self, sock: socket.socket, first: int, count: int) -> int:
        """Send the loaded datagrams [first, count) until one fails; how many went out, at least one.

        Raises the OSError of datagram `first`, BlockingIOError when the kernel takes no more now.
        """


def guard(loop: asyncio.AbstractEventLoop, what: str, callback: Callable[..., None], *args: Any) -> None:
    """Call `callback`; what it raises goes to the loop's exception handler, and reading goes on."""
    try:
        callback(*args)
    except Exception as error:
        loop.call_exception_handler({"message": f"{what} failed", "exception": error})


def aligned(size: int) -> NDArray[np.uint8]:
    """Zeroed bytes that start on a cache line."""
    raw = np.zeros(size + 63, np.uint8)
    skip = -int(raw.ctypes.data) % 64
    return raw[skip : skip + size]
