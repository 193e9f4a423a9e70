"""Bytes from end to end: both services, real sockets, loopback."""

import asyncio
import os

import pytest

from rtun_core.events import FlowClosed
from rtun_core.rtunnel import carrier as carrier_module
from rtun_core.wire.rtunnel_terms import SessionConfig
from tests.rtunnel.stage import digest, reset, until

BULK = 6_000_000


async def feed(writer, data):
    for at in range(0, len(data), 50_000):
        writer.write(data[at : at + 50_000])
        await writer.drain()


async def closed_for(stage, reason):
    return await stage.event(FlowClosed, lambda event: event.reason == reason)


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 65_537])
async def test_echo(stage, size):
    await stage.pair()
    reader, writer = await stage.app()
    data = os.urandom(size)
    writer.write(data)
    assert await reader.readexactly(size) == data


async def test_bulk_both_ways_and_half_close(stage):
    await stage.pair()
    reader, writer = await stage.app()
    data = os.urandom(BULK)

    async def send():
        await feed(writer, data)
        writer.write_eof()

    sending = asyncio.gather(send())
    got = await reader.read(-1)
    await sending
    assert digest(got) == digest(data)
    await closed_for(stage, "done")
    await until(lambda: not (stage.server.book.live or stage.client.book.live))


async def test_target_ends_first_with_everything_delivered(stage):
    data = os.urandom(BULK)

    async def send_and_close(_reader, writer):
        await feed(writer, data)

    await stage.pair(send_and_close)
    reader, writer = await stage.app()
    assert digest(await reader.read(-1)) == digest(data)
    writer.close()
    await closed_for(stage, "done")


async def test_application_ends_first_and_still_gets_the_answer(stage):
    async def answer_at_eof(reader, writer):
        writer.write(digest(await reader.read(-1)).encode())
        await writer.drain()

    await stage.pair(answer_at_eof)
    reader, writer = await stage.app()
    data = os.urandom(BULK)
    await feed(writer, data)
    writer.write_eof()
    assert await reader.read(-1) == digest(data).encode()


async def test_reset_by_the_application_reaches_the_target(stage):
    errors = []

    async def wait(reader, _writer):
        try:
            while await reader.read(1000):
                pass
        except ConnectionResetError as error:
            errors.append(error)

    await stage.pair(wait)
    _, writer = await stage.app()
    writer.write(b"hello")
    await until(lambda: stage.server.book.traffic().up_bytes == 5)
    reset(writer)
    await until(lambda: errors)
    await until(lambda: not (stage.server.book.live or stage.client.book.live))


async def test_reset_by_the_target_reaches_the_application(stage):
    async def refuse(reader, writer):
        await reader.read(1)
        reset(writer)

    await stage.pair(refuse)
    reader, writer = await stage.app()
    writer.write(b"x")
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)


async def test_slow_target_stops_the_application(stage):
    """A target that does not read: what is taken from the application is bounded."""
    gate = asyncio.Event()
    got = bytearray()

    async def slow(reader, _writer):
        await gate.wait()
        while data := await reader.read(65_536):
            got.extend(data)

    await stage.pair(slow)
    _, writer = await stage.app()
    data = os.urandom(48_000_000)
    sending = asyncio.gather(feed(writer, data))
    await until(lambda: stage.client.book.live)
    (carrier,) = stage.client.book.live.values()
    await until(lambda: carrier.room < 32_768 and carrier.session.unacknowledged > 1_000_000)
    assert carrier.session.unacknowledged < 4_600_000
    (far,) = stage.server.book.live.values()
    assert far.session.unread < 4_400_000
    gate.set()
    await sending
    writer.write_eof()
    await until(lambda: len(got) == len(data), 30)
    assert digest(got) == digest(data)


async def test_slow_application_stops_the_target(stage):
    data = os.urandom(48_000_000)

    async def send_and_close(_reader, writer):
        await feed(writer, data)

    await stage.pair(send_and_close)
    reader, _ = await stage.app()
    await until(lambda: stage.server.book.live)
    (carrier,) = stage.server.book.live.values()
    await until(lambda: carrier.room < 32_768 and carrier.session.unacknowledged > 1_000_000)
    assert carrier.session.unacknowledged < 4_600_000
    assert digest(await reader.read(-1)) == digest(data)


async def test_idle_sessions_are_ended(stage):
    await stage.pair(idle_timeout=0.2)
    reader, writer = await stage.app()
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)
    await closed_for(stage, "idle")


async def test_pings_give_round_trips(stage):
    await stage.pair(settings=SessionConfig(ping_interval=0.05))
    reader, writer = await stage.app()
    writer.write(b"x")
    await reader.readexactly(1)
    (ours,), (theirs,) = stage.client.book.live.values(), stage.server.book.live.values()
    await until(lambda: ours.session.rtt and theirs.session.rtt)
    before = ours.link.heard_at
    await until(lambda: ours.link.heard_at > before)


async def test_probe_of_a_websocket(stage):
    await stage.pair()
    await stage.app()
    await until(lambda: stage.server.book.linked)
    (carrier,) = stage.server.book.linked
    first, second = await asyncio.gather(carrier.probe(5.0), carrier.probe(5.0))
    assert 0 < first < 5
    assert first == second


async def test_probe_without_answer(stage):
    proxy = await stage.proxied()
    await stage.app()
    await until(lambda: stage.server.book.linked)
    (carrier,) = stage.server.book.linked
    proxy.silent = True
    with pytest.raises(TimeoutError):
        await carrier.probe(0.1)


async def test_drain_is_over_after_a_while(stage, monkeypatch):
    monkeypatch.setattr(carrier_module, "DRAIN_LIMIT", 0.1)
    await stage.pair()
    reader, writer = await stage.app()
    writer.write(b"x")
    await reader.readexactly(1)
    (carrier,) = stage.client.book.live.values()
    carrier.drain()
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)
    await closed_for(stage, "drained")


async def test_many_streams_at_once(stage):
    await stage.pair()

    async def one(number):
        reader, writer = await stage.app()
        data = bytes([number]) * 100_000
        writer.write(data)
        writer.write_eof()
        return await reader.read(-1) == data

    assert all(await asyncio.gather(*map(one, range(60))))
