import asyncio
from collections import Counter

import aiohttp
import pytest
from aiohttp import web

from rtun_core.rtunnel.entrance import Entrance
from tests.rtunnel.stage import until

PATIENCE = 0.6  # seconds; what has to happen within it takes a hundredth of that on a quiet machine


@pytest.fixture
async def entered():
    """An entrance for two strangers with little patience; it lets in who asks for /in."""
    faults = Counter()

    async def handle(request):
        if request.path == "/in":
            entrance.let_in(request.protocol)
            await asyncio.sleep(PATIENCE + 0.2)
        return web.Response(text="hello")

    entrance = Entrance(handle, limit=2, patience=PATIENCE, on_fault=lambda reason: faults.update([reason]))
    listener = await asyncio.get_running_loop().create_server(entrance.admit, "127.0.0.1", 0)
    entrance.port = listener.sockets[0].getsockname()[1]
    entrance.faults = faults
    yield entrance
    listener.close()
    await entrance.close()


async def stranger(entered):
    return await asyncio.open_connection("127.0.0.1", entered.port)


async def test_idle_strangers_are_shown_out(entered):
    reader, writer = await stranger(entered)
    assert await reader.read(-1) == b""
    writer.close()
    assert entered.faults == {"idle": 1}
    assert len(entered._waiting) == 0


async def test_too_many_strangers(entered):
    first, second = await stranger(entered), await stranger(entered)
    await until(lambda: len(entered._waiting) == 2)
    reader, writer = await stranger(entered)
    assert await reader.read(-1) == b""
    assert entered.faults["flood"] == 1
    for _, each in (first, second, (reader, writer)):
        each.close()
    await until(lambda: len(entered._waiting) == 0)


async def test_who_was_let_in_may_stay(entered):
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{entered.port}/in") as response,
    ):
        assert await response.text() == "hello"
    assert not entered.faults


async def test_close_drops_everybody(entered):
    reader, writer = await stranger(entered)
    await until(lambda: len(entered._waiting) == 1)
    await entered.close()
    assert await reader.read(-1) == b""
    writer.close()
