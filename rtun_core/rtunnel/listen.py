"""Listening TCP sockets, and taking what arrives at them."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final

from rtun_core.errors import BindError
from rtun_core.net.tasks import TaskOwner
from rtun_core.wire.address import Address

BACKLOG: Final = 512
AT_ONCE: Final = 64
"""Connections that are taken in one turn of the loop."""
PAUSE: Final = 0.5
"""Seconds until the next try when the system has no descriptor or memory for one more connection."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def listen_on(address: Address) -> socket.socket:
    """A listening socket. Raises BindError naming the address."""
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    try:
        sock = socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
        raise BindError(f"cannot listen on TCP {address}: {reason}") from None
    sock.setblocking(False)
    return sock


class Listener:
    """Gives each connection that comes in at `sock` a protocol of `factory`; with `context`, inside TLS.

    A server of uvloop takes one connection in a turn of the loop, and turns are long while hundreds of
    streams are busy: newcomers would wait until their time is over. Here all that wait are taken.
    """

    def __init__(
        self,
        sock: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        tasks: TaskOwner,
        *,
        context: ssl.SSLContext | None = None,
        patience: float | None = None,
    ) -> None:
        self._sock = sock
        self._factory = factory
        self._tasks = tasks
        self._context = context
        self._patience = patience  # seconds for the handshake of TLS
        self._pause: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._watch()

    def close(self) -> None:
        """Take no more; once is enough."""
        if self._sock.fileno() < 0:
            return
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        else:
            self._loop.remove_reader(self._sock)
        self._sock.close()

    def _watch(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _address = self._sock.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest()
                return
            connection.setblocking(False)
            self._tasks.spawn(self._begin(connection), "accept")

    def _rest(self) -> None:
        """The socket stays readable, and looking at it all the time would help nobody."""
        self._loop.remove_reader(self._sock)
        self._pause = self._loop.call_later(PAUSE, self._watch)

    async def _begin(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._factory,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=None if self._context is None else self._patience,
            )
        except OSError:
            # The peer is gone already, or does not speak TLS: nobody is left to be told.
            connection.close()
