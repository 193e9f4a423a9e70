"""An engine at a TCP address: who is let in, and what strangers can do."""

import asyncio
import json
import socket

import aiohttp
import pytest

from rtun_core.engine.control_client import ControlClient
from rtun_core.engine.control_place import LOST_AFTER, TcpPlace
from rtun_core.engine.control_routes import MAX_CONNECTIONS, ControlRoutes
from rtun_core.engine.control_tcp import ALLOWANCE, ControlTcpServer
from rtun_core.errors import BindError, RtunError
from rtun_core.events import ConsoleAttached, Notice, ServiceListening
from rtun_core.wire.address import Address

TOKEN = b"0123456789abcdef"
BEARER = {"Authorization": "Bearer 0123456789abcdef"}
LIMIT = 10.0  # seconds for anything to happen


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr("rtun_core.engine.control_tcp.REFUSAL_PAUSE", 0.0)


@pytest.fixture
async def build(engine):
    servers = []

    async def make(host="127.0.0.1"):
        server = ControlTcpServer(Address(host, 0), TOKEN, ControlRoutes(engine))
        await server.start()
        servers.append(server)
        return server

    yield make
    engine.bus.close()
    for server in servers:
        await server.stop()


@pytest.fixture
async def server(build):
    return await build()


@pytest.fixture
async def http(server):
    async with aiohttp.ClientSession(f"http://{server.address}") as session:
        yield session


@pytest.fixture
def faults(engine):
    return lambda: engine.snapshot(fresh=True).faults


async def rest(reader):
    """What comes until the end of the connection."""
    try:
        async with asyncio.timeout(LIMIT):
            return await reader.read()
    except ConnectionError:
        return b""


async def test_the_address_is_told(server, bus):
    assert server.address.port
    told = [each.event for each in bus.after(0) if isinstance(each.event, ServiceListening)]
    assert told == [ServiceListening(service="control", address=f"http://127.0.0.1:{server.address.port}")]
    assert not any(isinstance(each.event, Notice) for each in bus.after(0))


async def test_more_than_loopback_is_warned_of_once(build, bus):
    server = await build("0.0.0.0")
    [notice] = [each.event.text() for each in bus.after(0) if isinstance(each.event, Notice)]
    assert notice.startswith(f"--control-tcp 0.0.0.0:{server.address.port} is plain HTTP: ")
    assert "ssh -L" in notice


async def test_ipv6(build):
    server = await build("::1")
    async with ControlClient(TcpPlace(server.address, TOKEN)) as client:
        await client.check()


async def test_with_the_token_everything_is_answered(server, bus):
    async with ControlClient(TcpPlace(server.address, TOKEN)) as client:
        await client.check()
        assert (await client.snapshot()).services == ("fake",)
        events = [json.loads(line)["type"] async for line in client.events(0, follow=False)]
    assert events[-1] == "service.listening"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer 0123456789abcdeF"},
        {"Authorization": "Bearer 0123456789abcdef "[:-2]},
        {"Authorization": "Basic 0123456789abcdef"},
        {"Authorization": "bearer"},
        {"Authorization": "Bearer \xe9"},
    ],
)
@pytest.mark.parametrize("path", ["/hello", "/snapshot", "/events", "/view", "/command", "/nothing"])
async def test_without_it_nothing_is(http, faults, headers, path):
    ask = http.post if path == "/command" else http.get
    async with ask(path, headers=headers) as response:
        assert response.status == 401
        assert await response.json() == {"ok": False, "error": "the token is missing or wrong"}
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.headers["Connection"] == "close"
    assert faults() == {"control token": 1}


async def test_a_wrong_token_waits_and_holds_up_nobody_else(http, faults, monkeypatch):
    monkeypatch.setattr("rtun_core.engine.control_tcp.REFUSAL_PAUSE", 60.0)
    with pytest.raises(TimeoutError):
        await http.get("/hello", timeout=aiohttp.ClientTimeout(total=0.2))
    assert faults() == {"control token": 1}
    async with http.get("/hello", headers=BEARER) as response:
        assert response.status == 200


async def test_each_request_shows_the_token(http, server, faults):
    async with http.get("/hello", headers=BEARER) as response:
        assert response.status == 200
    async with http.get("/hello") as response:
        assert response.status == 401
    assert faults() == {"control token": 1}


async def test_the_token_goes_into_no_log(http, bus, caplog):
    caplog.set_level("DEBUG")
    wrong = "Bearer fedcba9876543210"
    for headers in ({"Authorization": wrong}, {"Authorization": wrong + "x" * 9000}):
        async with http.get("/hello", headers=headers) as response:
            assert response.status in (400, 401)
    assert "fedcba" not in caplog.text
    assert not any("fedcba" in each.event.text() for each in bus.after(0))


async def test_the_client_says_that_the_token_is_refused(server):
    async with ControlClient(TcpPlace(server.address, TOKEN[::-1])) as client:
        for call in (client.check(), client.snapshot(), anext(client.events())):
            with pytest.raises(RtunError, match=rf"^127\.0\.0\.1:{server.address.port} refuses the token$"):
                await call


async def test_a_viewer_is_named_by_its_address(http, bus, until):
    async with http.ws_connect("/view", headers=BEARER) as link:
        await link.receive()
    await until(lambda: any(isinstance(each.event, ConsoleAttached) for each in bus.after(0)))
    [who] = [each.event.who for each in bus.after(0) if isinstance(each.event, ConsoleAttached)]
    assert who.startswith("attached 127.0.0.1:")


async def test_a_header_that_never_ends(server, faults, monkeypatch):
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"GET /hello HTTP/1.1\r\n")
    server._door.patience = 0.05
    (visitor,) = await visitors(server)
    visitor.wait()
    assert await rest(reader) == b""
    assert faults() == {"control idle": 1}
    writer.close()


async def visitors(server):
    """The connections that have come, once there are some."""
    async with asyncio.timeout(LIMIT):
        while not server._door.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return tuple(server._door.connections)


async def test_a_stranger_may_not_send_much(server, faults):
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"POST /command HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"x" * ALLOWANCE)
    await rest(reader)
    assert set(faults()) <= {"control oversize", "control token"}
    writer.close()


async def test_the_trusted_send_what_they_like(server):
    reader, writer = await asyncio.open_connection(*server.address)
    ask = b"GET /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n" % TOKEN
    for _ in range(ALLOWANCE // len(ask) // 16 + 1):
        writer.write(ask * 16)
        for _ in range(16):
            async with asyncio.timeout(LIMIT):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                [length] = [
                    int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")
                ]
                await reader.readexactly(length)
    writer.close()


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"\x00" * 500, b"SSH-2.0-x\r\n"])
async def test_garbage_is_counted_and_answered_with_little(server, faults, garbage, caplog, until):
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(garbage)
    writer.write_eof()
    assert len(await rest(reader)) < 1000
    await until(lambda: faults() == {"control not http": 1})
    assert not caplog.text
    writer.close()


async def test_connections_have_a_bound(server, faults, until):
    crowd = [await asyncio.open_connection(*server.address) for _ in range(MAX_CONNECTIONS)]
    reader, writer = await asyncio.open_connection(*server.address)
    assert await rest(reader) == b""
    assert faults() == {"control flood": 1}
    for _, each in (*crowd, (reader, writer)):
        each.close()
    await until(lambda: len(server._door) == 0)
    async with ControlClient(TcpPlace(server.address, TOKEN)) as client:
        await client.check()


async def test_an_error_of_ours_is_told_to_the_loop(server, http, monkeypatch):
    def fail(_engine):
        raise ZeroDivisionError("by zero")

    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    monkeypatch.setattr("rtun_core.engine.control_routes.hello_of", fail)
    async with http.get("/hello", headers=BEARER) as response:
        assert response.status == 500
    assert [str(context["exception"]) for context in told] == ["by zero"]
    async with http.get("/nothing", headers=BEARER) as response:
        assert response.status == 404


async def test_a_port_that_is_taken(build, engine):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = ControlTcpServer(Address("127.0.0.1", port), TOKEN, ControlRoutes(engine))
        with pytest.raises(BindError, match=rf"--control-tcp: cannot listen on 127\.0\.0\.1:{port}: "):
            await server.start()
        await server.stop()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="not offered by this system")
async def test_a_lost_machine_is_noticed_at_both_ends(server, monkeypatch):
    guarded = []
    monkeypatch.setattr(
        "rtun_core.engine.control_place.end_when_lost", lambda *guarding: guarded.append(guarding)
    )
    async with ControlClient(TcpPlace(server.address, TOKEN)) as client:
        events = client.events(0)
        await anext(events)
        (visitor,) = server._door.connections
        accepted = visitor.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1000 * LOST_AFTER
        await events.aclose()
    [(ours, limit)] = guarded
    assert (ours.family, limit) == (socket.AF_INET, LOST_AFTER)
