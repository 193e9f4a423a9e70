"""What is answered, on whatever socket."""

import asyncio
import json
import os

import msgspec
import pytest

from rtun_core import __version__
from rtun_core.engine.control_routes import MAX_REQUEST
from rtun_core.events import Notice
from rtun_core.flow_rows import FlowRows


async def post(http, body):
    async with http.post("/command", data=body) as response:
        return response.status, await response.json()


async def test_hello(http, bus):
    async with http.get("/hello") as response:
        hello = await response.json()
    assert hello == {"v": 1, "version": __version__, "pid": os.getpid(), "seq": bus.seq, "services": ["fake"]}


async def test_snapshot(http):
    async with http.get("/snapshot") as response:
        assert (await response.json())["services"] == ["fake"]


async def test_snapshot_with_the_biggest_flows_only(http, engine, flow):
    [service] = engine._running
    service.view = msgspec.structs.replace(
        service.view, flows=FlowRows.of([flow(number, up=number) for number in range(600)])
    )
    async with http.get("/snapshot") as response:
        whole = await response.json()
    async with http.get("/snapshot", params={"flows": "2"}) as response:
        some = await response.json()
    assert (len(whole["flows"]), whole["flows_total"]) == (600, None)
    assert ([flow["up_bytes"] for flow in some["flows"]], some["flows_total"]) == ([599, 598], 600)
    async with http.get("/snapshot", params={"flows": "many"}) as response:
        assert response.status == 400


async def test_events_from_history_then_live(http, bus):
    async with http.get("/events", params={"since": "0"}) as response:
        first = json.loads(await response.content.readline())
        bus.emit(Notice(topic="t", message="live"))
        second = json.loads(await response.content.readline())
    assert (first["seq"], first["type"]) == (1, "engine.started")
    assert second["message"] == "live"


async def test_events_without_following_end(http, bus):
    bus.emit(Notice(topic="t", message="old"))
    async with http.get("/events", params={"since": "1", "follow": "0"}) as response:
        lines = (await response.read()).splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [2]


async def test_events_end_with_the_bus(http, bus):
    async with http.get("/events") as response:
        bus.close()
        assert await response.read() == b""


async def test_a_reader_that_leaves_is_forgotten(http, bus, until):
    before = len(bus._subscribers)
    async with http.get("/events"):
        await until(lambda: len(bus._subscribers) > before)
    await until(lambda: len(bus._subscribers) == before)


async def test_a_slow_reader_holds_nobody_up_and_is_told(http, bus, until, monkeypatch):
    monkeypatch.setattr("rtun_core.engine.control_routes.HISTORY", 16)
    async with http.get("/events") as response:
        text = "x" * 4000
        for _ in range(2000):
            bus.emit(Notice(topic="t", message=text))
            await asyncio.sleep(0)
        bus.close()
        lines = (await response.read()).splitlines()
    skipped = sum(json.loads(line).get("skipped", 0) for line in lines)
    notices = sum(b'"notice"' in line for line in lines)
    assert skipped > 0
    assert skipped + notices == 2000


@pytest.mark.parametrize("query", ["since=x", "since=-1", "follow=%20", "since=" + "9" * 30])
async def test_bad_numbers(http, query):
    async with http.get(f"/events?{query}") as response:
        assert response.status == 400


async def test_command_done(http):
    want = {"ok": True, "text": "using beta", "data": {"name": "beta"}}
    assert await post(http, b'{"line": "agent use beta"}') == (200, want)
    assert await post(http, b'{"command": "agent.use", "name": "beta"}') == (200, want)


async def test_on_whose_behalf(http, bus):
    for who, query in (("ctl", ""), ("ctl", "?who=ctl"), ("attached", "?who=attached")):
        async with http.post(f"/command{query}", data=b'{"line": "agent use beta"}') as response:
            assert response.status == 200
        assert bus.after(0)[-1].event.who == who
    async with http.post("/command?who=root", data=b'{"line": "agent use beta"}') as response:
        assert response.status == 400
        assert (await response.json())["error"] == "who: 'root' is not accepted; accepted: ctl, attached"


async def test_command_refused(http):
    status, answer = await post(http, b'{"line": "agent probe nobody"}')
    assert (status, answer) == (409, {"ok": False, "error": "agent nobody is not known"})
    status, answer = await post(http, b'{"line": "rule pause r1"}')
    assert status == 409


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[]", b"{}", b'{"line": 5}', b'{"line": "fly"}', b'{"command": "fly"}']
)
async def test_command_that_cannot_be_read(http, body):
    status, answer = await post(http, body)
    assert status == 400
    assert answer["error"]


async def test_a_request_has_a_bound(http):
    async with http.post("/command", data=b" " * (MAX_REQUEST + 1)) as response:
        assert response.status == 413
