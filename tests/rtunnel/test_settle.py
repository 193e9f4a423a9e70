import asyncio
import os
from time import monotonic

from rtun_core.events import FlowClosed
from rtun_core.rtunnel import settle as settle_module
from rtun_core.rtunnel.settle import settle
from tests.rtunnel.stage import until


async def test_drain_lets_bytes_under_way_arrive(stage):
    proxy = await stage.proxied()
    reader, writer = await stage.app()
    writer.write(b"x")
    await reader.readexactly(1)
    proxy.flowing.clear()
    data = os.urandom(1_000_000)
    writer.write(data)
    await until(lambda: stage.client.book.traffic().up_bytes == 1 + len(data))
    asyncio.get_running_loop().call_later(0.1, proxy.flowing.set)
    await stage.client.stop(drain=True)
    assert stage.server.book.traffic().up_bytes == 1 + len(data)
    assert {event.reason for event in stage.events(FlowClosed)} >= {"stopped"}


async def test_without_drain_it_is_quick_and_the_peer_is_told(stage):
    await stage.pair()
    reader, writer = await stage.app()
    writer.write(b"x")
    await reader.readexactly(1)
    begin = monotonic()
    await settle(stage.client.book, drain=False)
    assert monotonic() - begin < 1.0
    await until(lambda: not stage.server.book.live)


async def test_peers_that_take_nothing_do_not_hold_it_up(stage, monkeypatch):
    monkeypatch.setattr(settle_module, "GOODBYE_TIME", 0.1)
    monkeypatch.setattr(settle_module, "DRAIN_TIME", 0.1)
    proxy = await stage.proxied()
    reader, writer = await stage.app()
    writer.write(b"x")
    await reader.readexactly(1)
    proxy.silent = True
    writer.write(b"lost")
    begin = monotonic()
    await stage.client.stop(drain=True)
    assert monotonic() - begin < 1.0
    await until(lambda: not stage.client.book.linked)
