"""Packet transports of the original clients: raw aiohttp and raw aioquic (wire spec 4 and 5)."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

import aiohttp
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamDataReceived

from tests.interop import original_wire as wire

MAX_MESSAGE = 16 * 1024 * 1024


class Refused(Exception):
    """The server said no; the text is its reason."""


class Packets(Protocol):
    """One packet at a time in either direction; None is the end."""

    async def send(self, packet: bytes) -> None: ...
    async def recv(self) -> bytes | None: ...
    async def leave(self) -> None: ...


class WsPackets:
    """Packets as binary messages."""

    def __init__(self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._session, self._socket = session, socket

    async def send(self, packet: bytes) -> None:
        """Send a packet."""
        await self._socket.send_bytes(packet)

    async def recv(self) -> bytes | None:
        """The next packet."""
        message = await self._socket.receive()
        return message.data if message.type is aiohttp.WSMsgType.BINARY else None

    async def leave(self) -> None:
        """End the session."""
        await self._socket.close()
        await self._session.close()


class QuicPackets(QuicConnectionProtocol):
    """Frames on stream 0 of a QUIC connection, of either side. `ended` is set at the end of the stream."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ended = False
        self.code: int | None = None
        self._buffer = bytearray()
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue()

    def quic_event_received(self, event: QuicEvent) -> None:
        """Cut the stream into frames."""
        if isinstance(event, StreamDataReceived) and event.stream_id == 0:
            self._buffer += event.data
            while len(self._buffer) >= 4 and len(self._buffer) >= 4 + self._size():
                end = 4 + self._size()
                self._frames.put_nowait(bytes(self._buffer[4:end]))
                del self._buffer[:end]
            if event.end_stream:
                self.ended = True
                self._frames.put_nowait(None)
        elif isinstance(event, ConnectionTerminated):
            self.code = event.error_code
            self._frames.put_nowait(None)

    async def send(self, packet: bytes) -> None:
        """Send a frame."""
        self.send_raw(wire.framed(packet))

    def send_raw(self, data: bytes, *, end: bool = False) -> None:
        """Send bytes on the stream as they are."""
        self._quic.send_stream_data(0, data, end_stream=end)
        self.transmit()

    async def recv(self) -> bytes | None:
        """The next frame."""
        frame = await self._frames.get()
        if frame is None:
            self._frames.put_nowait(None)
        return frame

    async def leave(self) -> None:
        """End the connection; a client's socket goes with it."""
        self.close()
        await self.wait_closed()
        if self._quic.configuration.is_client:
            assert self._transport is not None
            self._transport.close()

    def _size(self) -> int:
        return int.from_bytes(self._buffer[:4], "big")


async def quic_connect(host: str, port: int, *, alpn: list[str] | None = None) -> QuicPackets:
    """A QUIC connection without certificate checks, and without ALPN unless one is given."""
    configuration = QuicConfiguration(is_client=True, alpn_protocols=alpn, verify_mode=ssl.CERT_NONE)
    configuration.server_name = host
    loop = asyncio.get_running_loop()
    _, client = await loop.create_datagram_endpoint(
        lambda: QuicPackets(QuicConnection(configuration=configuration)), local_addr=("127.0.0.1", 0)
    )
    try:
        client.connect(("127.0.0.1", port))
        await asyncio.wait_for(client.wait_connected(), 10)
    except BaseException:
        await client.leave()
        raise
    return client


async def ask_quic(host: str, port: int, request: Mapping[str, Any]) -> tuple[QuicPackets, dict[str, Any]]:
    """Send a JSON request; returns the connection and the JSON answer. Raises Refused."""
    client = await quic_connect(host, port)
    await client.send(json.dumps(request, separators=(",", ":")).encode())
    frame = await client.recv()
    answer = None if frame is None else json.loads(frame)
    if answer is None or answer["kind"] != request["kind"] or answer["code"] != 0:
        await client.leave()
        raise Refused("no answer" if answer is None else answer["reason"])
    return client, answer


async def ask_http(url: str, path: str, query: Mapping[str, Any]) -> tuple[WsPackets, Mapping[str, str]]:
    """Upgrade at `path`; returns the socket and the headers of the response. Raises Refused."""
    given = {key: value for key, value in query.items() if value is not None}
    session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
    try:
        socket = await session.ws_connect(
            f"{url}{path}?{urlencode(given)}", max_msg_size=MAX_MESSAGE + 1, autoping=True
        )
    except aiohttp.WSServerHandshakeError as error:
        await session.close()
        raise Refused(f"status {error.status}") from None
    except BaseException:
        await session.close()
        raise
    assert socket._response is not None
    return WsPackets(session, socket), socket._response.headers


async def connect_pub(
    url: str, token: str, *, agent: str | None, expire_in: int | None, ver: str | None
) -> tuple[Packets, str]:
    """Register as an agent; returns the packets and the name. Raises Refused."""
    parts = urlsplit(url)
    if parts.scheme == "quic":
        assert parts.hostname is not None
        assert parts.port is not None
        request = {
            "kind": "pub",
            "agent": agent,
            "token": token,
            "expire_in": expire_in,
            "instance_id": None,
            "ver": ver,
        }
        client, answer = await ask_quic(parts.hostname, parts.port, request)
        return client, str(answer["agent_name"] or agent)
    query = {"agent": agent, "token": token, "expire_in": expire_in, "ver": ver}
    packets, headers = await ask_http(url, "/pub/ws", query)
    return packets, headers["agent_name"]  # its absence is an error


async def connect_sub(url: str, token: str, *, agent: str | None, instance: str | None) -> Packets:
    """Attach to an agent. Raises Refused."""
    parts = urlsplit(url)
    if parts.scheme == "quic":
        assert parts.hostname is not None
        assert parts.port is not None
        request = {
            "kind": "sub",
            "agent": agent,
            "token": token,
            "expire_in": None,
            "instance_id": instance,
            "ver": None,
        }
        return (await ask_quic(parts.hostname, parts.port, request))[0]
    packets, _ = await ask_http(url, "/sub/ws", {"agent": agent, "token": token, "instance_id": instance})
    return packets


async def list_agents(url: str) -> list[dict[str, Any]]:
    """The agents of a server, without any token."""
    parts = urlsplit(url)
    if parts.scheme == "quic":
        assert parts.hostname is not None
        assert parts.port is not None
        client, answer = await ask_quic(parts.hostname, parts.port, {"kind": "sessions"})
        await client.leave()
        return list(answer["sessions"])
    async with aiohttp.ClientSession() as session, session.get(f"{url}/pub/sessions") as response:
        return list(await response.json())
