"""One WebSocket of a session: its socket, its transport, and what its sender has to look at."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Final

import aiohttp

from rtun_core.net.ws_transport import WebSocket
from rtun_core.wire.ws_frame import plain_frames

CLOSE_TIMEOUT: Final = 1.0
"""Seconds that the peer has for its part of a close; the original never does it (rtunnel spec 15)."""
_FLUSH_TIME = 5.0
_MAX_PONGS = 16

SEND_ERRORS: Final = (OSError, RuntimeError, aiohttp.ClientError)
"""What sending on a WebSocket that is going away can raise."""


class Link:
    """`spoke` tells whether the peer sent a packet, `busy` whether the sender is in the middle of sending,
    `closing` whether this end says goodbye.

    Exactly one task sends: the library lets two that wait for the same transport cancel each other.

    With `drain`, which waits until the transport has room again, packets go past the library: all that are
    due in one write, where the library makes two of each. That is 1.4 times the throughput of a bulk stream
    from a server. A client has to mask, and there the library is as quick as we are.
    """

    __slots__ = (
        "_dirty",
        "_drain",
        "_on_abort",
        "_pongs",
        "_waiter",
        "busy",
        "closing",
        "heard_at",
        "local",
        "remote",
        "socket",
        "spoke",
        "transport",
    )

    def __init__(
        self,
        socket: WebSocket,
        transport: asyncio.Transport,
        *,
        local: str,
        remote: str,
        drain: Callable[[], Awaitable[None]] | None = None,
        on_abort: Callable[[], None] | None = None,
    ) -> None:
        self.socket = socket
        self.transport = transport
        self.local = local
        self.remote = remote
        self.spoke = False
        self.heard_at = monotonic()
        self.busy = False
        self.closing = False
        self._drain = drain
        self._dirty = True
        self._waiter: asyncio.Future[None] | None = None
        self._pongs: deque[bytes] | None = None
        self._on_abort = on_abort

    def wake(self) -> None:
        """There may be something to send."""
        self._dirty = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        """Return when `wake` was called since this returned last."""
        if not self._dirty:
            self.busy = False
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._dirty = False
        self.busy = True

    def answer(self, ping: bytes) -> None:
        """Send a pong soon. A peer that pings faster than it reads is answered the latest few."""
        if self._pongs is None:
            self._pongs = deque(maxlen=_MAX_PONGS)
        self._pongs.append(ping)
        self.wake()

    async def send(self, packets: Sequence[bytes]) -> None:
        """Send each packet as a binary message; returns when the transport takes more."""
        if self._drain is None:
            for packet in packets:
                await self.socket.send_bytes(packet)
            return
        if self.socket.closed:
            raise ConnectionResetError("the WebSocket is closed")
        self.transport.writelines(plain_frames(packets))
        await self._drain()

    async def send_pongs(self) -> None:
        """Send the answers that are due."""
        while self._pongs:
            await self.socket.pong(self._pongs.popleft())

    def abort(self) -> None:
        """Drop the connection; whoever waits for it notices."""
        self.transport.abort()
        if self._on_abort is not None:
            self._on_abort()

    async def close(self) -> None:
        """Say goodbye, wait a moment for the answer, and let the rest be flushed in bounded time."""
        self.closing = True
        with suppress(TimeoutError, *SEND_ERRORS):
            async with asyncio.timeout(CLOSE_TIMEOUT + 0.5):
                await self.socket.close()
        self.transport.close()
        if self.socket.close_code in (None, aiohttp.WSCloseCode.ABNORMAL_CLOSURE):
            asyncio.get_running_loop().call_later(_FLUSH_TIME, self.transport.abort)
