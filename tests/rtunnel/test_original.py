"""Both services against the model of the original program, over real WebSockets."""

import asyncio
import os
import random

import pytest

from rtun_core.events import FlowClosed
from rtun_core.wire.address import Address
from rtun_core.wire.rtunnel_terms import SessionConfig
from tests.rtunnel.original import OriginalServer, original_client
from tests.rtunnel.stage import digest, until
from tests.rtunnel.test_carrier import feed
from tests.wire.rtunnel_go_peer import GoPeer

QUICK = SessionConfig(eof_grace=0.1)


@pytest.fixture
async def original(stage):
    """Starts an original server whose targets do what `prepare(peer)` says, and our client to it."""

    async def start(prepare=lambda peer: None):
        server = OriginalServer(prepare)
        port = await server.start()
        stage._closing.append(server.close)
        await stage.connect(port, settings=QUICK)
        return server

    return start


async def test_our_client_uploads(stage, original):
    server = await original()
    _, writer = await stage.app()
    data = os.urandom(4_000_000)
    await feed(writer, data)
    await until(lambda: server.peers)
    (peer,) = server.peers.values()
    await until(lambda: len(peer.delivered) == len(data), 30)
    assert digest(peer.delivered) == digest(data)
    writer.write_eof()
    await until(lambda: peer.closed)
    assert not peer.frozen
    (tunnel,) = (event for event in stage.events(FlowClosed))
    assert tunnel.reason == "done"


async def test_our_client_downloads(stage, original):
    data = os.urandom(4_000_000)
    server = await original(lambda peer: peer.source.extend(data))
    reader, writer = await stage.app()
    assert digest(await reader.readexactly(len(data))) == digest(data)
    (peer,) = server.peers.values()
    peer.close_tcp()
    assert await reader.read(-1) == b""
    writer.close()
    await stage.event(FlowClosed, lambda event: event.reason == "eof")
    assert not peer.frozen
    assert "X-Rtun-Resume" not in server.headers[0]


@pytest.mark.parametrize("seed", range(3))
async def test_our_client_through_cuts(stage, original, seed):
    rng = random.Random(seed)
    down = rng.randbytes(2_000_000)
    server = await original(lambda peer: peer.source.extend(down))
    reader, writer = await stage.app()
    up = rng.randbytes(2_000_000)
    sending = asyncio.gather(feed(writer, up))
    receiving = asyncio.gather(reader.readexactly(len(down)))
    await until(lambda: server.peers)
    (peer,) = server.peers.values()
    for _ in range(4):
        mark = len(peer.delivered) + rng.randint(1, 300_000)
        await until(lambda mark=mark: len(peer.delivered) >= min(mark, len(up)), 30)
        count = len(server.sockets)
        server.sockets[-1].abort()
        await until(lambda count=count: len(server.sockets) > count)
    await sending
    await until(lambda: len(peer.delivered) == len(up), 30)
    assert digest((await receiving)[0]) == digest(down)
    assert digest(peer.delivered) == digest(up)
    assert not peer.frozen
    assert peer.duplicates == 0


async def test_our_client_finds_out_that_the_original_forgot(stage, original):
    server = await original()
    reader, writer = await stage.app()
    writer.write(b"hello")
    await until(lambda: server.peers and next(iter(server.peers.values())).delivered)
    server.peers.clear()
    server.sockets[-1].abort()
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)
    (fresh,) = server.peers.values()
    assert not fresh.frozen
    assert not fresh.delivered


async def test_original_client_echo(stage):
    await stage.serve(settings=QUICK)
    peer = GoPeer(random.Random(1))
    data = os.urandom(2_000_000)
    peer.source += data
    session = asyncio.gather(
        original_client(
            peer, f"http://{stage.server.address}/", done=lambda: len(peer.delivered) >= len(data)
        )
    )
    await session
    assert digest(peer.delivered) == digest(data)
    assert not peer.frozen
    assert peer.duplicates == 0


async def test_original_client_gets_all_of_a_target_that_closes(stage):
    data = os.urandom(3_000_000)

    async def send_and_close(_reader, writer):
        await feed(writer, data)

    await stage.serve(await stage.target(send_and_close), settings=QUICK)
    peer = GoPeer(random.Random(2))
    await original_client(peer, f"http://{stage.server.address}/", done=lambda: False)
    assert digest(peer.delivered) == digest(data)
    await stage.event(FlowClosed, lambda event: event.reason == "done")


@pytest.mark.parametrize("seed", range(3))
async def test_original_client_through_cuts(stage, seed):
    """The original loses what was in flight when nothing arms its timer; our probe and nudge get it back."""
    rng = random.Random(seed)
    await stage.serve(settings=QUICK)
    peer = GoPeer(rng)
    data = rng.randbytes(2_000_000)
    peer.source += data
    session = asyncio.gather(
        original_client(
            peer, f"http://{stage.server.address}/", done=lambda: len(peer.delivered) >= len(data)
        )
    )
    for _ in range(4):
        mark = len(peer.delivered) + rng.randint(1, 300_000)
        await until(lambda mark=mark: len(peer.delivered) >= min(mark, len(data)), 30)
        for carrier in stage.server.book.linked:
            carrier.cut()
    async with asyncio.timeout(30):
        await session
    assert digest(peer.delivered) == digest(data)
    assert not peer.frozen


async def test_original_client_that_is_refused_gets_fin(stage):
    await stage.serve(Address("127.0.0.1", 1))
    peer = GoPeer(random.Random(3))
    async with asyncio.timeout(5):
        await original_client(peer, f"http://{stage.server.address}/", done=lambda: False)
    assert peer.closed
