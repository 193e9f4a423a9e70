"""Every UDP socket of rtun: datagrams come and go in batches, on one asyncio loop.

A readable socket is drained into a shared `DatagramBatch`, which the callback may rewrite in place and
hand to `send_spans` of another socket: nothing is allocated per datagram. `UdpSocketSet` does the same for
thousands of connected sockets. The loop must have `add_reader` (on Windows: the selector loop).

Measured, us of CPU for each of 1, 4, 16 and 64 datagrams of 1200 bytes that wait together, with warm caches:

    relay, up, from 64 clients to a tunnel     16, 11, 5.2, 2.2
    agent, up, from a tunnel to 64 targets     17, 12, 7.7, 4.9
    agent, down                                16, 12, 6.6, 3.5
    relay, down                                17, 13, 7.5, 4.3

Of these the kernel takes 1 for receiving and 3 for sending; in runs that it joins, half of it or less.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rtun_core.net.sockaddr import from_socket_address, socket_address
from rtun_core.net.udp_batch import (
    BATCH,
    DROP_REASONS,
    HEADROOM,
    ROOM,
    STRIDE,
    DatagramBatch,
    Spans,
    UdpStats,
    guard,
)
from rtun_core.net.udp_gro import enable, next_limit
from rtun_core.net.udp_open import open_socket, thread_io
from rtun_core.net.udp_send import Outgoing, SendQueue, send_one, send_spans
from rtun_core.net.udp_set import UdpSocketSet
from rtun_core.net.udp_watch import READ, WRITE, SharedWatch, shared_watch
from rtun_core.wire.address import Address

__all__ = [
    "BATCH",
    "DROP_REASONS",
    "HEADROOM",
    "ROOM",
    "STRIDE",
    "DatagramBatch",
    "Spans",
    "UdpSocket",
    "UdpSocketSet",
    "UdpStats",
]

OnBatch = Callable[[DatagramBatch], None]
OnError = Callable[[OSError], None]

_M32: Final = 0xFFFFFFFF
_FIRST_MESSAGES: Final = 4


class UdpSocket:
    """One UDP socket. `local` is its own address, `stats` its counters, both readable at any time.

    Callbacks run on the loop, never from inside a call of ours, so they may close the socket. An exception
    in a callback goes to the loop's exception handler and costs the batch, not the reader.
    """

    __slots__ = (
        "_error_waits",
        "_events",
        "_io",
        "_loop",
        "_messages",
        "_on_batch",
        "_on_error",
        "_on_readable",
        "_overflow",
        "_pieces",
        "_pieces_now",
        "_portable",
        "_queue",
        "_sock",
        "_watch",
        "local",
        "stats",
    )

    def __init__(
        self, sock: socket.socket, loop: asyncio.AbstractEventLoop, *, portable: bool = False
    ) -> None:
        """Take over a socket that is not blocking; see `open`."""
        self._sock = sock
        self._io = thread_io(portable=portable)
        self._loop = loop
        self._portable = portable
        self._watch: SharedWatch | None = None
        self._events = 0
        self._on_batch: OnBatch | None = None
        self._on_error: OnError | None = None
        self._on_readable: Callable[[], None] | None = None
        self._queue: SendQueue | None = None
        self._error_waits: OSError | None = None
        self._overflow = 0
        self._messages = 0  # that the next call takes with segments; 0: without
        # Datagrams of a message, in the last read and in this one. The kernel counts the messages that it
        # drops; what they held is taken to be what those before them did.
        self._pieces = self._pieces_now = 1.0
        self.local = from_socket_address(sock.getsockname())
        self.stats = UdpStats()

    @classmethod
    def open(
        cls,
        *,
        local: Address | None = None,
        remote: Address | None = None,
        family: int | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        portable: bool = False,
    ) -> UdpSocket:
        """Open a socket bound to `local` (default: every interface, a free port), connected to `remote`.

        The family is that of `local`, else of `remote`, else IPv4. `portable` uses only what every system
        has, also where there is better. Raises BindError; OSError when `remote` cannot be reached from here;
        ValueError when an address is a host name.
        """
        sock = open_socket(local=local, remote=remote, family=family, small_buffers=False)
        return cls(sock, loop or asyncio.get_running_loop(), portable=portable)

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._sock.fileno() < 0

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return int(self._sock.family)

    def start(self, on_batch: OnBatch, on_error: OnError) -> None:
        """Read, and give what comes to `on_batch`. Called again, it hands the socket to another reader.

        Datagrams that came before the first start wait in the kernel. `on_error` learns of receive errors
        and of send errors that say something about the path (a refused port, no route); several of the
        latter between two turns of the loop are told once.
        """
        self._on_batch, self._on_error = on_batch, on_error
        self.resume_reading()

    def pause_reading(self) -> None:
        """Leave datagrams in the kernel until `resume_reading`."""
        self._on_readable = None
        self._watch_for(self._events & ~READ)

    def resume_reading(self) -> None:
        """Read again after `pause_reading`. Does nothing before `start` or after `close`."""
        self._on_readable = None
        if self._on_batch is not None and not self.closed:
            self._watch_for(self._events | READ)

    def when_readable(self, callback: Callable[[], None]) -> None:
        """While reading is paused, call `callback` once when a datagram waits, and leave it in the kernel.

        A later call replaces the callback; `resume_reading`, `pause_reading` and `close` forget it.
        """
        if not self.closed and (self._on_readable is not None or not self._events & READ):
            self._on_readable = callback
            self._watch_for(self._events | READ)

    def connect(self, remote: Address) -> None:
        """Send to and receive from `remote` only, from now on. Raises OSError.

        What the kernel had received before may still come from others.
        """
        self._sock.connect(socket_address(remote))
        self.local = from_socket_address(self._sock.getsockname())

    def take_segments(self) -> bool:
        """Let the kernel hand over runs of datagrams whole, which is cheaper; whether it does from now on.

        The batches have no names then, and no room around their payloads: for connected sockets.
        """
        if not self._messages and not self._portable and enable(self._sock):
            self._messages = _FIRST_MESSAGES
        return self._messages > 0

    def set_ttl(self, ttl: int) -> None:
        """Set the hop limit (1..255) of what is sent from now on. Raises OSError."""
        if self._sock.family == socket.AF_INET6:
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
        else:
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)

    def send(self, payload: bytes | memoryview, to: Address | None = None) -> bool:
        """Send one datagram; `to` is an IP address, or None on a connected socket.

        True when it was sent or waits for the kernel; False when it was dropped and counted.
        """
        if self.closed:
            self.stats.tx_dropped["socket"] += 1
            return False
        target = None if to is None else socket_address(to)
        if not self._queue:
            sent = send_one(self._sock, payload, target, self.stats, self._report_later)
            if sent is not None:
                return sent
        self._waiting().push(bytes(payload), target, self.stats)
        return True

    def send_spans(
        self,
        spans: Spans,
        names: NDArray[np.uint8] | None = None,
        peers: Sequence[int] | None = None,
    ) -> int:
        """Send many datagrams.

        `names` (len(spans.starts), 28) holds the raw sockaddr of each, or is None on a connected socket.
        Where `peers` are given, equal numbers stand for one destination: runs of its datagrams may go
        together. Returns how many were sent or wait for the kernel; each of the others is counted in
        `stats.tx_dropped`.
        """
        datagrams, total = Outgoing(spans, names, peers), len(spans.starts)
        if self.closed:
            self.stats.tx_dropped["socket"] += total
            return 0
        sent = done = 0
        if not self._queue:
            sent, done = send_spans(self._io, self._sock, datagrams, self.stats, self._report_later)
        for payload, target in datagrams.each(done) if done < total else ():
            self._waiting().push(bytes(payload), target, self.stats)
        return sent + total - done

    def close(self) -> None:
        """Close the socket; what still waits to be sent is dropped and counted. May be called twice."""
        if self.closed:
            return
        self._watch_for(0)
        if self._queue is not None:
            self._queue.drop_all(self.stats)
            self._queue = None
        self._on_batch = self._on_error = None
        self._sock.close()

    def _watch_for(self, events: int) -> None:
        if events == self._events:
            return
        if self._watch is None:
            self._watch = shared_watch(self._loop, portable=self._portable)
        self._watch.update(self._sock.fileno(), self._events, events, self._ready)
        self._events = events
        if not events:
            self._watch = None

    def _ready(self, events: int) -> int:
        if self._queue is not None and events != READ:
            self._flush(self._queue)
        if not self._events & READ or events == WRITE:
            return 0
        if self._on_readable is not None:
            callback = self._on_readable
            self.pause_reading()
            guard(self._loop, "UDP readability callback", callback)
            return 0
        batch = self._receive()
        error, count = self._io.error, batch.count
        if count:
            self._deliver(batch)
        if error is not None:
            self._report(error)
        return count

    def _receive(self) -> DatagramBatch:
        io = self._io
        if self._messages:
            messages = io.receive_segments(self._sock, self._messages)
            if messages:
                self._messages = next_limit(messages, io.segments.count, self._messages)
                self._pieces, self._pieces_now = self._pieces_now, io.segments.count / messages
            return io.segments
        io.batch.resize(io.receive(self._sock, 0, BATCH))
        return io.batch

    def _deliver(self, batch: DatagramBatch) -> None:
        self.stats.received(batch)
        if self._io.overflow is not None:
            messages = (self._io.overflow - self._overflow) & _M32
            self.stats.kernel_drops += round(messages * self._pieces)
            self._overflow = self._io.overflow
        if self._on_batch is not None:
            guard(self._loop, "UDP reader", self._on_batch, batch)

    def _report(self, error: OSError) -> None:
        if self._on_error is not None:
            guard(self._loop, "UDP error callback", self._on_error, error)

    def _report_later(self, error: OSError) -> None:
        if self._error_waits is None:
            self._loop.call_soon(self._report_waiting)
        self._error_waits = error

    def _report_waiting(self) -> None:
        error, self._error_waits = self._error_waits, None
        assert error is not None
        self._report(error)

    def _waiting(self) -> SendQueue:
        """The queue, watched by the loop while it exists."""
        if self._queue is None:
            self._watch_for(self._events | WRITE)
            self._queue = SendQueue()
        return self._queue

    def _flush(self, queue: SendQueue) -> None:
        queue.flush(self._sock, self.stats, self._report_later)
        if not queue:
            self._queue = None
            self._watch_for(self._events & ~WRITE)
