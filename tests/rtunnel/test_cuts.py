"""WebSockets that break in the middle, servers that forget, and paths that fall silent."""

import asyncio
import os
import random
import socket

import pytest

from rtun_core.events import FlowClosed, TunnelDegraded
from rtun_core.rtunnel.link import Link
from rtun_core.wire.rtunnel_terms import SessionConfig
from tests.rtunnel.stage import digest, until
from tests.rtunnel.test_carrier import feed


@pytest.mark.parametrize("seed", range(4))
async def test_cut_at_random_bytes_while_bulk_flows(stage, seed):
    rng = random.Random(seed)
    budgets = [rng.randint(1, 900_000) for _ in range(12)]
    proxy = await stage.proxied(budget=lambda: budgets.pop() if budgets else None)
    reader, writer = await stage.app()
    data = rng.randbytes(8_000_000)

    async def send():
        await feed(writer, data)
        writer.write_eof()

    sending = asyncio.gather(send())
    got = await reader.read(-1)
    await sending
    assert digest(got) == digest(data)
    assert proxy.cuts >= 5
    assert stage.events(TunnelDegraded)


async def test_cut_with_a_request_under_way(stage):
    proxy = await stage.proxied()
    reader, writer = await stage.app()
    for number in range(10):
        writer.write(b"%4d" % number)
        proxy.cut()
        assert await reader.readexactly(4) == b"%4d" % number
    (carrier,) = stage.client.book.live.values()
    assert carrier.session.counters.reconnects >= 5


async def test_end_of_stream_while_disconnected(stage):
    proxy = await stage.proxied()
    reader, writer = await stage.app()
    writer.write(b"before")
    assert await reader.readexactly(6) == b"before"
    proxy.cut()
    writer.write(b" after")
    writer.write_eof()
    assert await reader.read(-1) == b" after"


async def test_server_that_forgot_resets_the_application(stage):
    """The second server knows nothing; it must not be given the middle of a stream."""
    proxy = await stage.proxied()
    reader, writer = await stage.app()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    second = await stage.serve(await stage.target())
    proxy.target = second.address.port
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)
    await stage.event(FlowClosed, lambda event: event.reason == "lost")
    assert second.counters()[1]["gone"] == 1
    reader, writer = await stage.app()
    writer.write(b"again")
    assert await reader.readexactly(5) == b"again"


async def test_server_process_that_is_gone_means_lost(stage):
    proxy = await stage.proxied()
    reader, writer = await stage.app()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    proxy.stop_listening()
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)
    await stage.event(FlowClosed, lambda event: event.reason == "lost")


async def test_server_stop_resets_the_application(stage):
    await stage.pair()
    reader, writer = await stage.app()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    await stage.server.stop(drain=True)
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)


async def test_silent_path_is_dropped_and_replaced(stage):
    proxy = await stage.proxied(
        connect_timeout=1.0, settings=SessionConfig(ping_interval=0.1, dead_after=0.5)
    )
    reader, writer = await stage.app()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    proxy.silent = True
    await until(lambda: stage.events(TunnelDegraded))
    writer.write(b"later")
    proxy.silent = False
    assert await reader.readexactly(5) == b"later"


async def test_silent_path_that_is_full_is_dropped_too(stage):
    """The sender is stuck in the middle of a message then, and cannot say goodbye."""
    proxy = await stage.proxied(
        connect_timeout=1.0, settings=SessionConfig(ping_interval=0.1, dead_after=0.5)
    )
    reader, writer = await stage.app()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    proxy.flowing.clear()
    data = os.urandom(9_000_000)
    sending = asyncio.gather(feed(writer, data))
    (carrier,) = stage.client.book.live.values()
    sock = carrier.link.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
    await until(lambda: carrier.link is not None and carrier.link.busy)
    await until(lambda: carrier.link is None)
    proxy.flowing.set()
    assert digest(await reader.readexactly(len(data))) == digest(data)
    await sending


async def test_a_sender_that_gets_stuck_once_the_silence_was_noticed(stage, monkeypatch):
    """It was at rest then, with a transport that is full: even a pong may wait for that."""
    proxy = await stage.proxied(
        connect_timeout=1.0, settings=SessionConfig(ping_interval=0.1, dead_after=0.5)
    )
    reader, writer = await stage.app()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    (carrier,) = stage.client.book.live.values()
    stuck = asyncio.Event()

    async def send_pongs(link):
        if carrier.session.drop_socket:
            await stuck.wait()

    monkeypatch.setattr(Link, "send_pongs", send_pongs)
    proxy.flowing.clear()
    await until(lambda: carrier.link is None)
    monkeypatch.undo()
    stuck.set()
    proxy.flowing.set()
    writer.write(b"later")
    assert await reader.readexactly(5) == b"later"


async def test_session_without_a_websocket_is_given_up(stage):
    settings = SessionConfig(resume_limit=0.3)
    proxy = await stage.proxied(settings=settings)
    reader, writer = await stage.app()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    proxy.target = 1  # nobody is there
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)
    await until(lambda: not stage.server.book.live)
    assert {event.reason for event in stage.events(FlowClosed)} == {"gone"}


async def test_replaced_websocket_does_not_disturb_the_new_one(stage):
    await stage.pair()
    reader, writer = await stage.app()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    (carrier,) = stage.server.book.live.values()
    old = carrier.link
    link, _ = await stage.client._dialer.dial(carrier.session.session_id, resume=True)
    await until(lambda: carrier.link is not old)
    assert carrier.link is not None
    link.abort()
