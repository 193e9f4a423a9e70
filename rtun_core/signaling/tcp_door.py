"""The TCP side's door: counts connections from the first byte on, and shows idle strangers out.

aiohttp bounds neither the number of connections nor the time until the first request, and a TLS handshake
that never ends is seen by nobody. So connections are accepted here, and handed to it afterwards.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from rtun_core.net.tasks import TaskOwner


class Door:
    """Admits up to `limit` TCP connections; each has `patience` seconds to show that it may stay.

    `make` builds the protocol behind the door. `on_fault` gets "flood" (too many connections), "idle"
    (nothing useful in time), "tls" (no handshake).
    """

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        *,
        context: ssl.SSLContext | None,
        limit: int,
        patience: float,
        on_fault: Callable[[str], None],
    ) -> None:
        self.make = make
        self.context = context
        self.limit = limit
        self.patience = patience
        self.on_fault = on_fault
        self.tasks = TaskOwner("door")
        self.connections: set[Visitor] = set()
        self._behind: dict[asyncio.BaseTransport, Visitor] = {}

    def __len__(self) -> int:
        return len(self.connections)

    def visitor(self) -> asyncio.Protocol:
        """The protocol factory of the listening socket."""
        return Visitor(self)

    def trust(self, transport: asyncio.BaseTransport | None) -> None:
        """Let the connection with this transport stay for as long as it likes."""
        if transport is not None and transport in self._behind:
            self._behind[transport].stop_waiting()

    def touch(self, transport: asyncio.BaseTransport | None) -> None:
        """Give the connection with this transport the full patience again."""
        if transport is not None and transport in self._behind:
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
        """Drop every connection."""
        for visitor in list(self.connections):
            visitor.abort()
        await self.tasks.close()


class Visitor(asyncio.Protocol):
    """One TCP connection: admitted or not, through TLS if there is any, then on to the protocol behind."""

    def __init__(self, door: Door) -> None:
        self.transport: asyncio.Transport | None = None
        self._door = door
        self._raw: asyncio.Transport | None = None
        self._inner: asyncio.Protocol | None = None
        self._early = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the connection, or drop it at once."""
        self._raw = cast(asyncio.Transport, transport)
        if len(self._door.connections) >= self._door.limit:
            self._door.on_fault("flood")
            self._raw.abort()
            return
        self._door.connections.add(self)
        self.wait()
        if self._door.context is None:
            self._open(self._raw)
        else:
            # The client's hello must still be unread when TLS takes the socket over.
            self._raw.pause_reading()
            self._door.tasks.spawn(self._handshake(self._raw, self._door.context), "handshake")

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        if self._inner is not None:
            self._inner.data_received(data)
        else:
            # TLS delivers what followed the handshake at once, one turn of the loop before `_open`.
            self._early += data

    def eof_received(self) -> bool | None:
        """Pass on."""
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        """Pass on."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on, and leave."""
        self._leave()
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def wait(self) -> None:
        """Start the time in which the visitor must show that it may stay, anew."""
        self.stop_waiting()
        self._timer = asyncio.get_running_loop().call_later(self._door.patience, self._too_late)

    def stop_waiting(self) -> None:
        """Let it stay."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def abort(self) -> None:
        """Drop the connection."""
        if self._raw is not None:
            self._raw.abort()

    def _open(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._door.enter(transport, self)
        self._inner = self._door.make()
        self._inner.connection_made(transport)
        if self._early:
            self._inner.data_received(bytes(self._early))
            self._early.clear()

    async def _handshake(self, raw: asyncio.Transport, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(raw, self, context, server_side=True)
        except (OSError, ssl.SSLError):
            transport = None
        if transport is None:
            self._door.on_fault("tls")
            raw.abort()
            self._leave()
        else:
            self._open(transport)

    def _too_late(self) -> None:
        self._timer = None
        self._door.on_fault("idle")
        self.abort()

    def _leave(self) -> None:
        self.stop_waiting()
        self._door.leave(self)
