"""Thousands of connected UDP sockets behind one wake-up of the loop.

A wake-up handles a bounded number of batches, each filled from all sockets that are ready, with an equal
share for each: one flooding peer delays nobody. A socket costs the kernel's object, Python's, and two
dictionary entries.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import socket
from collections.abc import Callable
from typing import Final

from rtun_core.net.sockaddr import from_socket_address
from rtun_core.net.udp_batch import BATCH, DatagramBatch, Spans, UdpStats, guard
from rtun_core.net.udp_open import open_socket, thread_io
from rtun_core.net.udp_send import Outgoing, Report, SendQueue, send_one, send_spans
from rtun_core.net.udp_watch import READ, WRITE, Ready, Watch, make_watch
from rtun_core.wire.address import Address

_READY: Final = 64
"""Sockets that share one batch. Those that send bursts have their turn again in the same wake-up."""

_M32: Final = 0xFFFFFFFF


class UdpSocketSet:
    """Connected sockets known by handles: ints that are never used twice.

    `on_batch` gets a batch, without names, and the handle that each of its rows came from; `on_error` the
    handle and a receive error (ECONNREFUSED: the target's port is closed), or a send error that says
    something about the path. Both run on the loop, never from inside a call of ours, and may close sockets;
    what they raise goes to the loop's exception handler. `stats` are totals over all sockets that ever were.
    """

    def __init__(
        self,
        on_batch: Callable[[DatagramBatch, list[int]], None],
        on_error: Callable[[int, OSError], None],
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        portable: bool = False,
    ) -> None:
        """`portable` uses only what every system has, also where there is better."""
        self._on_batch = on_batch
        self._on_error = on_error
        self._loop = loop or asyncio.get_running_loop()
        self._io = thread_io(portable=portable)
        self._portable = portable
        self._watch: Watch | None = None
        self._handles = itertools.count(1)
        self._sockets: dict[int, socket.socket] = {}
        self._by_fd: dict[int, int] = {}
        self._queues: dict[int, SendQueue] = {}  # only of sockets that the kernel holds up
        self._overflows: dict[int, int] = {}  # only of sockets that lost datagrams
        self._errors: dict[int, OSError] = {}
        self._served: set[int] = set()  # in this wake-up
        self._bursts: set[int] = set()  # had more than one datagram when they last gave a share
        self.stats = UdpStats()

    def __len__(self) -> int:
        return len(self._sockets)

    def open(self, remote: Address) -> int:
        """Open a socket connected to `remote`; its handle. Raises OSError, ValueError for a host name."""
        sock = open_socket(local=None, remote=remote, family=None, small_buffers=True)
        try:
            self._watching().update(sock.fileno(), 0, READ)
        except BaseException:
            sock.close()
            raise
        handle = next(self._handles)
        self._sockets[handle] = sock
        self._by_fd[sock.fileno()] = handle
        return handle

    def send(self, handle: int, payload: bytes | memoryview) -> bool:
        """Send one datagram. True when it was sent or waits for the kernel; False: dropped and counted."""
        sock = self._sockets.get(handle)
        if sock is None:
            self.stats.tx_dropped["socket"] += 1
            return False
        if handle not in self._queues:
            sent = send_one(sock, payload, None, self.stats, self._reporter(handle))
            if sent is not None:
                return sent
        self._queue(handle, sock).push(bytes(payload), None, self.stats)
        return True

    def send_spans(self, handle: int, spans: Spans) -> int:
        """Send many datagrams from one socket, as `UdpSocket.send_spans` does."""
        sock, total = self._sockets.get(handle), len(spans.starts)
        if sock is None:
            self.stats.tx_dropped["socket"] += total
            return 0
        datagrams = Outgoing(spans)
        sent = done = 0
        if handle not in self._queues:
            sent, done = send_spans(self._io, sock, datagrams, self.stats, self._reporter(handle))
        for payload, _ in datagrams.each(done) if done < total else ():
            self._queue(handle, sock).push(bytes(payload), None, self.stats)
        return sent + total - done

    def send_each(self, handles: list[int], spans: Spans) -> list[int]:
        """Send datagram k from socket `handles[k]`; the positions of those that were dropped and counted.

        A loop with nothing in it but the system call, for many sockets with a datagram or two each: 4.2 us
        a datagram, 6.4 by `send` (CPU time, over loopback).
        """
        dropped: list[int] = []
        sockets, queues, memory = self._sockets, self._queues, spans.data.data
        ends = (spans.starts + spans.lengths).tolist()
        sent = size = 0
        for index, (handle, start, end) in enumerate(zip(handles, spans.starts.tolist(), ends, strict=True)):
            try:
                if queues and handle in queues:
                    raise BlockingIOError
                size += sockets[handle].send(memory[start:end])
            except (OSError, KeyError):
                if not self.send(handle, memory[start:end]):
                    dropped.append(index)
                continue
            sent += 1
        self.stats.sent(sent, size)
        return dropped

    def local_address(self, handle: int) -> Address:
        """The address that the target sees as the source, before any NAT. Raises KeyError once closed."""
        return from_socket_address(self._sockets[handle].getsockname())

    def close(self, handle: int) -> None:
        """Close one socket; what waits to be sent is dropped and counted. Unknown handles are ignored."""
        sock = self._sockets.pop(handle, None)
        if sock is None:
            return
        fd = sock.fileno()
        del self._by_fd[fd]
        self._overflows.pop(handle, None)
        self._errors.pop(handle, None)
        self._bursts.discard(handle)
        queue = self._queues.pop(handle, None)
        self._watching().update(fd, READ if queue is None else READ | WRITE, 0)
        if queue is not None:
            queue.drop_all(self.stats)
        sock.close()

    def close_all(self) -> None:
        """Close every socket, and let go of the loop until the next `open`."""
        for handle in list(self._sockets):
            self.close(handle)
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _watching(self) -> Watch:
        if self._watch is None:
            self._watch = make_watch(self._loop, self._serve, _READY, portable=self._portable)
        return self._watch

    def _serve(self, ready: Ready, turn: int) -> int:
        """Serve sockets that are ready, one batch for all; see `Serve`."""
        if turn == 0:
            self._served.clear()
        share = BATCH // len(ready)
        handles: list[int] = []
        failed: list[tuple[int, OSError]] = []
        for fd, events in ready:
            handle = self._by_fd.get(fd)
            if handle is None:
                continue
            if events & WRITE:
                self._flush(handle)
            if events != WRITE:
                count = self._receive(handle, len(handles), share, failed)
                handles += [handle] if count == 1 else [handle] * count
        if handles:
            self._deliver(handles)
        for handle, error in failed:
            self._report(handle, error)
        return BATCH if handles else 0

    def _receive(self, handle: int, start: int, limit: int, failed: list[tuple[int, OSError]]) -> int:
        """Read one datagram by a plain call, 1.3 us; its share from a socket that has more, 4 us a call.

        Whether it has more shows in the next turn of the wake-up, and is remembered: else the first of a
        burst would go ahead alone, and cost each process on its way a wake-up. Plain calls do not tell of
        kernel drops: those are seen with the first share that follows.
        """
        if handle in self._served or handle in self._bursts:
            return self._receive_share(handle, start, limit, failed)
        self._served.add(handle)
        try:
            self._io.batch.read_from(self._sockets[handle], start)
        except BlockingIOError:
            return 0
        except OSError as error:
            failed.append((handle, error))
            return 0
        return 1

    def _receive_share(self, handle: int, start: int, limit: int, failed: list[tuple[int, OSError]]) -> int:
        count = self._io.receive(self._sockets[handle], start, limit)
        if count > 1:
            self._bursts.add(handle)
        elif count:
            self._bursts.discard(handle)
        if self._io.error is not None:
            failed.append((handle, self._io.error))
        if count and self._io.overflow is not None:
            before = self._overflows.get(handle, 0)
            self.stats.kernel_drops += (self._io.overflow - before) & _M32
            self._overflows[handle] = self._io.overflow
        return count

    def _deliver(self, handles: list[int]) -> None:
        batch = self._io.batch
        batch.resize(len(handles))
        self.stats.received(batch)
        guard(self._loop, "UDP reader", self._on_batch, batch, handles)

    def _flush(self, handle: int) -> None:
        queue = self._queues.get(handle)
        if queue is None:
            return
        sock = self._sockets[handle]
        queue.flush(sock, self.stats, self._reporter(handle))
        if not queue:
            del self._queues[handle]
            self._watching().update(sock.fileno(), READ | WRITE, READ)

    def _queue(self, handle: int, sock: socket.socket) -> SendQueue:
        queue = self._queues.get(handle)
        if queue is None:
            self._watching().update(sock.fileno(), READ, READ | WRITE)
            queue = self._queues[handle] = SendQueue()
        return queue

    def _reporter(self, handle: int) -> Report:
        return functools.partial(self._report_later, handle)

    def _report(self, handle: int, error: OSError) -> None:
        if handle in self._sockets:
            guard(self._loop, "UDP error callback", self._on_error, handle, error)

    def _report_later(self, handle: int, error: OSError) -> None:
        if not self._errors:
            self._loop.call_soon(self._report_waiting)
        self._errors[handle] = error

    def _report_waiting(self) -> None:
        errors, self._errors = self._errors, {}
        for handle, error in errors.items():
            self._report(handle, error)
