"""RTunnels of real processes for end-to-end tests, and a client that knows no more than the original does."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp

from tests.e2e.processes import Fleet, Process
from tests.e2e.tcp import dial, port_of, swap

DATA, ACK, FIN = 1, 2, 4
_HEADER = struct.Struct(">BQQI")
_WAIT = 10.0  # seconds


def serve(fleet: Fleet, target: str, *args: str, port: int = 0) -> Process:
    """Start the server of a tunnel on loopback, and wait until it listens."""
    process = fleet.run("ws", "serve", target, f"127.0.0.1:{port}", "--json", *args)
    process.wait_for("service.listening")
    return process


def connect(fleet: Fleet, server: Process | int | str, *args: str, up: bool = True) -> Process:
    """Start the client of a tunnel to a server, a port or a URL; wait until the server has answered."""
    if isinstance(server, Process):
        server = port_of(server)
    url = f"ws://127.0.0.1:{server}/" if isinstance(server, int) else server
    process = fleet.run("ws", "connect", url, "127.0.0.1:0", "--json", *args)
    process.wait_for("service.listening")
    if up:
        process.wait_for("agent.seen")
    return process


def echoes(client: Process, data: bytes = b"are you there?") -> bool:
    """Whether a new connection to an echo target works."""
    with contextlib.suppress(ConnectionError), dial(client) as connection:
        return swap(connection, data) == data
    return False


def packet(flag: int, *, seq: int = 0, ack: int = 0, payload: bytes = b"") -> bytes:
    """One packet as the original writes it."""
    return _HEADER.pack(flag, seq, ack, len(payload)) + payload


class PlainPeer:
    """A client without extensions. It answers each data packet with the number that it has in order."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, before: PlainPeer | None = None) -> None:
        self.socket = socket
        self.received = b""
        self.acked = 0
        self.fin = False
        self.closed = False
        self._expected: int = 1 if before is None else before._expected
        self._next: int = 1 if before is None else before._next
        self._changed = asyncio.Event()

    async def read(self) -> None:
        """Take packets until the WebSocket is gone."""
        async for message in self.socket:
            flag, seq, ack, length = _HEADER.unpack_from(message.data)
            if flag == DATA:
                if seq == self._expected:
                    self._expected += 1
                    self.received += message.data[_HEADER.size : _HEADER.size + length]
                await self.socket.send_bytes(packet(ACK, ack=self._expected - 1))
            elif flag == ACK:
                self.acked = ack
            elif flag == FIN:
                self.fin = True
            self._changed.set()
        self.closed = True
        self._changed.set()

    async def send(self, payload: bytes) -> None:
        """The next data packet."""
        await self.socket.send_bytes(packet(DATA, seq=self._next, payload=payload))
        self._next += 1

    async def wait_until(self, probe: Callable[[], object]) -> None:
        """Wait until `probe()` is true; looked at after each packet."""
        async with asyncio.timeout(_WAIT):
            while not probe():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def plain_peer(
    server: Process, session_id: str, before: PlainPeer | None = None
) -> AsyncIterator[PlainPeer]:
    """A session with a server as the original opens it, or goes on with where it was `before`."""
    url = f"ws://127.0.0.1:{port_of(server)}/"
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url, headers={"X-Session-ID": session_id}) as socket,
    ):
        peer = PlainPeer(socket, before)
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(peer.read())
            yield peer
            reader.cancel()
