"""Packets over a WebSocket: one binary message each (wire spec 4)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiohttp
from aiohttp import web

from rtun_core.errors import SignalingError
from rtun_core.wire.address import Address
from rtun_core.wire.switch_packet import MAX_PACKET

CLOSE_TIMEOUT = 2.0

WebSocket = aiohttp.ClientWebSocketResponse | web.WebSocketResponse


class WebSocketTransport:
    """A `PacketTransport` over either end of a WebSocket.

    `session` is the HTTP session that was opened for this WebSocket alone, and is closed with it.
    """

    def __init__(self, socket: WebSocket, peer: str, session: aiohttp.ClientSession | None = None) -> None:
        self.peer = peer
        self._socket = socket
        self._session = session
        self._ended = ""

    async def send(self, packet: bytes) -> None:
        """Send one binary message."""
        try:
            await self._socket.send_bytes(packet)
        except (OSError, RuntimeError, aiohttp.ClientError):
            raise SignalingError(self._ended or "the WebSocket is closed") from None

    async def recv(self) -> bytes:
        """Return the next binary message; any other kind ends the session."""
        if self._ended:
            raise SignalingError(self._ended)
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            return bytes(message.data)
        self._ended = self._ended or self._reason(message)
        raise SignalingError(self._ended)

    async def close(self) -> None:
        """Close the WebSocket, waiting a short time for the peer to agree."""
        self._ended = self._ended or "the WebSocket was closed on this side"
        with suppress(TimeoutError, OSError, RuntimeError, aiohttp.ClientError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._socket.close()
        if self._session is not None:
            await self._session.close()

    def _reason(self, message: aiohttp.WSMessage) -> str:
        if message.type is aiohttp.WSMsgType.TEXT:
            return "the peer sent a text message"
        if message.type is aiohttp.WSMsgType.ERROR:
            return f"the WebSocket failed: {message.data}"
        if message.type is aiohttp.WSMsgType.CLOSE:
            return f"the peer closed the WebSocket with code {message.data}"
        return "the connection was lost"


async def accept_websocket(
    request: web.BaseRequest, headers: dict[str, str], max_packet: int = MAX_PACKET
) -> tuple[web.WebSocketResponse, WebSocketTransport]:
    """Upgrade a request, adding `headers` to the handshake response; bigger packets end the session.

    Raises aiohttp's HTTPBadRequest when the request is no WebSocket handshake.
    """
    # receive() answers pings and sees close frames by itself; the programs in the field send no pings.
    response = web.WebSocketResponse(timeout=CLOSE_TIMEOUT, max_msg_size=max_packet + 1, compress=False)
    response.headers.update(headers)
    await response.prepare(request)
    return response, WebSocketTransport(response, peer_of(request))


def peer_of(request: web.BaseRequest) -> str:
    """The client of an HTTP request as `ip:port`."""
    return format_peer(request.transport.get_extra_info("peername") if request.transport else None)


def format_peer(name: tuple[str, int] | tuple[str, int, int, int] | None) -> str:
    """A socket's peer name as `ip:port`; "unknown" when the connection is gone already."""
    return str(Address(name[0], name[1])) if name else "unknown"
