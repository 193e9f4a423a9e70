"""HTTP and WebSocket as the programs in the field speak them, and as strangers do."""

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from rtun_core.net.signal_client import list_agents
from rtun_core.signaling.config import ServerLimits

TOKEN = "AAABi8/laADqAx7zedtTcFUXU4ayoaUQBX8KzYhIwGyEScfM3PUNxA"
QUERY = "token=AAABi8%2FlaADqAx7zedtTcFUXU4ayoaUQBX8KzYhIwGyEScfM3PUNxA"
PING = bytes.fromhex("120922070880d095ffbc31")
PONG = bytes.fromhex("12070880d095ffbc31")
OPEN_P2P = bytes.fromhex(
    "1269326722650a4c0a084162436445664768120830313233343536371a3663616e6469646174653a312031"
    "207564702032313330373036313735203139322e302e322e31302034303030302074797020686f7374120a"
    "382e382e382e383a3533187820a20b28f8acd19101"
)
ANSWER_P2P = bytes.fromhex(
    "0a6722650a4c0a085a7a30305a7a3030120837363534333231301a3663616e6469646174653a3220312075"
    "64702032313330373036313735203139322e302e322e32302035303030302074797020686f7374120a382e"
    "382e382e383a3533187820a20b28f8acd19101"
)


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def running(serve):
    return await serve("http")


def url(running, path):
    return f"http://127.0.0.1:{running.port}{path}"


async def test_an_original_agent_and_client(running, http):
    query = f"agent=relay-e2e&{QUERY}&ver=0.2.0.8af2851&expire_in=600000"
    agent = await http.ws_connect(url(running, f"/pub/ws?{query}"))
    assert agent._response.headers["agent_name"] == "relay-e2e"
    async with http.get(url(running, "/pub/sessions")) as response:
        (entry,) = await response.json()
        assert response.content_type == "application/json"
    assert list(entry) == ["name", "addr", "expire_at", "instance_id", "ver"]
    assert (entry["name"], entry["ver"]) == ("relay-e2e", "0.2.0.8af2851")
    path = f"/sub/ws?agent=relay-e2e&instance_id={entry['instance_id']}&{QUERY}"
    client = await http.ws_connect(url(running, path))
    await client.send_bytes(PING)
    assert await client.receive_bytes(timeout=5) == PONG
    await client.send_bytes(OPEN_P2P)
    assert await agent.receive_bytes(timeout=5) == OPEN_P2P
    await agent.send_bytes(b"\x12" + bytes([len(ANSWER_P2P)]) + ANSWER_P2P)
    assert await client.receive_bytes(timeout=5) == b"\x12" + bytes([len(ANSWER_P2P)]) + ANSWER_P2P
    await client.close()
    await agent.close()


async def test_a_new_agent_kicks_an_original_one_with_its_bytes(running, http):
    first = await http.ws_connect(url(running, f"/pub/ws?agent=beta&{QUERY}"))
    second = await http.ws_connect(url(running, f"/pub/ws?agent=beta&{QUERY}"))
    kick = "2a2508ffffffffffffffffff0112187265706c616365206279206f746865722073657373696f6e"
    assert await first.receive_bytes(timeout=5) == bytes.fromhex("1227" + kick)
    await first.send_bytes(bytes.fromhex("120412026f6b"))
    assert (await first.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
    await second.close()
    await first.close()


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/pub/ws", 400, "the query has no token"),
        ("/sub/ws?agent=beta", 400, "the query has no token"),
        (f"/pub/ws?{QUERY}&expire_in=soon", 400, "bad expire_in"),
        (f"/pub/ws?{QUERY}&expire_in=-1", 400, "bad expire_in"),
        (f"/sub/ws?{QUERY}&expire_in=18446744073709551616", 400, "bad expire_in"),
        (f"/pub/ws?{QUERY}&agent=%C3%A4", 400, "does not fit a header"),
        (f"/pub/ws?{QUERY}&agent=a%0D%0Ab", 400, "does not fit a header"),
        ("/pub/ws?token=AAAA", 401, ""),
        ("/sub/ws?token=", 401, ""),
        ("/sub/ws?token=AAABi8/laADqAx7zedtTcFUXU4ayoaUQBX8KzYhIwGyEScfM3PUNxB", 401, ""),
        (f"/sub/ws?{QUERY}&agent=nobody", 404, "not found agent [nobody]"),
        (f"/sub/ws?{QUERY}", 404, "not found agent [local]"),
        (f"/pub/ws?{QUERY}&agent=beta", 400, ""),
        (f"/pub/ws?{QUERY}&agent={'x' * 300}", 503, "bad agent name"),
        ("/", 404, ""),
        ("/pub/ws/", 404, ""),
    ],
)
async def test_statuses_and_texts(running, http, path, status, text):
    async with http.get(url(running, path)) as response:
        body = await response.text()
        assert response.status == status
        assert text in body
        assert status != 401 or body == ""


async def test_other_methods_are_refused(running, http):
    async with http.post(url(running, "/pub/sessions"), data=b"x") as response:
        assert response.status == 405
    assert running.faults == {"unknown path": 1}


async def test_echo_echoes_text(running, http):
    async with http.ws_connect(url(running, "/echo/ws")) as socket:
        await socket.send_str("hello")
        assert await socket.receive_str(timeout=5) == "hello"


async def test_a_text_message_ends_a_session(running, http):
    socket = await http.ws_connect(url(running, f"/pub/ws?{QUERY}&agent=beta"))
    await socket.send_str("hello")
    assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
    await socket.close()
    await running.until(lambda: not running.server.snapshot().agents)


async def test_a_frame_that_is_too_big_ends_a_session(serve, http):
    running = await serve(limits=ServerLimits(max_frame=1000))
    socket = await http.ws_connect(url(running, f"/pub/ws?{QUERY}&agent=beta"), compress=0)
    await socket.send_bytes(b"x" * 2000)
    message = await socket.receive(timeout=5)
    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    await socket.close()
    await running.until(lambda: not running.server.snapshot().agents)


async def test_garbage_packets_end_a_session_and_are_counted(running, http):
    socket = await http.ws_connect(url(running, f"/pub/ws?{QUERY}&agent=beta"))
    await socket.send_bytes(b"\xff\xff")
    assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
    await socket.close()
    await running.until(lambda: running.faults.get("packet"))


async def test_too_many_agents(serve, http):
    running = await serve(limits=ServerLimits(max_agents=1))
    socket = await http.ws_connect(url(running, f"/pub/ws?{QUERY}&agent=beta"))
    await running.until(lambda: running.server.snapshot().agents)
    async with http.get(url(running, f"/pub/ws?{QUERY}&agent=gamma")) as response:
        assert response.status == 503
        assert "too many agents" in await response.text()
    await socket.close()


@asynccontextmanager
async def tcp(running):
    """A plain connection to the port of the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def read_to_end(reader):
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


@pytest.mark.parametrize(("scheme", "fault"), [("http", "idle"), ("https", "tls")])
async def test_an_idle_stranger_is_shown_out(serve, scheme, fault):
    running = await serve(scheme, limits=ServerLimits(unauthenticated_time=0.2))
    async with tcp(running) as (reader, _):
        assert await read_to_end(reader) == b""
    assert running.faults == {fault: 1}


async def test_a_connection_kept_after_an_answer_is_closed_without_blame(serve):
    running = await serve(limits=ServerLimits(unauthenticated_time=0.6))
    async with tcp(running) as (reader, writer):
        writer.write(b"GET /pub/sessions HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_to_end(reader)).endswith(b"[]")
    assert running.faults == {}


async def test_a_stranger_who_sends_a_request_slowly_is_shown_out(serve):
    running = await serve(limits=ServerLimits(unauthenticated_time=0.2))
    async with tcp(running) as (reader, writer):
        writer.write(b"GET /pub/sessions HTTP/1.1\r\nX: ")
        assert await read_to_end(reader) == b""


async def test_a_session_outlives_the_time_for_strangers(serve, register, attach, p2p):
    running = await serve(limits=ServerLimits(unauthenticated_time=1.0))
    await register(running)
    client = await attach(running)
    await asyncio.sleep(1.2)
    assert (await client.request(p2p("x"), timeout=5)).HasField("args")
    assert "idle" not in running.faults


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_garbage_at_the_port_harms_nobody(serve, register, attach, scheme):
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))
    running = await serve(scheme)
    await register(running)
    client = await attach(running)
    for garbage in (
        b"\0" * 100,
        b"\x16\x03\x01\xff\xff" + b"x" * 5000,
        b"GET / HTTP/9\r\n\r\n",
        b"x" * 70000,
    ):
        async with tcp(running) as (reader, writer):
            writer.write(garbage)
            writer.write_eof()
            await read_to_end(reader)
    assert await client.ping(5) < 5
    assert reports == []
    if scheme == "https":
        assert running.faults["tls"] >= 3


async def test_the_number_of_connections_is_bounded(serve):
    running = await serve(limits=ServerLimits(max_connections=2))
    async with tcp(running), tcp(running), tcp(running) as (reader, _):
        assert await read_to_end(reader) == b""
        assert running.faults == {"flood": 1}
    await running.until(lambda: len(running.server._http._door) == 0)
    assert await list_agents(running.endpoint) == []


async def test_h2_is_not_offered(serve, certificate):
    running = await serve("https")
    context = ssl.create_default_context(cafile=certificate[0])
    context.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=context)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    writer.close()
    await writer.wait_closed()


async def test_a_bug_in_an_endpoint_is_reported(running, http, monkeypatch):
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))
    monkeypatch.setattr(running.server._board, "entries", lambda: 1 / 0)
    async with http.get(url(running, "/pub/sessions")) as response:
        assert response.status == 500
    assert isinstance(reports[0]["exception"], ZeroDivisionError)


async def test_it_ends_at_once_although_connections_are_kept(serve):
    running = await serve()
    async with (
        tcp(running) as (asked, asking),
        tcp(running) as (silent, _),
        tcp(running) as (begun, beginning),
    ):
        asking.write(b"GET /pub/sessions HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await asked.readuntil(b"[]")).startswith(b"HTTP/1.1 200")
        beginning.write(b"GET /pub/sessions HTTP/1.1\r\n")
        await running.until(lambda: len(running.server._http._door) == 3)
        async with asyncio.timeout(3):
            await running.server.stop(drain=False)
            for reader in (asked, silent, begun):
                assert await read_to_end(reader) == b""


async def test_it_ends_at_once_although_a_websocket_is_open(serve, http):
    running = await serve()
    socket = await http.ws_connect(url(running, "/echo/ws"))
    async with asyncio.timeout(3):
        await running.server.stop(drain=False)
        message = await socket.receive()
    assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR)
