"""The TCP side's door: counts connections from the first byte on, and shows idle strangers out.

aiohttp bounds neither the number of connections nor the time until the first request, and a TLS handshake
that never ends is seen by nobody. So sockets are accepted here, and counted before anything is read.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from typing import cast

from rtun_core.net.tasks import TaskOwner

_BEGINS_REQUEST = re.compile(rb"[A-Z]{1,16}(?: |\Z)")
_ACCEPTS = 32  # connections taken in one turn of the loop
_ACCEPT_PAUSE = 0.1  # seconds to wait when the system has no descriptor left for another connection


class Door:
    """Admits up to `limit` TCP connections; each has `patience` seconds to show that it may stay.

    Until then it may send `allowance` bytes, None: any number. `make` builds the protocol behind the door.
    `on_fault` gets "flood" (too many connections), "accept" (the system refused one), "tls" (no handshake),
    "not http" (the first bytes are no request), "oversize" (more bytes than allowed), "idle" (nothing
    useful in time).
    """

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        *,
        context: ssl.SSLContext | None,
        limit: int,
        patience: float,
        allowance: int | None = None,
        on_fault: Callable[[str], None],
    ) -> None:
        self.make = make
        self.context = context
        self.limit = limit
        self.patience = patience
        self.allowance = allowance
        self.on_fault = on_fault
        self.tasks = TaskOwner("door")
        self.connections: set[Visitor] = set()
        self._listener: socket.socket | None = None
        self._arriving: set[socket.socket] = set()
        self._behind: dict[asyncio.BaseTransport, Visitor] = {}

    def __len__(self) -> int:
        return len(self.connections) + len(self._arriving)

    def open(self, listener: socket.socket) -> None:
        """Admit the connections of a listening, non-blocking socket from now on."""
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept)

    def _accept(self) -> None:
        """Accept by hand: a connection accepted by a task that is then cancelled would be nobody's."""
        assert self._listener is not None, "called while it is open"
        for _ in range(_ACCEPTS):
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError:
                self.on_fault("accept")
                self._rest(self._listener)
                return
            self._let_in(client)

    def _let_in(self, client: socket.socket) -> None:
        client.setblocking(False)
        if len(self) >= self.limit:
            self.on_fault("flood")
            client.close()
        else:
            self._arriving.add(client)
            self.tasks.spawn(self._admit(client), "admit")

    def _rest(self, listener: socket.socket) -> None:
        """The system has no descriptor left: look again a little later."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(_ACCEPT_PAUSE, self._resume)

    def _resume(self) -> None:
        if self._listener is not None:
            self.open(self._listener)

    async def _admit(self, client: socket.socket) -> None:
        """Hand a socket to the protocol behind the door, after TLS if there is any."""
        patience = None if self.context is None else self.patience
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Visitor(self), client, ssl=self.context, ssl_handshake_timeout=patience
            )
        except (OSError, ssl.SSLError):
            self.on_fault("tls")
            client.close()
        self._arriving.discard(client)

    def trust(self, transport: asyncio.BaseTransport | None) -> None:
        """Let the connection with this transport stay for as long as it likes."""
        if transport is not None and transport in self._behind:
            self._behind[transport].stay()

    def touch(self, transport: asyncio.BaseTransport | None) -> None:
        """Give the connection with this transport the full patience again: it was useful just now."""
        if transport is not None and transport in self._behind:
            self._behind[transport].useful = True
            self._behind[transport].wait()

    def enter(self, transport: asyncio.BaseTransport, visitor: Visitor) -> None:
        """Remember which visitor speaks through a transport."""
        self._behind[transport] = visitor

    def leave(self, visitor: Visitor) -> None:
        """Forget a visitor."""
        self.connections.discard(visitor)
        if visitor.transport is not None:
            self._behind.pop(visitor.transport, None)

    async def close(self) -> None:
        """Admit nobody any more and drop every connection."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener = None
        for visitor in list(self.connections):
            visitor.abort()
        await self.tasks.close()
        for client in self._arriving:
            client.close()
        self._arriving.clear()


class Visitor(asyncio.Protocol):
    """One admitted connection, which passes everything on to the protocol behind the door."""

    def __init__(self, door: Door) -> None:
        self.transport: asyncio.Transport | None = None
        self.useful = False
        self._door = door
        self._fresh = True
        self._left = door.allowance
        self._inner = door.make()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Enter."""
        self.transport = cast(asyncio.Transport, transport)
        self._door.connections.add(self)
        self._door.enter(transport, self)
        self.wait()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass on; what does not even begin as a request is counted, for the library answers it silently."""
        if self._fresh:
            self._fresh = False
            if not _BEGINS_REQUEST.match(data):
                self._door.on_fault("not http")
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self._door.on_fault("oversize")
                self.stop_waiting()
                self.abort()
                return
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on, and leave."""
        self.stop_waiting()
        self._door.leave(self)
        self._inner.connection_lost(exc)

    def wait(self) -> None:
        """Start the time in which the visitor must show that it may stay, anew."""
        self.stop_waiting()
        self._timer = asyncio.get_running_loop().call_later(self._door.patience, self._too_late)

    def stay(self) -> None:
        """Let it stay, and send what it likes."""
        self._left = None
        self.stop_waiting()

    def stop_waiting(self) -> None:
        """Forget the time that it has."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def abort(self) -> None:
        """Drop the connection."""
        if self.transport is not None:
            self.transport.abort()

    def _too_late(self) -> None:
        self._timer = None
        if not self.useful:
            self._door.on_fault("idle")
        self.abort()
