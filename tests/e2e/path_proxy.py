"""A bad network between relay and agent: a signalling proxy that puts UDP sockets of its own in the path.

The relay is pointed at the proxy instead of at the server. The proxy passes `/pub/sessions` and `/sub/ws`
on, and replaces the ICE candidates in `open_p2p` requests and answers by addresses of its own, one pair of
sockets for each tunnel. What passes there can be lost, delayed, reordered, swallowed, or cut off for good,
per tunnel and direction, and datagrams can be put in as if they were the peer's.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import aiohttp
from aiohttp import web

from rtun_core.wire.address import Address
from rtun_core.wire.candidate import format_candidate, host_candidate, parse_candidate
from rtun_core.wire.pb import rtun_pb2 as pb
from rtun_core.wire.switch_packet import CONTROL_CHANNEL, decode_packet, encode_packet

Peer = tuple[str, int]
_T = TypeVar("_T")


@dataclass
class Direction:
    """What happens to datagrams of one direction, changed at any time, and what did.

    `loss` is a share of 1, `delay` and `jitter` are seconds: each datagram takes `delay` and up to
    `jitter` more, so those that are close together overtake each other.
    """

    rng: random.Random
    loss: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    dark: bool = False
    passed: int = 0
    lost: int = 0

    def swallows(self) -> bool:
        """Decide on one datagram, and count it."""
        gone = self.dark or self.rng.random() < self.loss
        self.lost += gone
        self.passed += not gone
        return gone


class Side(asyncio.DatagramProtocol):
    """One socket of a path: what its peer sends leaves by the other side."""

    def __init__(self, towards_peer: Direction, peers: list[Peer]) -> None:
        self.other: Side | None = None
        self.transport: asyncio.DatagramTransport | None = None
        self.address = Address("127.0.0.1", 0)
        self._peers = peers
        self._towards_peer = towards_peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self.transport = cast(asyncio.DatagramTransport, transport)
        self.address = Address(*transport.get_extra_info("sockname"))

    def datagram_received(self, data: bytes, addr: Peer) -> None:
        """Pass on what the peer sent, as the direction wants it."""
        if addr in self._peers and self.other is not None:
            self.other.forward(data)

    def forward(self, data: bytes) -> None:
        """Take a datagram of the other side's peer for ours."""
        way = self._towards_peer
        if way.swallows():
            return
        wait = way.delay + way.rng.uniform(0, way.jitter)
        if wait:
            asyncio.get_running_loop().call_later(wait, self.send, data)
        else:
            self.send(data)

    def send(self, data: bytes) -> None:
        """Send to the peer now."""
        if self.transport is not None and not self.transport.is_closing():
            for peer in self._peers:
                self.transport.sendto(data, peer)


@dataclass
class Path:
    """The way of one tunnel. `up` is from relay to agent; the relay takes `relay_side` for the agent."""

    up: Direction
    down: Direction
    relay_side: Side
    agent_side: Side
    proxy: PathProxy = field(repr=False)

    def darken(self, *, dark: bool = True) -> None:
        """Swallow everything, or nothing any more, both ways."""
        self.up.dark = self.down.dark = dark

    def cut(self) -> None:
        """Close both sockets: the ends are refused from now on, as after a kill -9 of the peer's process."""
        self.proxy.call(_close(self.relay_side, self.agent_side))

    def inject(self, side: Side, datagrams: list[bytes]) -> None:
        """Send datagrams to the peer of `side`, as if they came from the other end."""
        self.proxy.call(_send_all(side, datagrams))


class PathProxy:
    """Runs in a thread of its own; `paths` are those of all tunnels that were asked for, oldest first."""

    def __init__(self, server: str, *, seed: int = 1) -> None:
        self.paths: list[Path] = []
        self.dark = False  # paths that are made from now on swallow everything
        self.url = ""
        self._server = server
        self._rng = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.call(self._start())

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the proxy's loop, from another thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def path_of(self, remote: str) -> Path:
        """The path of the tunnel whose remote address, as the relay shows it, is `remote`."""
        return next(path for path in self.paths if str(path.relay_side.address) == remote)

    def darken(self, *, dark: bool = True) -> None:
        """Darken every path there is and will be."""
        self.dark = dark
        for path in self.paths:
            path.darken(dark=dark)

    def close(self) -> None:
        """Close everything."""
        self.call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession()
        app = web.Application()
        app.add_routes([web.get("/pub/sessions", self._sessions), web.get("/sub/ws", self._sub)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        assert self._session is not None
        assert self._runner is not None
        await self._session.close()
        await self._runner.cleanup()
        for path in self.paths:
            await _close(path.relay_side, path.agent_side)

    async def _sessions(self, request: web.Request) -> web.Response:
        assert self._session is not None
        try:
            async with self._session.get(f"{self._server}{request.path_qs}") as answer:
                return web.Response(body=await answer.read(), content_type="application/json")
        except aiohttp.ClientError:
            return web.Response(status=502)

    async def _sub(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        try:
            server = await self._session.ws_connect(f"{self._server}{request.path_qs}")
        except aiohttp.WSServerHandshakeError as error:
            return web.Response(status=error.status)
        except aiohttp.ClientError:
            return web.Response(status=502)
        relay = web.WebSocketResponse(max_msg_size=0)
        await relay.prepare(request)
        asked: deque[Path | None] = deque()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._requests(relay, server, asked))
            group.create_task(self._answers(server, relay, asked))
        return relay

    async def _requests(
        self, relay: web.WebSocketResponse, server: aiohttp.ClientWebSocketResponse, asked: deque[Path | None]
    ) -> None:
        async for message in relay:
            packet = decode_packet(message.data)
            if packet.channel != CONTROL_CHANNEL or not packet.payload:
                await server.send_bytes(message.data)
                continue
            request = pb.C2ARequest.FromString(packet.payload)
            if request.open_p2p.HasField("udp_relay"):
                path = await self._make_path(request.open_p2p.udp_relay.ice)
                asked.append(path)
            else:
                asked.append(None)
            await server.send_bytes(encode_packet(CONTROL_CHANNEL, request.SerializeToString()))
        await server.close()

    async def _answers(
        self, server: aiohttp.ClientWebSocketResponse, relay: web.WebSocketResponse, asked: deque[Path | None]
    ) -> None:
        async for message in server:
            packet = decode_packet(message.data)
            path = asked.popleft() if packet.channel == CONTROL_CHANNEL and packet.payload and asked else None
            if path is None:
                await relay.send_bytes(message.data)
                continue
            answer = pb.OpenP2PResponse.FromString(packet.payload)
            if answer.args.HasField("udp_relay"):
                _replace(answer.args.udp_relay.ice, path.agent_side, path.relay_side)
            await relay.send_bytes(encode_packet(CONTROL_CHANNEL, answer.SerializeToString()))
        await relay.close()

    async def _make_path(self, relay_ice: pb.P2PIceArgs) -> Path:
        """Open a pair of sockets, and put the agent's one in place of the relay's candidates."""
        up, down = (Direction(random.Random(self._rng.random()), dark=self.dark) for _ in range(2))
        path = Path(up, down, Side(down, []), Side(up, []), self)
        path.relay_side.other, path.agent_side.other = path.agent_side, path.relay_side
        for side in (path.relay_side, path.agent_side):
            await self._loop.create_datagram_endpoint(lambda side=side: side, local_addr=("127.0.0.1", 0))
        _replace(relay_ice, path.relay_side, path.agent_side)
        self.paths.append(path)
        return path


def _replace(ice: pb.P2PIceArgs, towards_owner: Side, shown: Side) -> None:
    """Tell `towards_owner` where the candidates' owner is; show the address of `shown` in their place."""
    addresses = [parse_candidate(text).address for text in ice.candidates]
    towards_owner._peers[:] = [(address.host, address.port) for address in addresses]
    ice.candidates[:] = [format_candidate(host_candidate(shown.address))]


async def _close(*sides: Side) -> None:
    for side in sides:
        if side.transport is not None:
            side.transport.close()
    await asyncio.sleep(0)  # it is closed by the next turn of the loop


async def _send_all(side: Side, datagrams: list[bytes]) -> None:
    for number, datagram in enumerate(datagrams):
        side.send(datagram)
        if number % 50 == 49:
            await asyncio.sleep(0.001)  # let the receiver read: its buffer is not what is tested
