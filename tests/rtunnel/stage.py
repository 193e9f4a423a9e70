"""Targets, services and a bus that remembers: what the tests of the RTunnel family play on."""

import asyncio
import hashlib
import socket
import struct
from contextlib import suppress

import yarl

from rtun_core.bus import EventBus
from rtun_core.rtunnel.config import ConnectConfig, ServeConfig
from rtun_core.rtunnel.connect import ConnectService
from rtun_core.rtunnel.serve import ServeService
from rtun_core.wire.address import Address
from tests.rtunnel.cutting_proxy import CuttingProxy

LOOPBACK = Address("127.0.0.1", 0)


async def until(condition, seconds=10.0):
    """Wait until `condition()` holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # conditions of the code under test have no event
            await asyncio.sleep(0.005)


def digest(data):
    return hashlib.sha256(data).hexdigest()


class Target:
    """A TCP server that does with each connection what `behave(reader, writer)` says."""

    def __init__(self, behave):
        self.behave = behave
        self.writers = []
        self._server = None

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=65_536)
        return Address(*self._server.sockets[0].getsockname())

    async def _serve(self, reader, writer):
        self.writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            await self.behave(reader, writer)
        writer.close()

    async def close(self):
        self._server.close()
        for writer in self.writers:
            # asyncio fails to abort a transport that has just closed by itself
            if writer.transport.get_write_buffer_size() or not writer.is_closing():
                writer.transport.abort()
        await self._server.wait_closed()


async def echo(reader, writer):
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


def reset(writer):
    """Abort a connection so that its peer sees a reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Stage:
    """Builds what a test asks for and takes it down again."""

    def __init__(self):
        self.bus = EventBus()
        self._events = self.bus.subscribe(100_000)
        self._seen = []
        self._closing = []
        self.server = None
        self.client = None

    async def target(self, behave=echo):
        target = Target(behave)
        address = await target.start()
        self._closing.append(target.close)
        self.last_target = target
        return address

    async def serve(self, target=None, *, settings=None, listen=LOOPBACK, **config):
        if target is None:
            target = await self.target()
        targets = target if isinstance(target, dict) else {"": target}
        server = ServeService(
            ServeConfig(listen=listen, targets=targets, **config), self.bus, settings=settings
        )
        await server.start()
        self._closing.append(lambda: server.stop(drain=False))
        self.server = server
        return server

    async def connect(self, port=None, *, url=None, settings=None, listen=LOOPBACK, **config):
        url = url or f"ws://127.0.0.1:{port or self.server.address.port}/"
        client = ConnectService(
            ConnectConfig(url=yarl.URL(url), listen=listen, **config),
            self.bus,
            settings=settings,
        )
        await client.start()
        self._closing.append(lambda: client.stop(drain=False))
        self.client = client
        return client

    async def pair(self, behave=echo, **both):
        await self.serve(await self.target(behave), **both)
        await self.connect(**both)

    async def proxied(self, behave=echo, budget=lambda: None, **both):
        """Both ends with a proxy between them that can be cut."""
        await self.serve(await self.target(behave), **both)
        proxy = CuttingProxy(self.server.address.port, budget)
        port = await proxy.start()
        await self.connect(port, **both)
        # Last in, first out: the client must be gone before the proxy.
        self._closing.insert(-1, proxy.close)
        return proxy

    async def app(self, client=None):
        """An application that connects to the client's port."""
        address = (client or self.client).address
        reader, writer = await asyncio.open_connection(address.host, address.port, limit=65_536)
        self._closing.append(self._closer(writer))
        return reader, writer

    def _closer(self, writer):
        async def close():
            writer.transport.abort()

        return close

    def events(self, kind=None):
        self._seen += [stamped.event for stamped in self._events.drain()]
        return [event for event in self._seen if kind is None or isinstance(event, kind)]

    async def event(self, kind, match=lambda event: True):
        """Wait for an event, which may have come before."""
        await until(lambda: any(map(match, self.events(kind))))
        return next(filter(match, self.events(kind)))

    async def close(self):
        for close in reversed(self._closing):
            await close()
        bugs = [event.text() for event in self.events() if getattr(event, "topic", "") == "bug"]
        if bugs:
            raise AssertionError(bugs)
