import json

import pytest
from aiohttp import web

from rtun_core.engine.control import listen
from rtun_core.engine.control_place import UnixPlace
from rtun_core.engine.view_link import ViewLink
from rtun_core.engine.view_messages import ViewRequest
from rtun_core.errors import RemoteProtocolError, RtunError
from rtun_core.view.page import ViewSpec

HELLO = {"v": 1, "version": "9.9", "pid": 7, "seq": 3, "services": ["x"]}


@pytest.fixture
async def foreign(tmp_path):
    """An HTTP server on a Unix socket that says on /view what a test wants."""
    runners = []

    async def make(*messages, status=None):
        async def view(request):
            if status is not None:
                return web.Response(status=status)
            link = web.WebSocketResponse()
            await link.prepare(request)
            for message in messages:
                await link.send_str(message if isinstance(message, str) else json.dumps(message))
            await link.close(message=b"enough")
            return link

        app = web.Application()
        app.router.add_get("/view", view)
        runners.append(web.AppRunner(app))
        await runners[-1].setup()
        path = tmp_path / "foreign.sock"
        await web.UnixSite(runners[-1], str(path)).start()
        return path

    yield make
    for runner in runners:
        await runner.cleanup()


async def test_talk(server, bus):
    link = await ViewLink.open(UnixPlace(server.path))
    assert link.hello.seq <= bus.seq
    await link.send(ViewRequest(since=0, look=(ViewSpec(table="agents"),), turn=5))
    assert len((await link.receive()).events) == 2
    assert (await link.receive()).picture.turn == 5
    await link.close()
    with pytest.raises(RtunError):
        await link.send(ViewRequest(since=0))
    with pytest.raises(RtunError):
        await link.receive()


async def test_the_reason_of_the_engine(server, engine):
    link = await ViewLink.open(UnixPlace(server.path))
    await link.send(ViewRequest(since=engine.bus.seq + 99))
    engine.bus.close()
    with pytest.raises(RtunError, match="the engine has ended"):
        await link.receive()
    await link.close()


async def test_nobody_listens(tmp_path):
    listen(tmp_path / "c.sock").close()
    for name in ("c.sock", "nothing.sock"):
        with pytest.raises(RtunError, match=rf"no answer on the control socket .*{name}: "):
            await ViewLink.open(UnixPlace(tmp_path / name))


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (403, "belongs to another user"),
        (404, "belongs to an rtun that is too old to be looked at"),
        (503, "serves as many consoles as it can, or is about to end"),
        (200, r"what answers on the control socket .* is not an rtun \(status 200\)"),
    ],
)
async def test_a_refusal(foreign, status, sentence):
    with pytest.raises(RtunError, match=sentence):
        await ViewLink.open(UnixPlace(await foreign(status=status)))


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("hi", "is no rtun of this version: a message cannot be read"),
        ({"events": []}, "it does not say hello"),
        ({"hello": {"v": 1}}, "a message cannot be read"),
        ({"hello": HELLO | {"v": 2}}, "process 7 is rtun 9.9, which speaks version 2"),
    ],
)
async def test_a_stranger(foreign, message, sentence):
    with pytest.raises(RtunError, match=sentence):
        await ViewLink.open(UnixPlace(await foreign(message)))


async def test_who_accepts_and_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("rtun_core.engine.view_link.OPEN_LIMIT", 0.05)
    with listen(tmp_path / "c.sock"), pytest.raises(RtunError, match=r"no answer .* within 0\.05 s"):
        await ViewLink.open(UnixPlace(tmp_path / "c.sock"))


async def test_garbage_after_hello(foreign):
    link = await ViewLink.open(UnixPlace(await foreign({"hello": HELLO}, '{"picture": 5}', "{}")))
    with pytest.raises(RemoteProtocolError, match="a message cannot be read"):
        await link.receive()
    assert (await link.receive()).picture is None
    with pytest.raises(RtunError, match="enough"):
        await link.receive()
    await link.close()
