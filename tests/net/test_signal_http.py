"""HTTP towards a server that is not there, not ours, or refuses: one sentence each."""

import asyncio
import socket

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from rtun_core.errors import SignalingError, Unauthorized
from rtun_core.net import signal_http, tls
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.wire.signal_json import AgentEntry
from rtun_core.wire.signal_url import parse_signal_url


@pytest.fixture
async def serve():
    """Start a server with this handler; returns its endpoint."""
    servers = []

    async def start(handler, *, context=None, **options):
        server = RawTestServer(handler, scheme="https" if context else "http")
        await server.start_server(ssl=context)
        servers.append(server)
        scheme = options.pop("scheme", server.scheme)
        url = parse_signal_url(f"{scheme}://127.0.0.1:{server.port}/prefix?keep=1")
        return SignalEndpoint(url=url, secret=b"s", **options)

    yield start
    for server in servers:
        await server.close()


def answering(status, body=b"", headers=None):
    async def handler(_request):
        return web.Response(status=status, body=body, headers=headers)

    return handler


async def test_the_list_is_fetched_below_the_path_of_the_url(serve):
    seen = []

    async def handler(request):
        seen.append(str(request.rel_url))
        return web.Response(body=b'[{"name":"beta","addr":"192.0.2.1:1","expire_at":5,"more":1}]')

    endpoint = await serve(handler)
    assert await signal_http.fetch_agents(endpoint, 5) == [AgentEntry("beta", "192.0.2.1:1", 5)]
    assert seen == ["/prefix/pub/sessions?keep=1"]


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (500, b"oops\nmore", "answers with status 500: oops$"),
        (302, b"", "answers with status 302$"),
        (200, b"<html>", "gives no list of agents: bad JSON"),
    ],
)
async def test_a_server_that_gives_no_list(serve, status, body, sentence):
    endpoint = await serve(answering(status, body, {"Location": "http://192.0.2.1/"}))
    with pytest.raises(SignalingError, match=sentence):
        await signal_http.fetch_agents(endpoint, 5)


@pytest.mark.parametrize(
    ("status", "body", "error", "sentence"),
    [
        (401, b"", Unauthorized, "refuses the secret"),
        (404, b"not found agent [x]", SignalingError, r"refuses: not found agent \[x\]$"),
        (404, b"", SignalingError, "answers with status 404$"),
        (400, b"bad\x1b[31m query", SignalingError, r"answers with status 400: bad\[31m query$"),
        (200, b"hello", SignalingError, "answers with status 200$"),
    ],
)
async def test_a_server_that_refuses_the_websocket(serve, status, body, error, sentence):
    endpoint = await serve(answering(status, body))
    with pytest.raises(error, match=sentence):
        await signal_http.connect(endpoint, "/sub/ws", {}, 5)


async def test_the_headers_of_the_handshake_are_returned(serve):
    async def handler(request):
        socket = web.WebSocketResponse()
        socket.headers["agent_name"] = request.query["agent"]
        await socket.prepare(request)
        await socket.send_bytes(b"hello")
        await socket.receive()
        return socket

    endpoint = await serve(handler)
    transport, headers = await signal_http.connect(endpoint, "/pub/ws", {"agent": "b+ä", "token": None}, 5)
    assert headers["agent_name"] == "b+ä"
    assert await transport.recv() == b"hello"
    assert transport.peer.startswith("127.0.0.1:")
    await transport.close()


async def test_a_server_that_does_not_answer(serve):
    over = asyncio.Event()

    async def handler(_request):
        await over.wait()
        return web.Response()

    endpoint = await serve(handler)
    for call in (
        signal_http.fetch_agents(endpoint, 0.1),
        signal_http.connect(endpoint, "/sub/ws", {}, 0.1),
    ):
        with pytest.raises(SignalingError, match=r"no answer from http://127.* within 0\.1 s"):
            await call
    over.set()


async def test_nobody_listens():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    endpoint = SignalEndpoint(url=parse_signal_url(f"http://127.0.0.1:{port}"), secret=b"s")
    with pytest.raises(SignalingError, match=r"cannot connect to http://127.*: Connection refused$"):
        await signal_http.fetch_agents(endpoint, 5)


async def test_an_unknown_name(monkeypatch):
    async def getaddrinfo(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    endpoint = SignalEndpoint(url=parse_signal_url("http://nowhere.invalid"), secret=b"s")
    with pytest.raises(SignalingError, match=r"the name nowhere\.invalid is not resolved: Name or service"):
        await signal_http.fetch_agents(endpoint, 5)


async def test_a_server_that_hangs_up():
    async def hang_up(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint = SignalEndpoint(url=parse_signal_url(f"http://127.0.0.1:{port}"), secret=b"s")
    with pytest.raises(SignalingError, match="hung up without an answer"):
        await signal_http.fetch_agents(endpoint, 5)
    server.close()


async def test_certificates_are_judged(serve, tmp_path):
    pair = tls.CertificatePair(*tls.self_signed(["127.0.0.1"]))
    (tmp_path / "ca.pem").write_bytes(pair.cert_pem)
    handler, context = answering(200, b"[]"), tls.pair_context(pair)
    with pytest.raises(SignalingError, match=r"not trusted: self-signed.*; use --ca FILE or --insecure$"):
        await signal_http.fetch_agents(await serve(handler, context=context), 5)
    for options in ({"ca": tmp_path / "ca.pem"}, {"insecure": True}):
        assert await signal_http.fetch_agents(await serve(handler, context=context, **options), 5) == []


async def test_https_towards_an_http_server(serve):
    endpoint = await serve(answering(200, b"[]"), scheme="https")
    with pytest.raises(SignalingError, match="no TLS with https://"):
        await signal_http.fetch_agents(endpoint, 5)
