"""The local TCP connection of a session: an asyncio protocol with as little between as possible."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from typing import Final, Protocol, cast

from rtun_core.net.sockaddr import SocketAddress

READ_SIZE: Final = 262_144
_PAUSE_BELOW = 32_768
_RESUME_FROM = 131_072
_WRITE_HIGH = 262_144
_LINGER_OFF = struct.pack("ii", 1, 0)

# Reads into it are finished, and copied, before the next one begins: one block serves all connections.
_block = memoryview(bytearray(READ_SIZE))


class TcpUser(Protocol):
    """What a `LocalTcp` works for."""

    @property
    def room(self) -> int:
        """Bytes that `tcp_data` would take."""

    def tcp_data(self, data: memoryview) -> None:
        """Take bytes, at most `room`, before returning."""

    def tcp_eof(self) -> None:
        """The application has ended its stream."""

    def tcp_writable(self) -> None:
        """The connection takes bytes again."""

    def tcp_lost(self, error: Exception | None) -> None:
        """The connection is gone; nothing is called after this."""


class LocalTcp(asyncio.BufferedProtocol):
    """One TCP connection. It reads while its user has room, and says when it can be written to.

    Memory beyond the user's: what the transport has not written yet, `_WRITE_HIGH` and one write at most.
    """

    def __init__(self, user: TcpUser | None) -> None:
        self.writable = False
        self.closing = False
        self._user = user
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._got_eof = False
        self._sent_eof = False
        self._discard = False
        self._linger: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH)
        self.writable = True

    def work_for(self, user: TcpUser) -> None:
        """Take the user that was not known when the connection came in; before anything is read."""
        self._user = user

    def peer_name(self) -> SocketAddress | None:
        """The application's address, None if it is gone already."""
        name: SocketAddress | None = None
        if self._transport is not None:
            name = self._transport.get_extra_info("peername")
        return name

    # From the application.

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Never more than the user has room for."""
        if self._discard or self._user is None:
            return _block
        return _block[: max(1, self._user.room)]

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over what was read."""
        if self._discard or self._user is None:
            return
        self._user.tcp_data(_block[:nbytes])
        if self._user.room < _PAUSE_BELOW:
            self.pause()

    def eof_received(self) -> bool:
        """The other direction stays open."""
        self._got_eof = True
        if self._discard:
            self.close()
        elif self._user is not None:
            self._user.tcp_eof()
        return True

    def pause(self) -> None:
        """Read nothing for now."""
        if not self._paused and self._transport is not None and not self._got_eof:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again if there is room worth a read."""
        if self._paused and self._user is not None and self._user.room >= _RESUME_FROM:
            self._unpause()

    def _unpause(self) -> None:
        self._paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # To the application.

    def write(self, parts: Sequence[memoryview]) -> None:
        """Send; `writable` tells afterwards whether the connection wants a pause."""
        if self._transport is not None and not self.closing:
            self._transport.writelines(parts)

    def write_eof(self) -> None:
        """End our direction after what was written."""
        if self._transport is not None and not (self._sent_eof or self.closing):
            self._sent_eof = True
            self._transport.write_eof()

    def pause_writing(self) -> None:
        """The transport holds enough."""
        self.writable = False

    def resume_writing(self) -> None:
        """The transport has written most of it."""
        self.writable = True
        if self._user is not None:
            self._user.tcp_writable()

    # The end.

    def finish(self, patience: float) -> None:
        """Close in good order: end our direction, and give the application `patience` seconds to see that.

        Closing a socket that has unread bytes resets it, and a reset can overtake what was sent before. So
        what still comes in is read and thrown away until the application ends too.
        """
        if self._discard or self.closing or self._transport is None:
            return
        self.write_eof()
        self._discard = True
        if self._got_eof:
            self.close()
        else:
            self._linger = asyncio.get_running_loop().call_later(patience, self.close)
            if self._paused:
                self._unpause()

    def close(self) -> None:
        """Close after what was written."""
        self.closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Reset the connection: the application must not take this for the end of a stream."""
        self.closing = True
        if self._transport is None:
            return
        sock = self._transport.get_extra_info("socket")
        if sock is not None and not self._transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self.closing, self.writable = True, False
        if self._linger is not None:
            self._linger.cancel()
        user, self._user = self._user, None
        self._transport = None
        if user is not None:
            user.tcp_lost(exc)
