"""Our programs in this process and models of the originals around them, over real loopback sockets."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from rtun_core.agent.config import ExitConfig, PubConfig
from rtun_core.agent.control import AgentControl
from rtun_core.agent.service import AgentService
from rtun_core.bus import EventBus, Subscription
from rtun_core.events import SignalConnected
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.ice import IceConfig
from rtun_core.relay.config import RelayConfig
from rtun_core.relay.service import RelayService
from rtun_core.signaling.config import ServerConfig
from rtun_core.signaling.server import SignalingServer
from rtun_core.wire.address import Address
from rtun_core.wire.relay_rule import RelayRule
from rtun_core.wire.signal_url import parse_signal_url
from tests.interop.original_agent import OriginalAgent
from tests.interop.original_path import RawUdp
from tests.interop.original_relay import OriginalRelay
from tests.interop.original_server import OriginalServer

SECRET = "sec123"
LOOPBACK = IceConfig(stun_servers=(), candidate_cidrs=(ipaddress.ip_network("127.0.0.1/32"),))
PATIENCE = 15.0


class Target:
    """A UDP target that echoes, and remembers what came from where. `reply` may answer otherwise."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, int]] = []
        self.reply: Callable[[bytes], list[bytes]] = lambda data: [data]
        self._udp = RawUdp(self._on_datagram).start()
        self.address = f"127.0.0.1:{self._udp.address[1]}"

    @property
    def ports(self) -> list[int]:
        """Source ports in the order in which they were first seen."""
        return list(dict.fromkeys(port for _, port in self.received))

    def close(self) -> None:
        """Close the socket."""
        self._udp.close()

    def _on_datagram(self, data: bytes, source: tuple[str, int]) -> None:
        self.received.append((data, source[1]))
        for answer in self.reply(data):
            self._udp.send(answer, source)


class Client:
    """A UDP client of one of our relays."""

    def __init__(self, relay: RelayService) -> None:
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()
        self._udp = RawUdp(lambda data, _source: self.answers.put_nowait(data)).start()
        local = relay.rules[0].port.local
        self._to = (local.host, local.port)

    def send(self, payload: bytes) -> None:
        """Send a datagram."""
        self._udp.send(payload, self._to)

    async def round_trip(self, payload: bytes = b"ping", timeout: float = 10.0) -> bytes:
        """Send a datagram and return the next answer."""
        self.send(payload)
        return await asyncio.wait_for(self.answers.get(), timeout)

    def close(self) -> None:
        """Close the socket."""
        self._udp.close()


class OurServer:
    """A signalling server of ours, and its URL."""

    def __init__(self, server: SignalingServer, scheme: str) -> None:
        self.server, self.scheme = server, scheme
        self.url = f"{scheme}://127.0.0.1:{server.address.port}"

    @property
    def port(self) -> int:
        """TCP and UDP port."""
        return self.server.address.port


class OurAgent:
    """An agent of ours and its events."""

    def __init__(self, service: AgentService, events: Subscription) -> None:
        self.service, self.events = service, events


class Stage:
    """Starts programs and models, and ends them all."""

    def __init__(self, exits: AsyncExitStack) -> None:
        self._exits = exits

    async def server(self, scheme: str = "http", **fields: Any) -> OurServer:
        """Our signalling server; with quic it makes its own certificate."""
        fields = {"bridge_only": True, "self_signed": scheme == "quic"} | fields
        config = ServerConfig(listen=Address("127.0.0.1", 0), secret=SECRET.encode(), **fields)
        bus = EventBus()
        local = None
        if not config.bridge_only:
            local = AgentControl(ExitConfig(ice=LOOPBACK), bus)
            self._exits.push_async_callback(local.close)
        server = SignalingServer(config, bus, local=local)
        await server.start()
        self._exits.push_async_callback(server.stop, drain=False)
        return OurServer(server, scheme)

    async def original_server(self, **options: Any) -> OriginalServer:
        """A model of the original server."""
        server = await OriginalServer(SECRET, **options).start()
        self._exits.push_async_callback(server.close)
        return server

    async def agent(self, url: str, name: str | None = "ours", **fields: Any) -> OurAgent:
        """Our agent, registered."""
        config = PubConfig(endpoint=endpoint(url), exit=ExitConfig(ice=LOOPBACK), name=name, **fields)
        bus = EventBus()
        events = bus.subscribe()
        service = AgentService(config, bus)
        await service.start()
        self._exits.push_async_callback(service.stop, drain=False)
        while not any(isinstance(each.event, SignalConnected) for each in await events.get()):
            pass
        return OurAgent(service, events)

    async def relay(self, url: str, target: Target | str, *, up: bool = True, **fields: Any) -> RelayService:
        """Our relay with one rule, with its tunnels up."""
        address = target if isinstance(target, str) else target.address
        host, _, port = address.rpartition(":")
        rule = RelayRule(Address("127.0.0.1", 0), Address(host, int(port)))
        fields = {"agent": re.compile(".*")} | fields
        config = RelayConfig(endpoint=endpoint(url), rules=(rule,), ice=LOOPBACK, **fields)
        relay = RelayService(config, EventBus())
        await relay.start()
        self._exits.push_async_callback(relay.stop, drain=False)
        if up:
            await until(lambda: len(relay.rules[0].pool.usable()) >= config.min_channels)
        return relay

    async def original_agent(self, url: str, **options: Any) -> OriginalAgent:
        """A model of an original agent, registered."""
        agent = OriginalAgent(**options)
        self._exits.push_async_callback(agent.close)
        return await agent.start(url, SECRET)

    async def original_relay(self, url: str, target: Target | str, **options: Any) -> OriginalRelay:
        """A model of an original relay with its first tunnel."""
        address = target if isinstance(target, str) else target.address
        relay = OriginalRelay(address, **options)
        self._exits.push_async_callback(relay.close)
        return await relay.start(url, SECRET)

    def target(self) -> Target:
        """An echo."""
        target = Target()
        self._exits.callback(target.close)
        return target

    def client(self, relay: RelayService) -> Client:
        """A client of a relay of ours."""
        client = Client(relay)
        self._exits.callback(client.close)
        return client

    def keep(self, close: Callable[[], Any]) -> None:
        """Call `close`, at the end."""
        self._exits.callback(close)

    def keep_async(self, close: Callable[[], Awaitable[Any]]) -> None:
        """Await `close` at the end."""
        self._exits.push_async_callback(close)


def endpoint(url: str, secret: str = SECRET) -> SignalEndpoint:
    """How our clients reach a server."""
    return SignalEndpoint(url=parse_signal_url(url), secret=secret.encode(), insecure=True)


async def until(condition: Callable[[], Any], timeout: float = PATIENCE) -> None:
    """Wait until `condition()` holds; a bounded poll, for what no event tells."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - conditions are any state, not only events
            await asyncio.sleep(0.01)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Everything that a test starts."""
    async with AsyncExitStack() as exits:
        yield Stage(exits)
