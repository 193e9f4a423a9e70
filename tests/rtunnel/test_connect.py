"""The client against servers that refuse, are missing, or are slow."""

import asyncio

import pytest
from aiohttp import web

from rtun_core.errors import BindError
from rtun_core.events import AgentLost, AgentSeen, FlowClosed, Notice, ServiceListening
from rtun_core.net.tls import self_signed
from rtun_core.wire.address import Address
from tests.rtunnel.stage import reset, until


@pytest.fixture
async def gate():
    """A server that answers every request with what `answer(request)` returns."""

    class Gate:
        requests = 0

        async def handle(self, request):
            self.requests += 1
            self.last = request
            return await self.answer(request)

        async def answer(self, _request):
            return web.Response(status=418)

    gate = Gate()
    server = web.Server(gate.handle)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    gate.port = listener.sockets[0].getsockname()[1]
    yield gate
    listener.close()
    await server.shutdown(0.1)
    await listener.wait_closed()


async def reset_for(stage, reason):
    reader, writer = await stage.app()
    writer.write(b"x")
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)
    await stage.event(FlowClosed, lambda event: event.reason == reason)


async def test_server_is_looked_for_at_the_start(stage):
    await stage.serve()
    client = await stage.connect()
    await stage.event(AgentSeen, lambda event: event.agent == client.peer.id)
    (agent,) = client.snapshot().agents
    assert agent.rtt_ms > 0
    assert client.snapshot().signal[0].state == "connected"
    event = await stage.event(ServiceListening, lambda event: event.service == "ws-connect")
    assert event.address == str(client.address)


async def test_a_new_session_waits_no_longer_than_it_may(stage):
    """The next try would be a second later or more."""
    await stage.connect(1, connect_timeout=0.4)
    began = asyncio.get_running_loop().time()
    reader, _ = await stage.app()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert 0.3 < asyncio.get_running_loop().time() - began < 0.9


async def test_missing_server_is_told_once(stage):
    client = await stage.connect(1, connect_timeout=0.2)
    notice = await stage.event(Notice)
    assert notice.message == "cannot connect to ws://127.0.0.1:1: Connection refused"
    await reset_for(stage, "unreachable")
    assert len(stage.events(Notice)) == 1
    assert client.snapshot().signal[0].state == "lost"
    assert not stage.events(AgentLost)


@pytest.mark.parametrize("token", [None, b"wrong"])
async def test_wrong_or_missing_token(stage, token):
    await stage.serve(token=b"secret")
    await stage.connect(token=token)
    await reset_for(stage, "unauthorized")
    assert not stage.server.book.live
    assert "token" in stage.events(Notice)[0].message


async def test_right_token(stage):
    await stage.pair(token=b"secret")
    reader, writer = await stage.app()
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"


async def test_refusal_is_tried_again_for_a_while(stage, gate):
    await stage.connect(gate.port, connect_timeout=0.3)
    await reset_for(stage, "status-418")
    assert gate.requests > 3


async def test_server_that_does_not_answer(stage, gate):
    async def never(_request):
        await asyncio.sleep(5)

    gate.answer = never
    await stage.connect(gate.port, connect_timeout=0.2)
    await reset_for(stage, "timeout")


async def test_redirects_are_not_followed(stage, gate):
    async def elsewhere(_request):
        return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})

    gate.answer = elsewhere
    await stage.connect(gate.port, connect_timeout=0.1)
    await stage.event(Notice, lambda event: "redirects to http://127.0.0.1:1/" in event.message)


async def test_headers_path_and_query_are_kept(stage, gate):
    url = f"http://127.0.0.1:{gate.port}/a/b?key=1"
    await stage.connect(url=url, headers=(("X-Gateway", "yes"),), connect_timeout=0.1)
    await until(lambda: gate.requests)
    assert gate.last.raw_path == "/a/b?key=1"
    assert gate.last.headers["X-Gateway"] == "yes"
    assert gate.last.headers["X-Session-Id"] == "test-connection"
    assert "key" not in stage.client.peer.id


async def test_refused_target_resets_the_application(stage):
    await stage.serve(Address("127.0.0.1", 1))
    await stage.connect()
    reader, _ = await stage.app()
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)


async def test_no_websocket_for_an_application_that_is_gone(stage, gate):
    """Also while the dial is under way: the server must not open a target for nobody."""
    arrived = asyncio.Event()

    async def slow(request):
        if request.headers["X-Session-Id"] != "test-connection":
            arrived.set()
        await asyncio.sleep(5)

    gate.answer = slow
    await stage.connect(gate.port)
    _, writer = await stage.app()
    await arrived.wait()
    reset(writer)
    await until(lambda: not stage.client.book.live)
    await until(lambda: not any("session" in task.get_name() for task in asyncio.all_tasks()), 2)


async def test_max_sessions(stage):
    await stage.serve()
    await stage.connect(max_sessions=1)
    reader, writer = await stage.app()
    writer.write(b"x")
    await reader.readexactly(1)
    second, _ = await stage.app()
    with pytest.raises(ConnectionResetError):
        await second.read(-1)
    assert stage.client.counters()[0] == {"max-sessions": 1}


async def test_taken_address(stage):
    await stage.serve()
    with pytest.raises(BindError, match="cannot listen on TCP"):
        await stage.connect(listen=stage.server.address)


async def test_server_that_comes_back(stage):
    """The agent is lost and seen again; new connections work as before."""
    proxy = await stage.proxied()
    await stage.event(AgentSeen, lambda event: event.agent == stage.client.peer.id)
    port, proxy.target = proxy.target, 1
    reader, writer = await stage.app()
    await stage.event(AgentLost)
    proxy.target = port
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    assert len([e for e in stage.events(AgentSeen) if e.agent == stage.client.peer.id]) == 2


async def test_wait_ends_with_stop(stage):
    await stage.serve()
    client = await stage.connect()
    waiting = asyncio.gather(client.wait(), return_exceptions=True)
    await asyncio.sleep(0)
    await client.stop(drain=True)
    assert isinstance((await waiting)[0], asyncio.CancelledError)


async def test_certificate_that_is_not_trusted(stage, tmp_path):
    cert_pem, key_pem = self_signed(["127.0.0.1"])
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(cert_pem)
    key.write_bytes(key_pem)
    await stage.serve(cert=cert, key=key)
    url = f"https://127.0.0.1:{stage.server.address.port}/"
    await stage.connect(url=url)
    await reset_for(stage, "certificate")
    await stage.connect(url=url, insecure=True)
    reader, writer = await stage.app()
    writer.write(b"x")
    assert await reader.readexactly(1) == b"x"
    await stage.connect(connect_timeout=1)
    await reset_for(stage, "unreachable")
