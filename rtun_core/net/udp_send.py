"""What happens when the kernel does not take a datagram: skip it, try again, or let it wait.

One bad datagram never costs its neighbours. A closed port of the peer is a pending error of the socket,
not of the datagram that meets it: it is reported, and the datagram goes out at the second attempt.
What finds the kernel's buffer full waits in a short queue; when that overflows, the oldest go, since a
late datagram is worth less than a fresh one.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtun_core.net.sockaddr import SocketAddress, target_of
from rtun_core.net.udp_batch import BATCH, BatchIO, Spans, SpanSender, UdpStats

QUEUE_BYTES = 256 * 1024
QUEUE_PACKETS = 512

SCALAR_SENDS = 3
"""Up to this many datagrams go out by a system call each. Us of the calls alone, roughly, for 1, 2, 3, 4, 8
datagrams of 1200 bytes on loopback: sendmmsg 10, 9, 10, 11, 16; send 4, 7, 8, 10, 19."""

_REASONS = {
    errno.EMSGSIZE: "oversize",
    getattr(errno, "WSAEMSGSIZE", errno.EMSGSIZE): "oversize",
    errno.ECONNREFUSED: "refused",
    errno.ENOBUFS: "buffers",
    errno.ENOMEM: "buffers",
}

Report = Callable[[OSError], None]


class Outgoing(NamedTuple):
    """Datagrams to send: `spans`; `names` holds the raw sockaddr of each, or is None on a connected socket.

    `peers`, if known, has equal numbers where the destination is the same.
    """

    spans: Spans
    names: NDArray[np.uint8] | None = None
    peers: Sequence[int] | None = None

    def part(self, first: int, last: int) -> Outgoing:
        """The datagrams [first, last)."""
        names = None if self.names is None else self.names[first:last]
        return Outgoing(self.spans.part(first, last), names, self.peers and self.peers[first:last])

    def each(self, first: int) -> Iterator[tuple[memoryview, SocketAddress | None]]:
        """Payload and destination of the datagrams from `first` on."""
        for index, payload in enumerate(self.spans.payloads(first), first):
            yield payload, None if self.names is None else target_of(self.names[index].tobytes())


class SendQueue:
    """Datagrams that wait until the kernel takes them: at most QUEUE_PACKETS and QUEUE_BYTES, newest win."""

    __slots__ = ("_bytes", "_items")

    def __init__(self) -> None:
        self._items: deque[tuple[bytes, SocketAddress | None]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def push(self, payload: bytes, target: SocketAddress | None, stats: UdpStats) -> None:
        """Append one; what has to go for it is counted as `queue`."""
        self._items.append((payload, target))
        self._bytes += len(payload)
        while len(self._items) > QUEUE_PACKETS or self._bytes > QUEUE_BYTES:
            self._bytes -= len(self._items.popleft()[0])
            stats.tx_dropped["queue"] += 1

    def flush(self, sock: socket.socket, stats: UdpStats, report: Report) -> None:
        """Send what the kernel takes now, at most BATCH datagrams."""
        for _ in range(min(len(self._items), BATCH)):
            payload, target = self._items[0]
            if send_one(sock, payload, target, stats, report) is None:
                return
            self._items.popleft()
            self._bytes -= len(payload)

    def drop_all(self, stats: UdpStats) -> None:
        """Give up what waits, as the socket closes."""
        stats.tx_dropped["queue"] += len(self._items)
        self._items.clear()
        self._bytes = 0


def send_one(
    sock: socket.socket,
    payload: bytes | memoryview,
    target: SocketAddress | None,
    stats: UdpStats,
    report: Report,
) -> bool | None:
    """Send one datagram. True: sent; False: dropped and counted; None: the kernel takes no more now."""
    for attempt in range(2):
        try:
            size = sock.send(payload) if target is None else sock.sendto(payload, target)
        except BlockingIOError:
            return None
        except OSError as error:
            if attempt == 0 and isinstance(error, ConnectionRefusedError):
                report(error)
                continue
            note_failure(error, stats, report)
            return False
        stats.sent(1, size)
        return True
    raise AssertionError("the second attempt returns")


def send_spans(
    io: BatchIO, sock: socket.socket, datagrams: Outgoing, stats: UdpStats, report: Report
) -> tuple[int, int]:
    """Send datagrams in batches. Returns how many were sent, and how many are done with: sent or counted.

    The second number is smaller than the total only when the kernel takes no more now.
    """
    sent = done = 0
    total = len(datagrams.spans.starts)
    if io.sender is None or total <= SCALAR_SENDS:
        return _send_each(sock, datagrams, stats, report)
    while done < total:
        size = min(BATCH, total - done)
        part = datagrams if size == total else datagrams.part(done, done + size)
        io.sender.load(*part, segment=stats.segments)
        part_sent, part_done = _send_loaded(io.sender, sock, part.spans.lengths.tolist(), stats, report)
        stats.segments = stats.segments and not io.sender.segments_refused
        sent, done = sent + part_sent, done + part_done
        if part_done < size:
            break
    return sent, done


def _send_each(sock: socket.socket, datagrams: Outgoing, stats: UdpStats, report: Report) -> tuple[int, int]:
    sent = done = 0
    for payload, target in datagrams.each(0):
        result = send_one(sock, payload, target, stats, report)
        if result is None:
            break
        sent, done = sent + result, done + 1
    return sent, done


def _send_loaded(
    sender: SpanSender, sock: socket.socket, lengths: list[int], stats: UdpStats, report: Report
) -> tuple[int, int]:
    count = len(lengths)
    sent = done = 0
    refused_at = -1
    while done < count:
        try:
            taken = sender.transmit(sock, done, count)
        except BlockingIOError:
            break
        except InterruptedError:
            continue
        except OSError as error:
            if isinstance(error, ConnectionRefusedError) and refused_at != done:
                refused_at = done
                report(error)
                continue
            note_failure(error, stats, report)
            done += 1
            continue
        stats.sent(taken, sum(lengths if taken == count else lengths[done : done + taken]))
        sent, done = sent + taken, done + taken
    return sent, done


def note_failure(error: OSError, stats: UdpStats, report: Report) -> None:
    """Count a datagram that was not sent; report what says something about the path, not its size."""
    reason = _REASONS.get(error.errno or 0, "socket")
    stats.tx_dropped[reason] += 1
    if reason in ("refused", "socket"):
        report(error)
