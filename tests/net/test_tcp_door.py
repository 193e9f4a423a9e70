"""The door of the TCP side: who is let in, how long strangers may stay, and what is passed on."""

import asyncio
import socket
import ssl
from collections import Counter

import pytest

from rtun_core.net import tls
from rtun_core.net.tcp_door import Door

PAIR = tls.CertificatePair(*tls.self_signed(["localhost"]))


class Behind(asyncio.Protocol):
    """Answers every line in capitals."""

    made = 0

    def connection_made(self, transport):
        self.transport = transport
        Behind.made += 1

    def data_received(self, data):
        self.transport.write(data.upper())


class FailingOnce:
    """A listening socket for which the system once has no descriptor left."""

    def __init__(self, listener):
        self.listener, self.failures = listener, [OSError(24, "Too many open files")]

    def fileno(self):
        return self.listener.fileno()

    def accept(self):
        if self.failures:
            raise self.failures.pop()
        return self.listener.accept()


class House:
    """A door on a port, with what it reported."""

    def __init__(self, *, context=None, limit=2, patience=30.0, allowance=None):
        self.faults = Counter()
        self.fault = asyncio.Event()
        self.door = Door(
            Behind,
            context=context,
            limit=limit,
            patience=patience,
            allowance=allowance,
            on_fault=self.on_fault,
        )
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.door.open(self.listener)

    def on_fault(self, word):
        self.faults[word] += 1
        self.fault.set()

    async def connect(self, **options):
        port = self.listener.getsockname()[1]
        return await asyncio.open_connection("127.0.0.1", port, **options)

    async def close(self):
        await self.door.close()
        self.listener.close()


@pytest.fixture
async def build():
    houses = []

    def make(**options):
        houses.append(House(**options))
        return houses[-1]

    yield make
    for house in houses:
        await house.close()


async def end(reader, writer):
    """Read to the end of the connection and close our side."""
    try:
        async with asyncio.timeout(10):
            data = await reader.read()
    except ConnectionError:
        data = b""
    writer.close()
    try:
        await writer.wait_closed()
    except (ConnectionError, ssl.SSLError):
        return data
    return data


async def echoed(reader, writer):
    writer.write(b"GET x")
    async with asyncio.timeout(10):
        return await reader.readexactly(5)


async def test_what_is_let_in_reaches_the_protocol_behind(build):
    house = build()
    reader, writer = await house.connect()
    assert await echoed(reader, writer) == b"GET X"
    assert len(house.door) == 1
    await house.door.close()
    assert await end(reader, writer) == b""
    assert len(house.door) == 0


async def test_tls_comes_before_the_protocol_behind(build):
    house = build(context=tls.pair_context(PAIR))
    client = tls.client_context(ca=None, insecure=True)
    reader, writer = await house.connect(ssl=client, server_hostname="localhost")
    assert await echoed(reader, writer) == b"GET X"
    await house.door.close()
    await end(reader, writer)


async def test_no_more_than_the_limit_are_let_in(build):
    house = build(limit=1)
    first = await house.connect()
    assert await echoed(*first) == b"GET X"
    assert await end(*(await house.connect())) == b""
    assert house.faults == {"flood": 1}
    first[1].close()
    await first[1].wait_closed()
    async with asyncio.timeout(10):
        while len(house.door):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    second = await house.connect()
    assert await echoed(*second) == b"GET X"
    await house.door.close()
    await end(*second)


async def test_a_handshake_in_progress_counts(build):
    house = build(context=tls.pair_context(PAIR), limit=1)
    silent = await house.connect()
    assert await end(*(await house.connect())) == b""
    assert house.faults == {"flood": 1}
    await house.door.close()
    await end(*silent)


async def test_strangers_leave_when_patience_ends(build):
    house = build(patience=0.1)
    assert await end(*(await house.connect())) == b""
    assert house.faults == {"idle": 1}


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n\r\n"])
async def test_no_handshake_no_entry(build, sent):
    house = build(context=tls.pair_context(PAIR), patience=0.2)
    Behind.made = 0
    reader, writer = await house.connect()
    writer.write(sent)
    await end(reader, writer)
    await asyncio.wait_for(house.fault.wait(), 10)
    assert house.faults == {"tls": 1}
    assert Behind.made == 0
    assert len(house.door) == 0


async def test_the_trusted_stay(build):
    house = build(patience=0.6)
    reader, writer = await house.connect()
    assert await echoed(reader, writer) == b"GET X"
    (visitor,) = house.door.connections
    house.door.trust(visitor.transport)
    await asyncio.sleep(0.8)
    assert await echoed(reader, writer) == b"GET X"
    assert house.faults == {}
    await house.door.close()
    await end(reader, writer)


async def test_the_useful_get_more_time_and_no_blame(build):
    house = build(patience=0.6)
    reader, writer = await house.connect()
    assert await echoed(reader, writer) == b"GET X"
    (visitor,) = house.door.connections
    house.door.touch(visitor.transport)
    assert await end(reader, writer) == b""
    assert house.faults == {}


async def test_strangers_may_send_so_much_and_the_trusted_more(build):
    house = build(allowance=12)
    for trusted in (True, False):
        reader, writer = await house.connect()
        assert await echoed(reader, writer) == await echoed(reader, writer) == b"GET X"
        if trusted:
            (visitor,) = house.door.connections
            house.door.trust(visitor.transport)
            assert await echoed(reader, writer) == b"GET X"
            visitor.abort()
        else:
            writer.write(b"GET x")
        assert await end(reader, writer) == b""
    assert house.faults == {"oversize": 1}


async def test_unknown_transports_are_no_matter(build):
    house = build()
    house.door.trust(None)
    house.door.touch(None)
    house.door.touch(asyncio.Transport())


async def test_an_accept_that_fails_is_counted_and_tried_again(build, monkeypatch):
    monkeypatch.setattr("rtun_core.net.tcp_door._ACCEPT_PAUSE", 0.0)
    house = build()
    house.door.open(FailingOnce(house.listener))
    reader, writer = await house.connect()
    assert await echoed(reader, writer) == b"GET X"
    assert house.faults == {"accept": 1}
    await house.door.close()
    await end(reader, writer)
