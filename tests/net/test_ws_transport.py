"""WebSocket packets: one binary message each, everything else ends the session."""

import asyncio

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from rtun_core.errors import SignalingError
from rtun_core.net.ws_transport import WebSocketTransport, accept_websocket, format_peer, peer_of


@pytest.fixture
async def ends():
    """(transport of the server, WebSocket of the client, HTTP session of the client)"""
    accepted = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def handler(request):
        response, transport = await accept_websocket(request, {"agent_name": "beta"}, 1000)
        accepted.set_result(transport)
        await over.wait()
        return response

    server = RawTestServer(handler)
    await server.start_server()
    session = aiohttp.ClientSession()
    socket = await session.ws_connect(server.make_url("/"), compress=0)
    yield await accepted, socket, session
    over.set()
    await socket.close()
    await session.close()
    await server.close()


async def test_binary_messages_are_packets(ends):
    transport, socket, _ = ends
    await socket.send_bytes(b"up")
    assert await transport.recv() == b"up"
    await transport.send(b"down")
    assert (await socket.receive()).data == b"down"
    await socket.send_bytes(b"")
    assert await transport.recv() == b""


async def test_pings_are_answered_unseen(ends):
    transport, socket, _ = ends
    await socket.ping(b"x")
    await socket.send_bytes(b"after")
    assert await transport.recv() == b"after"


async def test_the_peer_and_its_address(ends):
    transport, _, _ = ends
    host, _, port = transport.peer.rpartition(":")
    assert host == "127.0.0.1"
    assert port.isdigit()


async def test_a_text_message_ends_the_session(ends):
    transport, socket, _ = ends
    await socket.send_str("hello")
    for _ in range(2):
        with pytest.raises(SignalingError, match="text message"):
            await transport.recv()


async def test_a_close_frame_ends_the_session(ends):
    transport, socket, _ = ends
    closing = asyncio.get_running_loop().create_task(socket.close(code=4000))
    with pytest.raises(SignalingError, match="closed the WebSocket with code 4000"):
        await transport.recv()
    await closing
    with pytest.raises(SignalingError, match="code 4000"):
        await transport.send(b"x")


async def test_a_message_that_is_too_big_ends_the_session(ends):
    transport, socket, _ = ends
    await socket.send_bytes(b"x" * 1000)
    assert len(await transport.recv()) == 1000
    await socket.send_bytes(b"x" * 1001)
    with pytest.raises(SignalingError, match="WebSocket failed"):
        await transport.recv()


async def test_a_lost_connection_ends_the_session(ends):
    transport, socket, _ = ends
    socket._writer.transport.abort()
    with pytest.raises(SignalingError, match=r"lost|closed"):
        await transport.recv()


async def test_closing_wakes_the_reader(ends):
    transport, socket, _ = ends
    loop = asyncio.get_running_loop()
    reading = loop.create_task(transport.recv())
    answering = loop.create_task(socket.receive())
    await asyncio.sleep(0)
    await transport.close()
    with pytest.raises(SignalingError):
        await reading
    assert (await answering).type is aiohttp.WSMsgType.CLOSE
    with pytest.raises(SignalingError, match="on this side"):
        await transport.send(b"x")
    await transport.close()


async def test_the_client_owns_its_http_session(ends):
    _, socket, session = ends
    transport = WebSocketTransport(socket, "peer", session)
    await transport.close()
    assert session.closed


async def test_a_request_that_is_no_handshake_is_refused():
    async def handler(request):
        return (await accept_websocket(request, {}))[0]

    server = RawTestServer(handler)
    await server.start_server()
    async with aiohttp.ClientSession() as session, session.get(server.make_url("/")) as response:
        assert response.status == 400
    await server.close()


def test_peers_are_written_like_addresses():
    assert format_peer(("192.0.2.1", 53)) == "192.0.2.1:53"
    assert format_peer(("2001:db8::1", 53, 0, 0)) == "[2001:db8::1]:53"
    assert format_peer(None) == "unknown"
    assert peer_of(_Gone()) == "unknown"


class _Gone(web.BaseRequest):
    def __init__(self):
        pass

    transport = None
