"""Batches of datagrams with the socket calls that every system has, one per datagram.

Serves systems without recvmmsg, and shows nothing of its own to the reader above: the same rows, names
and errors as `rtun_core.net.udp_mmsg`, except that kernel drops are not visible. On Windows a datagram
larger than a row is lost instead of truncated, because the call that reports it does not say who sent it.
"""

from __future__ import annotations

import errno
import socket

from rtun_core.net.sockaddr import pack_socket_address
from rtun_core.net.udp_batch import HEADROOM, ROOM, STRIDE, DatagramBatch, SpanSender

_OVERSIZE = {errno.EMSGSIZE, getattr(errno, "WSAEMSGSIZE", errno.EMSGSIZE)}


class PlainIO:
    """`BatchIO` of `rtun_core.net.udp_batch` by recvfrom_into."""

    def __init__(self) -> None:
        self.batch = DatagramBatch()
        self.sender: SpanSender | None = None
        self.error: OSError | None = None
        self.overflow: int | None = None
        self.segments = self.batch

    def receive(self, sock: socket.socket, start: int, limit: int) -> int:
        """See `BatchIO.receive`."""
        self.error = None
        if start == 0:
            self.batch.ipv6 = False
        row = start
        for _ in range(limit):
            try:
                self._receive_one(sock, row)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno not in _OVERSIZE:
                    self.error = error
                    break
            else:
                row += 1
        return row - start

    def receive_segments(self, sock: socket.socket, limit: int) -> int:
        """See `BatchIO.receive_segments`: nothing is ever joined here."""
        count = self.receive(sock, 0, limit)
        self.batch.resize(count)
        return count

    def _receive_one(self, sock: socket.socket, row: int) -> None:
        # the byte after the last column is the first of the next row's headroom, which nobody uses yet
        start = row * STRIDE + HEADROOM
        size, sender = sock.recvfrom_into(self.batch.memory[start : start + ROOM + 1])
        self.batch.lengths_view[row] = size
        self.batch.set_name(row, pack_socket_address(sender))
        self.batch.ipv6 = self.batch.ipv6 or len(sender) == 4
