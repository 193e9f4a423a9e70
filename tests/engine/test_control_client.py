import json

import msgspec
import pytest
from aiohttp import web

from rtun_core.commands import OpenTunnel, ProbeAgent, SwitchAgent
from rtun_core.engine.control import ControlServer, listen
from rtun_core.engine.control_client import ControlClient, decode_event
from rtun_core.engine.control_place import UnixPlace
from rtun_core.engine.control_routes import MAX_REQUEST, ControlRoutes
from rtun_core.errors import CommandRefused, RtunError
from rtun_core.event import Stamped, event_json
from rtun_core.events import Notice


@pytest.fixture
async def client(engine, tmp_path):
    server = ControlServer(tmp_path / "c.sock", ControlRoutes(engine))
    await server.start()
    async with ControlClient(UnixPlace(server.path)) as client:
        yield client
    engine.bus.close()
    await server.stop()


async def test_hello_and_snapshot(client, bus):
    hello = await client.hello()
    assert (hello.services, hello.seq) == (("fake",), bus.seq)
    assert (await client.snapshot()).services == ("fake",)
    assert json.loads(await client.snapshot_bytes())["pid"] == hello.pid


async def test_snapshot_with_some_flows(client, engine, flow):
    [service] = engine._running
    service.view = msgspec.structs.replace(service.view, flows=tuple(flow(number) for number in range(5)))
    picture = await client.snapshot(flows=2)
    assert (len(picture.flows), picture.flows_total) == (2, 5)
    assert len((await client.snapshot()).flows) == 5


async def test_a_command_that_is_too_long(client):
    with pytest.raises(RtunError, match="the other rtun answered with 413"):
        await client.command(SwitchAgent(name="x" * MAX_REQUEST))


async def test_a_command_for_somebody(client, bus):
    await client.command(SwitchAgent(name="beta"), who="attached")
    assert bus.after(0)[-1].event.who == "attached"


async def test_events_that_were(client, bus):
    bus.emit(Notice(topic="t", message="x"))
    lines = [line async for line in client.events(0, follow=False)]
    assert [json.loads(line)["type"] for line in lines] == ["engine.started", "notice"]


async def test_events_that_come(client, bus, until):
    stream = client.events()
    before = len(bus._subscribers)

    async def speak():
        await until(lambda: len(bus._subscribers) > before)
        bus.emit(Notice(topic="t", message="x" * 200_000))
        bus.close()

    import asyncio

    async with asyncio.TaskGroup() as group:
        group.create_task(speak())
        lines = [line async for line in stream]
    assert len(lines) == 1
    assert len(json.loads(lines[0])["message"]) == 200_000


async def test_command(client):
    result = await client.command(SwitchAgent(name="beta"))
    assert (result.text, result.data) == ("using beta", {"name": "beta"})
    with pytest.raises(CommandRefused, match="agent nobody is not known"):
        await client.command(ProbeAgent(name="nobody"))
    with pytest.raises(CommandRefused, match="'tunnel open' is not a command of this process"):
        await client.command(OpenTunnel())


async def test_a_server_that_went_away(tmp_path):
    path = tmp_path / "c.sock"
    listen(path).close()
    async with ControlClient(UnixPlace(path)) as client:
        for call in (client.hello(), client.command(OpenTunnel()), anext(client.events())):
            with pytest.raises(RtunError, match="no answer on the control socket"):
                await call


@pytest.fixture
async def answering(tmp_path):
    """A place where `/hello` is answered as a test wants."""
    runners = []

    async def make(text, status=200):
        async def hello(_request):
            return web.Response(text=text, status=status)

        app = web.Application()
        app.router.add_get("/hello", hello)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, str(tmp_path / "other.sock")).start()
        runners.append(runner)
        return UnixPlace(tmp_path / "other.sock")

    yield make
    for runner in runners:
        await runner.cleanup()


async def test_who_is_there_is_an_rtun_of_this_version(client):
    await client.check()


@pytest.mark.parametrize(
    ("text", "status", "sentence"),
    [
        ("<html>", 200, r"what answers on the control socket .* is not an rtun"),
        ("{}", 404, r"what answers on the control socket .* is not an rtun"),
        ("", 401, r"the control socket .* refuses the token"),
        ("not yours", 403, r"the other rtun answered with 403: not yours"),
        (
            '{"v": 2, "version": "9.9", "pid": 7, "seq": 0, "services": []}',
            200,
            r"process 7 is rtun 9\.9, which speaks version 2 of the control protocol",
        ),
    ],
)
async def test_who_is_there_is_somebody_else(answering, text, status, sentence):
    async with ControlClient(await answering(text, status)) as client:
        with pytest.raises(RtunError, match=sentence):
            await client.check()


async def test_use_outside_of_async_with(tmp_path):
    with pytest.raises(RuntimeError, match="async with"):
        await ControlClient(UnixPlace(tmp_path)).hello()


def test_decode_event_is_the_inverse_of_the_json_form():
    stamped = Stamped(3, 1_700_000_000.125, 1.5, Notice(topic="t", message="m"))
    assert decode_event(event_json(stamped)) == stamped


def test_decode_event_of_a_newer_version():
    line = event_json(Stamped(3, 0.0, 1.5, Notice(topic="t", message="m"))).replace(b"notice", b"flow.sung")
    assert decode_event(line) is None


@pytest.mark.parametrize("line", [b"", b"{}", b"\xff", b'{"seq":1,"ts":"x","mono":1,"type":"notice"}'])
def test_decode_event_of_something_else(line):
    with pytest.raises(RtunError, match="cannot be read"):
        decode_event(line)
