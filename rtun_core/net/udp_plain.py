"""Batches of datagrams with the socket calls that every system has, one per datagram.

Serves systems without recvmmsg, and shows nothing of its own to the reader above: the same rows, names
and errors as `rtun_core.net.udp_mmsg`, except that kernel drops are not visible. On Windows a datagram
larger than a row is lost instead of truncated, because the call that reports it does not say who sent it.
"""

from __future__ import annotations

import errno
import socket

import numpy as np
from numpy.typing import NDArray

from rtun_core.net.sockaddr import SocketAddress, pack_socket_address, target_of
from rtun_core.net.udp_batch import HEADROOM, ROOM, STRIDE, DatagramBatch

_OVERSIZE = {errno.EMSGSIZE, getattr(errno, "WSAEMSGSIZE", errno.EMSGSIZE)}


class PlainSender:
    """The sending half of `BatchIO`, one socket call per datagram."""

    def __init__(self) -> None:
        self._payloads: list[memoryview] = []
        self._targets: list[SocketAddress] | None = None

    def load(
        self,
        data: NDArray[np.uint8],
        rows: NDArray[np.intp],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        names: NDArray[np.uint8] | None,
    ) -> None:
        """See `BatchIO.load`."""
        self._payloads = [
            data[row, start : start + length].data
            for row, start, length in zip(rows.tolist(), starts.tolist(), lengths.tolist(), strict=True)
        ]
        self._targets = None if names is None else [target_of(name.tobytes()) for name in names]

    def transmit(self, sock: socket.socket, first: int, count: int) -> int:
        """See `BatchIO.transmit`: one datagram at a time, so that no error is lost."""
        if self._targets is None:
            sock.send(self._payloads[first])
        else:
            sock.sendto(self._payloads[first], self._targets[first])
        return 1


class PlainIO(PlainSender):
    """`BatchIO` of `rtun_core.net.udp_batch` by recvfrom_into and send."""

    def __init__(self) -> None:
        super().__init__()
        self.batch = DatagramBatch()
        self.error: OSError | None = None
        self.overflow: int | None = None
        self._lengths, self._truncated = self.batch.columns()

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

    def _receive_one(self, sock: socket.socket, row: int) -> None:
        # the byte after the last column is the first of the next row's headroom, which nobody uses yet
        start = row * STRIDE + HEADROOM
        size, sender = sock.recvfrom_into(self.batch.memory[start : start + ROOM + 1])
        self._lengths[row] = min(size, ROOM)
        self._truncated[row] = size > ROOM
        self.batch.names[row] = np.frombuffer(pack_socket_address(sender), np.uint8)
        self.batch.ipv6 = self.batch.ipv6 or len(sender) == 4
