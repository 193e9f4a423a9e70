"""What the bench of the TCP tunnel talks to, each in a process of its own: a target, and a plain forwarder.

    tcp_load target             each connection says first what it wants: a letter and a number (`REQUEST`)
                                u N   take N bytes, then answer one
                                d N   send N bytes
                                e N   send back what comes
    tcp_load forward IP:PORT    on uvloop if rtun would use it

The first line of the output is the port. Any line on the input of a target is answered by the bytes that
each connection with the letter u has brought, as JSON: an object by N.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import socket
import struct
import sys
from typing import Final, cast

from rtun_core.net.tasks import TaskOwner

REQUEST: Final = struct.Struct("!cQ")
BLOCK: Final = 262_144
_HIGH: Final = 262_144
_BACKLOG: Final = 1024

_tasks = TaskOwner("forward")
_zeros = bytes(BLOCK)
_scratch = memoryview(bytearray(BLOCK))


def bounded(sock: socket.socket) -> socket.socket:
    """Give a socket, or those that it accepts, buffers of one block; before it connects or listens.

    Left alone the kernel lets each end of a stream have tens of megabytes. For 200 streams that is more than
    it allows for all of TCP, it drops what arrives, and streams stand still for seconds.
    """
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BLOCK)
    return sock


class _Connection:
    """One connection of the target."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.mode = b""
        self.number = 0
        self.left = 0
        self.taken = 0

    def step(self) -> bool:
        """Do one read or write; False when it is over."""
        if not self.mode:
            return self._begin()
        if self.mode == b"d":
            self.left -= self.sock.send(_zeros[: min(self.left, BLOCK)])
            return self.left > 0
        size = self.sock.recv_into(_scratch)
        if self.mode == b"e":
            self.sock.sendall(_scratch[:size])
        self.taken += size
        if self.mode == b"u" and 0 < self.left <= self.taken:
            self.left = 0
            self.sock.sendall(b".")
        return size > 0

    def _begin(self) -> bool:
        head = self.sock.recv(REQUEST.size, socket.MSG_WAITALL)
        if len(head) == REQUEST.size:
            self.mode, self.number = REQUEST.unpack(head)
            self.left = self.number
        return bool(self.mode)


class _Target:
    def __init__(self) -> None:
        self._open: list[_Connection] = []
        self._selector = selectors.DefaultSelector()
        self._listener = bounded(socket.socket())
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(_BACKLOG)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(sys.stdin, selectors.EVENT_READ, self._answer)
        print(self._listener.getsockname()[1], flush=True)

    def run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if isinstance(key.data, _Connection):
                    self._step(key.data)
                else:
                    key.data()

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(sock)
        self._open.append(connection)
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def _step(self, connection: _Connection) -> None:
        before = connection.mode
        try:
            alive = connection.step()
        except OSError:
            alive = False
        if not alive:
            self._selector.unregister(connection.sock)
            self._open.remove(connection)
            connection.sock.close()
        elif not before and connection.mode == b"d":
            connection.sock.setblocking(False)
            self._selector.modify(connection.sock, selectors.EVENT_WRITE, connection)

    def _answer(self) -> None:
        if not sys.stdin.readline():
            sys.exit()
        taken = {each.number: each.taken for each in self._open if each.mode == b"u"}
        print(json.dumps(taken), flush=True)


class _Half(asyncio.Protocol):
    """One side of a forwarded connection."""

    def __init__(self, target: tuple[str, int] | None = None) -> None:
        self.other: _Half | None = None
        self.transport: asyncio.Transport | None = None
        self._target = target
        self._early: list[bytes] = []  # came before the other side was there

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_HIGH)
        if self._target is not None:
            _tasks.spawn(self._open(*self._target), "open")

    async def _open(self, host: str, port: int) -> None:
        transport, self.other = await asyncio.get_running_loop().create_connection(_Half, host, port)
        self.other.other = self
        transport.writelines(self._early)
        if self.transport is None:
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        elif self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


async def _forward(target: tuple[str, int]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Half(target), "127.0.0.1", 0, backlog=_BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


def main() -> None:
    """Run what the arguments name, until the input ends."""
    if sys.argv[1] == "target":
        _Target().run()
    from rtun_core.cli.run import _loop_factory

    host, _, port = sys.argv[2].rpartition(":")
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_forward((host, int(port))))


if __name__ == "__main__":
    main()
