"""A TCP proxy as unkind as gateways are: it cuts connections after so many bytes, after a time, or when told.

It stands between the two ends of an RTunnel. A cut is a reset, an ordinary end, a WebSocket Close frame, or
darkness in which nothing arrives and nothing is closed; it can be shown to one side only.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar, cast

How = Literal["rst", "fin", "close frame", "dark"]
_T = TypeVar("_T")
_CLOSE_FRAME = bytes.fromhex("880203e9")  # from a server: going away
_RESET = struct.pack("ii", 1, 0)


class Frames:
    """Follows the frames of one direction, to know where one ends (RFC 6455 5.2)."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._left = 0
        self._answered = False

    def boundary(self, data: bytes) -> int | None:
        """Where in `data` a frame, or the HTTP answer, ends for the first time. Takes all of it."""
        found: int | None = None
        offset = 0
        while offset < len(data):
            if self._left:
                taken = min(self._left, len(data) - offset)
                self._left -= taken
                offset += taken
                ended = self._left == 0
            else:
                ended = self._take(data[offset])
                offset += 1
            if ended and found is None:
                found = offset
        return found

    def _take(self, byte: int) -> bool:
        self._head.append(byte)
        if self._answered:
            complete = self._header_ends()
        else:
            complete = self._answered = self._head.endswith(b"\r\n\r\n")
        if complete:
            self._head.clear()
        return complete and self._left == 0

    def _header_ends(self) -> bool:
        if len(self._head) < 2:
            return False
        short = self._head[1] & 0x7F
        wide = {126: 2, 127: 8}.get(short, 0)
        masked = 4 if self._head[1] & 0x80 else 0
        if len(self._head) < 2 + wide + masked:
            return False
        self._left = int.from_bytes(self._head[2 : 2 + wide], "big") if wide else short
        return True


class Side(asyncio.Protocol):
    """One end of a link."""

    def __init__(self, link: Link, *, of_client: bool) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None
        self.of_client = of_client
        self.ended = False
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open. The client is not read before the server is there."""
        self.transport = cast(asyncio.Transport, transport)
        if self.of_client:
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Pass it on, as the link wants it."""
        self._link.forward(self, data)

    def eof_received(self) -> bool:
        """Pass it on. Returning True keeps the other direction open."""
        self.ended = True
        if self.other is None or self._link.dark:
            return True
        self.other.end(whole=self.other.ended)
        return not self.other.ended

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side sees it too, unless it is not to."""
        if self.other is not None and not self._link.dark:
            self.other.reset() if exc is not None else self.other.end(whole=True)

    def pause_writing(self) -> None:
        """The other side waits."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """The other side goes on."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send to this end."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def end(self, *, whole: bool = False) -> None:
        """End our stream, or both."""
        if self.transport is None or self.transport.is_closing():
            return
        if whole:
            self.transport.close()
        else:
            self.transport.write_eof()

    def reset(self) -> None:
        """Close with a RST."""
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


class Link:
    """One connection through the proxy. `up` and `down` count bytes as they came, `up` from the client."""

    def __init__(self, limit: int | None, how: How) -> None:
        self.client = Side(self, of_client=True)
        self.server = Side(self, of_client=False)
        self.client.other, self.server.other = self.server, self.client
        self.up = self.down = 0
        self.dark = False
        self.limit = limit
        self.how = how
        self._frames = Frames()
        self._close_frame_due = False

    @property
    def alive(self) -> bool:
        """Whether it is open and was not cut."""
        transport = self.server.transport
        return not self.dark and transport is not None and not transport.is_closing()

    def forward(self, side: Side, data: bytes) -> None:
        """Pass on what came from `side`; the cut falls exactly on the limit."""
        if side.of_client:
            self.up += len(data)
        else:
            self.down += len(data)
        if self.dark or side.other is None:
            return
        if not side.of_client and self._at_boundary(data):
            return
        over = 0 if self.limit is None else self.up + self.down - self.limit
        if over > 0 and self.how != "close frame":
            data = data[: len(data) - over]
        side.other.write(data)
        if over > 0:
            self.cut(self.how)

    def cut(self, how: How, side: Literal["both", "client", "server"] = "both") -> None:
        """Cut now; a Close frame waits for the end of a frame from the server."""
        if how == "close frame":
            self._close_frame_due = True
            return
        self.dark = True
        for one, name in ((self.client, "client"), (self.server, "server")):
            if how != "dark" and side in ("both", name):
                one.reset() if how == "rst" else one.end(whole=True)

    def _at_boundary(self, data: bytes) -> bool:
        if not self._close_frame_due:
            self._frames.boundary(data)
            return False
        at = self._frames.boundary(data)
        if at is None:
            return False
        self.dark = True
        self.client.write(data[:at] + _CLOSE_FRAME)
        self.server.reset()
        return True


class CuttingProxy:
    """Runs in a thread of its own; `links` are all connections there were, oldest first.

    `limit` and `how` are for connections that come from now on: after how many bytes to cut, and how.
    """

    def __init__(
        self, port: int, *, limit: Callable[[], int | None] = lambda: None, lifetime: float | None = None
    ) -> None:
        self.links: list[Link] = []
        self.upstream = port
        self.limit = limit
        self.how: How = "rst"
        self.lifetime = lifetime
        self.port = 0
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.call(self._start())

    @property
    def carried(self) -> int:
        """Bytes that came in on all links, both ways."""
        return sum(link.up + link.down for link in self.links)

    def cut(self, how: How, side: Literal["both", "client", "server"] = "both") -> int:
        """Cut every link that is not cut; returns how many."""

        async def cut() -> int:
            alive = [link for link in self.links if link.alive]
            for link in alive:
                link.cut(how, side)
            return len(alive)

        return self.call(cut())

    def finish(self, link: Link) -> None:
        """Let both ends of a link that is dark know, with a RST."""

        async def finish() -> None:
            link.client.reset()
            link.server.reset()

        self.call(finish())

    def close(self) -> None:
        """Close everything."""
        self.cut("rst")
        for link in self.links:
            self.finish(link)
        self.call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the proxy's loop, from another thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _start(self) -> None:
        self._server = await self._loop.create_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await asyncio.sleep(0)

    def _accept(self) -> Side:
        link = Link(self.limit(), self.how)
        self.links.append(link)
        if self.lifetime is not None:
            self._loop.call_later(self.lifetime, link.cut, "rst")
        self._loop.call_soon(self._connect, link)
        return link.client

    def _connect(self, link: Link) -> None:
        asyncio.run_coroutine_threadsafe(self._open(link), self._loop)

    async def _open(self, link: Link) -> None:
        try:
            await self._loop.create_connection(lambda: link.server, "127.0.0.1", self.upstream)
        except OSError:
            link.client.reset()
            return
        assert link.client.transport is not None
        if not link.client.transport.is_closing():
            link.client.transport.resume_reading()
