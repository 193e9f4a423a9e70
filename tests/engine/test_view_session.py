import asyncio
import contextlib
import json
import os
import time
from functools import partial

import aiohttp
import pytest

from rtun_core.engine.control import ControlServer
from rtun_core.engine.control_routes import ControlRoutes
from rtun_core.engine.engine import Engine
from rtun_core.engine.simulated import SimulatedWorld
from rtun_core.engine.view_messages import MAX_EVENTS, MAX_REQUEST
from rtun_core.engine.view_session import MAX_VIEWERS
from rtun_core.event import Level
from rtun_core.events import ConsoleLost, Notice
from rtun_core.model import SCHEMA_VERSION

LOOK = '{"since": 0, "interval": 0.1, "look": [{"table": "flows"}, {"table": "agents"}]}'
LIMIT = 10.0  # seconds for anything to happen


@pytest.fixture
def routes(engine):
    return ControlRoutes(engine)


@pytest.fixture
async def server(engine, routes, tmp_path):
    server = ControlServer(tmp_path / "c.sock", routes)
    await server.start()
    yield server
    engine.bus.close()
    await server.stop()


class Looker:
    """A viewer that says what it is told to, and answers pings only when it is."""

    def __init__(self, link):
        self.link = link
        self.hello = None
        self.pings = []

    async def say(self, text):
        await self.link.send_str(text if isinstance(text, str) else json.dumps(text))

    async def hear(self, wanted=None, *, answer=True):
        """The next message of that kind."""
        async with asyncio.timeout(LIMIT):
            while True:
                message = await self.link.receive()
                if message.type is aiohttp.WSMsgType.PING:
                    self.pings.append(message.data)
                    if answer:
                        await self.link.pong(message.data)
                    continue
                assert message.type is aiohttp.WSMsgType.TEXT, message
                [(kind, value)] = json.loads(message.data).items()
                if wanted in (None, kind):
                    return value

    async def closing(self):
        """How the engine closes the link."""
        async with asyncio.timeout(LIMIT):
            while True:
                message = await self.link.receive()
                if message.type is aiohttp.WSMsgType.PING:
                    await self.link.pong(message.data)
                elif message.type is aiohttp.WSMsgType.CLOSE:
                    return message.data, message.extra


@pytest.fixture
async def looker(server, looker_of):
    """Make viewers of the one server."""
    return partial(looker_of, server)


@pytest.fixture
async def looker_of():
    """Make viewers; they have heard hello."""
    sessions, lookers = [], []

    async def make(server):
        connector = aiohttp.UnixConnector(str(server.path))
        sessions.append(aiohttp.ClientSession("http://rtun", connector=connector))
        link = await sessions[-1].ws_connect("/view", autoping=False)
        lookers.append(Looker(link))
        lookers[-1].hello = await lookers[-1].hear("hello")
        return lookers[-1]

    yield make
    for one in lookers:
        one.link._response.close()
    for session in sessions:
        await session.close()


def attached(bus):
    return [each.event.text() for each in bus.after(0) if "console" in each.event.__struct_config__.tag]


async def test_hello_then_events_and_pictures(looker, bus):
    one = await looker()
    assert one.hello["v"] == SCHEMA_VERSION
    assert (one.hello["pid"], one.hello["services"]) == (os.getpid(), ["fake"])
    await one.say(LOOK)
    events = await one.hear()
    assert [event["type"] for event in events] == ["engine.started", "console.attached"]
    picture = await one.hear("picture")
    assert set(picture["pages"]) == {"flows", "agents"}
    assert (await one.hear("picture"))["snapshot"]["ts"] > picture["snapshot"]["ts"]
    assert attached(bus) == [f"attached {os.getpid()} attached"]


async def test_without_since_only_new_events(looker, bus):
    one = await looker()
    await one.say({"interval": 0.1})
    bus.emit(Notice(topic="t", message="new"))
    bus.emit(Notice(topic="t", message="newer"))
    events = await one.hear("events")
    assert "engine.started" not in [event["type"] for event in events]


async def test_a_viewer_that_leaves_is_told(looker, bus, until):
    one = await looker()
    await one.say(LOOK)
    await one.hear("picture")
    await one.link.close()
    await until(lambda: len(attached(bus)) == 2)
    assert attached(bus)[1] == f"attached {os.getpid()} detached: closed by its user"
    assert not bus._subscribers


@pytest.mark.parametrize(("code", "reason"), [(1001, "the terminal is gone"), (1011, "the console failed")])
async def test_a_viewer_that_nobody_closed_is_lost(looker, bus, until, code, reason):
    one = await looker()
    await one.say(LOOK)
    await one.hear("picture")
    await one.link.close(code=code, message=b"\x1b[2J")
    await until(lambda: len(attached(bus)) == 2)
    assert attached(bus)[1] == f"attached {os.getpid()} lost: {reason}"


async def test_a_viewer_that_dies_is_told(looker, bus, until):
    one = await looker()
    await one.say(LOOK)
    await one.hear("picture")
    one.link._response.connection.transport.abort()
    await until(lambda: len(attached(bus)) == 2)
    assert attached(bus)[1] == f"attached {os.getpid()} lost: the link is gone"
    await until(lambda: not bus._subscribers)


async def test_a_slow_viewer_gets_one_picture_and_then_the_newest(looker, bus, engine):
    one = await looker()
    await one.say(LOOK)
    await one.hear("picture", answer=False)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await one.hear(answer=False)
    assert one.pings == [b"1"]
    bus.emit(Notice(topic="t", message="meanwhile"))
    before = time.time()
    await one.link.pong(b"1")
    assert [event["message"] for event in await one.hear("events", answer=False)] == ["meanwhile"]
    assert (await one.hear("picture", answer=False))["snapshot"]["ts"] >= before


async def test_a_viewer_that_never_answers_is_given_up(looker, bus, until, monkeypatch):
    monkeypatch.setattr("rtun_core.engine.view_session.PONG_LIMIT", 0.05)
    one = await looker()
    await one.say(LOOK)
    await one.hear("picture", answer=False)
    await until(lambda: len(attached(bus)) == 2)
    assert "the link is gone" in attached(bus)[1]
    assert not bus._subscribers


async def test_a_very_slow_viewer_is_told_what_it_missed(looker, bus):
    one = await looker()
    await one.say(LOOK)
    await one.hear("picture", answer=False)
    begin = bus.seq
    for number in range(6000):
        bus.emit(Notice(topic="t", message=str(number)))
        await asyncio.sleep(0)
    await one.link.pong(b"1")
    got = []
    while not got or got[-1]["seq"] < begin + 6000:
        got += await one.hear("events")
    lags = [event["skipped"] for event in got if event["type"] == "bus.lagged"]
    notices = [event for event in got if event["type"] == "notice"]
    assert lags
    assert sum(lags) + len(notices) == 6000


async def test_all_of_the_ring_is_told_in_batches(looker, bus):
    for number in range(3 * MAX_EVENTS):
        bus.emit(Notice(topic="t", message=str(number)))
    one = await looker()
    await one.say({"since": 1})
    got = []
    while len(got) < 3 * MAX_EVENTS:
        batch = await one.hear("events")
        assert len(batch) <= MAX_EVENTS
        got += batch
    assert [event["seq"] for event in got[: 3 * MAX_EVENTS]] == list(range(2, 3 * MAX_EVENTS + 2))


async def test_a_bad_filter_is_answered_and_the_session_goes_on(looker):
    one = await looker()
    await one.say({"since": 0, "interval": 0.1, "look": [{"table": "flows", "filter": "dn>"}]})
    error = await one.hear("error")
    assert (error["table"], error["column"]) == ("flows", 3)
    assert (await one.hear("picture"))["pages"]["flows"]["total"] == 0


@pytest.mark.parametrize(
    "garbage", ["{", "{}", '{"look": [{"table": "birds"}]}', '{"since": -1}', b"\xff\x00"]
)
@pytest.mark.parametrize("first", [True, False])
async def test_garbage_ends_the_session_and_is_counted(looker, engine, bus, until, garbage, first):
    one = await looker()
    if not first:
        await one.say(LOOK)
        await one.hear("picture")
    await (one.link.send_bytes(garbage) if isinstance(garbage, bytes) else one.say(garbage))
    code, reason = await one.closing()
    assert code == aiohttp.WSCloseCode.POLICY_VIOLATION
    assert reason.startswith("a message ")
    await until(lambda: len(attached(bus)) == 2)
    assert engine.snapshot(fresh=True).faults == {"view": 1}
    engine.report_counters()
    assert bus.after(0)[-1].event.text() == "peers: 1 view"
    assert (await looker()).hello


async def test_a_message_has_a_bound(looker, engine, until):
    one = await looker()
    with contextlib.suppress(ConnectionError):  # it may be closed before all was sent
        await one.say(json.dumps({"since": 0, "x": "y" * MAX_REQUEST}))
    await until(lambda: engine.snapshot(fresh=True).faults == {"view": 1})


async def test_a_frame_that_is_none(looker, engine, until):
    one = await looker()
    one.link._response.connection.transport.write(b"\xff" * 100)
    await until(lambda: engine.snapshot(fresh=True).faults == {"view": 1})


async def test_who_says_nothing_is_sent_away(looker, monkeypatch, bus, until):
    monkeypatch.setattr("rtun_core.engine.view_session.FIRST_LIMIT", 0.05)
    one = await looker()
    assert await one.closing() == (aiohttp.WSCloseCode.POLICY_VIOLATION, "it never said what it wants")
    await until(lambda: len(attached(bus)) == 2)


async def test_pings_of_the_viewer_are_answered(looker):
    one = await looker()
    await one.link.ping(b"there?")
    async with asyncio.timeout(LIMIT):
        message = await one.link.receive()
    assert (message.type, bytes(message.data)) == (aiohttp.WSMsgType.PONG, b"there?")


async def test_an_error_of_ours_ends_one_session_only(looker, engine, bus, until, monkeypatch):
    one = await looker()

    def fail(*_args, **_fields):
        raise ZeroDivisionError("by zero")

    with monkeypatch.context() as broken:
        broken.setattr("rtun_core.engine.viewer.cut_out", fail)
        await one.say(LOOK)
        code, reason = await one.closing()
        await until(lambda: len(attached(bus)) == 2)
    assert code == aiohttp.WSCloseCode.INTERNAL_ERROR
    assert "by zero" in reason
    assert any("Traceback" in each.event.text() for each in bus.after(0) if isinstance(each.event, Notice))
    (lost,) = (each.event for each in bus.after(0) if isinstance(each.event, ConsoleLost))
    assert lost.failed
    assert lost.severity is Level.ERROR
    assert not engine.stopping
    assert (await looker()).hello


async def test_viewers_have_a_bound(looker, until, routes):
    crowd = [await looker() for _ in range(MAX_VIEWERS)]
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await looker()
    assert caught.value.status == 503
    await crowd[0].link.close()
    await until(lambda: routes.viewers._count < MAX_VIEWERS)
    assert (await looker()).hello


async def test_viewers_see_each_their_own_and_share_snapshots(looker, engine, fake):
    crowd = [await looker() for _ in range(3)]
    [service] = engine._running
    for number, one in enumerate(crowd):
        look = [{"table": "agents", "limit": number + 1}]
        await one.say({"since": 0, "interval": 0.5, "look": look, "turn": number})
    before = service.snapshots
    pictures = [await one.hear("picture") for one in crowd]
    assert [picture["turn"] for picture in pictures] == [0, 1, 2]
    assert service.snapshots - before <= 1


async def test_not_a_websocket(server, routes):
    async with (
        aiohttp.ClientSession("http://rtun", connector=aiohttp.UnixConnector(str(server.path))) as http,
        http.get("/view") as response,
    ):
        assert response.status == 400
    assert routes.viewers._count == 0


async def test_the_end_of_the_engine_is_told(looker, engine, server):
    one = await looker()
    await one.say({"since": engine.bus.seq, "interval": 5.0, "look": []})
    await one.hear("picture")
    await engine.stop()
    engine.bus.close()
    types = []
    while "engine.stopping" not in types:
        types += [event["type"] for event in await one.hear("events")]
    assert await one.closing() == (aiohttp.WSCloseCode.GOING_AWAY, "the engine has ended")
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await looker()


async def test_a_viewer_that_answers_nothing_does_not_hold_up_the_end(looker, engine, server):
    one = await looker()
    await one.say(LOOK)
    await one.hear("picture", answer=False)
    await engine.stop()
    engine.bus.close()
    async with asyncio.timeout(LIMIT):
        await server.stop()


SLOW = "src~[0-9.:]*?[0-9.:]*?[0-9.:]*?x"  # 0.2 ms a flow, 2 s for all of them


class Crowd:
    """Ten thousand flows as a service."""

    name = "relay"

    def __init__(self):
        self.world = SimulatedWorld(flows=10_000, start=1.7e9)

    async def start(self):
        self.world.advance(1.0)

    async def wait(self):
        await asyncio.Event().wait()

    async def stop(self, *, drain):
        pass

    def snapshot(self, *, flows=True):
        return self.world.snapshot(flows=flows)

    def counters(self):
        return {}, {}

    def handles(self, command):
        return False


async def test_no_pattern_of_a_viewer_stalls_the_loop(bus, tmp_path, looker_of):
    engine = Engine([Crowd()], bus)
    await engine.start()
    server = ControlServer(tmp_path / "slow.sock", ControlRoutes(engine))
    await server.start()
    one = await looker_of(server)
    await one.say({"since": 0, "look": [{"table": "flows"}]})
    await one.hear("picture")
    begin = time.thread_time()
    for text, why in (("src~.*?.*?.*?.*?x", "too many"), ("src~([0-9]+)*x", "for ever"), (SLOW, "too long")):
        await one.say({"look": [{"table": "flows", "filter": text}]})
        assert why in (await one.hear("error"))["text"]
        await one.hear("picture")
    # Both ends run on this loop, and a picture of 10,000 flows costs some 2 ms of it.
    assert time.thread_time() - begin < 0.5
    await engine.stop()
    bus.close()
    await server.stop()


async def test_ten_thousand_flows_cost_the_loop_little(bus, tmp_path, looker_of):
    engine = Engine([Crowd()], bus)
    await engine.start()
    server = ControlServer(tmp_path / "many.sock", ControlRoutes(engine))
    await server.start()
    one = await looker_of(server)
    await one.say(
        {
            "since": 0,
            "interval": 0.1,
            "look": [
                {
                    "table": "flows",
                    "filter": "dn>1k",
                    "sort": [{"column": "dn", "descending": True}],
                    "limit": 150,
                },
                {"table": "tunnels"},
                {"table": "agents"},
                {"table": "rules"},
            ],
        }
    )
    costs = [(await one.hear("picture"))["cost"] for _ in range(10)]
    assert sorted(costs)[5] < 0.03  # some 2 ms; ten times that on a busy machine is still no disaster
    assert len((await one.hear("picture"))["pages"]["flows"]["rows"]) == 150
    await engine.stop()
    bus.close()
    await server.stop()
