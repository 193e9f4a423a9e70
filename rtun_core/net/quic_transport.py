"""Packets over the stream of a QUIC connection, and the client that opens one (wire spec 5.2)."""

from __future__ import annotations

import asyncio
import socket
from collections import deque

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from rtun_core.errors import RemoteProtocolError, SignalingError
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.quic import QuicLink, client_configuration
from rtun_core.net.sockaddr import from_socket_address
from rtun_core.net.tls import client_context
from rtun_core.net.udp import DatagramBatch, UdpSocket
from rtun_core.wire.address import Address
from rtun_core.wire.frames import MAX_FRAME, FrameReader, encode_frame

MAX_WAITING = 4096
"""Frames received and not yet read; a session reads at once, so more means that the peer floods us."""

_MAX_WAITING_BYTES = 2 * MAX_FRAME
_FLUSH_S = 1.0
_ADDRESSES_TRIED = 4


class QuicStream:
    """A `PacketTransport` over the one stream of a `QuicLink`.

    Until `trust` is called, the peer may send no more than `allowance` bytes in all.
    """

    def __init__(self, peer: str, *, allowance: int | None = None, max_frame: int = MAX_FRAME) -> None:
        self.peer = peer
        self.fault = ""
        self._allowance = allowance
        self._reader = FrameReader(max_frame)
        self._frames: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._received = 0
        self._arrived = asyncio.Event()
        self._ended = ""
        self._link: QuicLink | None = None

    def attach(self, link: QuicLink) -> None:
        """Name the link that carries this stream."""
        self._link = link

    @property
    def link(self) -> QuicLink:
        """The connection that carries this stream."""
        if self._link is None:
            raise RuntimeError("the stream has no link")
        return self._link

    def trust(self) -> None:
        """Lift the bound on what the peer may send in all: its token was right."""
        self._allowance = None

    def on_data(self, data: bytes, end: bool) -> None:
        """Take the next bytes of the stream, from the link."""
        if self._ended:
            return
        try:
            self._feed(data, end)
        except RemoteProtocolError as error:
            self.fault = error.reason
            self._end(str(error))
            self.link.close(str(error), peer_reason="bad frame")

    def on_closed(self, reason: str) -> None:
        """Take the end of the connection, from the link."""
        self._end(reason)

    async def send(self, packet: bytes) -> None:
        """Send one frame; waits while more than 1 MiB is unsent."""
        await self.link.write(encode_frame(packet))

    async def finish(self, packet: bytes) -> None:
        """Send a last frame, end our side of the stream, and wait a short time until the peer has it."""
        await self.link.write(encode_frame(packet), end=True)
        await self.link.flush(_FLUSH_S)

    async def recv(self) -> bytes:
        """Return the next frame; frames that came before the end are still returned after it."""
        while not self._frames:
            if self._ended:
                raise SignalingError(self._ended)
            self._arrived.clear()
            await self._arrived.wait()
        frame = self._frames.popleft()
        self._waiting_bytes -= len(frame)
        return frame

    async def close(self) -> None:
        """Give what was sent a short time to arrive, then close the connection."""
        if not self.link.closed:
            await self.link.flush(_FLUSH_S)
        self.link.close("the QUIC connection was closed on this side")

    def _feed(self, data: bytes, end: bool) -> None:
        self._received += len(data)
        if self._allowance is not None and self._received > self._allowance:
            raise RemoteProtocolError("too many bytes before the token was checked", reason="oversize")
        frames = self._reader.feed(data)
        self._frames.extend(frames)
        self._waiting_bytes += sum(map(len, frames))
        if len(self._frames) > MAX_WAITING or self._waiting_bytes > _MAX_WAITING_BYTES:
            raise RemoteProtocolError("too many frames are waiting", reason="flood")
        if end:
            self._reader.eof()
            self._end("the peer ended the QUIC stream")
        self._arrived.set()

    def _end(self, reason: str) -> None:
        self._ended = self._ended or reason
        self._arrived.set()


class ClientQuicStream(QuicStream):
    """The client's `QuicStream`; it owns the socket and the connection it runs on."""

    def __init__(self, address: Address, configuration: QuicConfiguration) -> None:
        """Open a socket to `address` and begin the handshake. Raises OSError when there is no way to it."""
        super().__init__(str(address))
        self._address = address
        self._udp = UdpSocket.open(remote=address)
        self._udp.start(self._on_batch, self._on_error)
        connection = QuicConnection(configuration=configuration)
        self.attach(QuicLink(connection, self._transmit, on_data=self.on_data, on_closed=self.on_closed))
        self.link.connect(address)

    def on_closed(self, reason: str) -> None:
        """Take the end of the connection, from the link."""
        super().on_closed(reason)
        self._udp.close()

    def _transmit(self, data: bytes, _address: Address) -> None:
        self._udp.send(data)

    def _on_batch(self, batch: DatagramBatch) -> None:
        for row in range(batch.count):
            self.link.receive(batch.payload(row), self._address)

    def _on_error(self, error: OSError) -> None:
        # An established connection outlives a refusal or a lost route: the idle timeout judges it.
        if not self.link.established:
            self.link.close(error.strerror or str(error))


async def connect_quic(endpoint: SignalEndpoint, *, timeout: float) -> ClientQuicStream:
    """Connect to a `quic://` server and return its stream, on which nothing was sent yet.

    The addresses of the host are tried in turn; each gets its share of `timeout` (seconds).
    Raises SignalingError with one sentence, UsageError when the CA file cannot be used.
    """
    if endpoint.ca is not None:
        client_context(ca=endpoint.ca, insecure=endpoint.insecure)  # only for its error messages
    addresses = await _resolve(endpoint.url.address, timeout)
    failure = ""
    for address in addresses:
        try:
            return await _try(endpoint, address, timeout / len(addresses))
        except (SignalingError, OSError) as error:
            failure = getattr(error, "strerror", None) or str(error)
    raise SignalingError(f"cannot connect to {endpoint.url}: {failure}")


async def _resolve(target: Address, timeout: float) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            infos = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
    except TimeoutError:
        raise SignalingError(f"the name {target.host} was not resolved within {timeout:g} s") from None
    except OSError as error:
        raise SignalingError(f"the name {target.host} is not resolved: {error.strerror or error}") from None
    found = dict.fromkeys(from_socket_address(info[4]) for info in infos)
    return list(found)[:_ADDRESSES_TRIED]


async def _try(endpoint: SignalEndpoint, address: Address, timeout: float) -> ClientQuicStream:
    configuration = client_configuration(endpoint.url.host, ca=endpoint.ca, insecure=endpoint.insecure)
    stream = ClientQuicStream(address, configuration)
    try:
        async with asyncio.timeout(timeout):
            await stream.link.connected()
    except TimeoutError:
        raise SignalingError(f"no answer within {timeout:g} s") from None
    finally:
        if not stream.link.established:
            stream.link.close("not connected")
    return stream
