"""The server against raw WebSocket clients."""

import asyncio
import os
import socket
import struct

import aiohttp
import psutil
import pytest

from rtun_core.errors import BindError, UsageError
from rtun_core.events import FlowClosed, ServiceListening
from rtun_core.net.tls import self_signed
from rtun_core.rtunnel import handshake
from rtun_core.rtunnel import serve as serve_module
from rtun_core.wire.address import Address
from tests.rtunnel.stage import echo, until

HEADER = struct.Struct(">BQQI")
DATA, ACK, FIN = 1, 2, 4


def packet(flag, *, seq=0, ack=0, payload=b"", length=None):
    return HEADER.pack(flag, seq, ack, len(payload) if length is None else length) + payload


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def dial(stage, http):
    """Opens raw WebSockets as the original does: session id, nothing else."""

    async def dial(session_id="s1", path="/", **headers):
        url = f"http://{stage.server.address}{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if session_id is not None:
            named["X-Session-Id"] = session_id
        return await http.ws_connect(url, headers=named)

    return dial


async def status_of(dialling):
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await dialling
    return caught.value.status


async def packets_until(socket, flag):
    """Packets that come, up to one with this flag; the server's probe is answered."""
    got = []
    while not got or got[-1][0] != flag:
        message = await socket.receive(5.0)
        assert message.type is aiohttp.WSMsgType.BINARY
        got.append((*HEADER.unpack_from(message.data), message.data[HEADER.size :]))
    return got


async def test_vectors_of_the_original(stage, dial):
    """Out of order: ACK comes with the first in order only, and the echo is complete."""
    await stage.serve()
    socket = await dial()
    await socket.send_bytes(packet(ACK))
    await socket.send_bytes(packet(DATA, seq=2, payload=b"B"))
    await socket.send_bytes(packet(DATA, seq=1, payload=b"A"))
    kinds = []
    while (DATA, b"AB") not in kinds:
        message = await socket.receive(5.0)
        flag, seq, ack, _ = HEADER.unpack_from(message.data)
        kinds.append((flag, message.data[HEADER.size :]))
        assert (flag, ack) in ((DATA, 0), (ACK, 2))
        assert seq in (0, 1)
    await socket.close()


async def test_text_messages_are_packets_too(stage, dial):
    await stage.serve()
    socket = await dial()
    await socket.send_str(packet(DATA, seq=1, payload=b"hi").decode())
    assert (await packets_until(socket, DATA))[-1]
    await until(lambda: stage.server.book.traffic().up_bytes == 2)


async def test_paths_have_targets(stage, dial):
    async def greet(_reader, writer):
        writer.write(b"other")

    await stage.serve({"": await stage.target(echo), "/other": await stage.target(greet)})
    socket = await dial(path="/other?x=1")
    await socket.send_bytes(packet(DATA, seq=1, payload=b"hi"))
    while not (got := (await packets_until(socket, DATA))[-1])[1]:
        pass
    assert got[-1] == b"other"


async def test_unknown_path_without_a_default(stage, dial):
    await stage.serve({"/only": await stage.target()})
    assert await status_of(dial(path="/")) == 404
    assert stage.server.counters()[1] == {"path": 1}


async def test_plain_requests_and_broken_handshakes(stage, http, dial):
    await stage.serve()
    url = f"http://{stage.server.address}/a"
    async with http.get(url) as response:
        assert response.status == 404
    async with http.get(url, headers={"Upgrade": "websocket", "X-Session-Id": "x"}) as response:
        assert response.status == 400
    assert await status_of(dial(None)) == 400
    assert await status_of(dial("x" * 200)) == 400
    assert stage.server.counters()[1] == {"handshake": 1, "no-session-id": 1, "session-id": 1}


async def test_test_connection(stage, dial, monkeypatch):
    monkeypatch.setattr(serve_module, "TEST_TIME", 0.2)
    await stage.serve()
    socket = await dial("test-connection")
    await socket.ping()
    message = await socket.receive(5.0)
    assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    assert not stage.server.snapshot().tunnels


async def test_token(stage, dial):
    await stage.serve(token=b"secret")
    right = handshake.request_headers("s1", token=b"secret", resume=False)
    wrong = handshake.request_headers("s1", token=b"guess", resume=False)
    assert await status_of(dial("s1")) == 401
    assert await status_of(dial("test-connection")) == 401
    assert await status_of(dial(None, **wrong)) == 401
    socket = await dial(None, **right)
    assert socket._response.headers["X-Rtun-Half-Close"] == "1"
    assert stage.server.counters()[1] == {"token": 3}


async def test_original_client_gets_no_new_headers(stage, dial):
    await stage.serve()
    assert "X-Rtun-Half-Close" not in (await dial())._response.headers


async def test_resume_of_an_unknown_session_is_refused(stage, dial):
    await stage.serve()
    assert await status_of(dial("s1", X_Rtun_Resume="1")) == 410
    await dial("s1")
    await dial("s1", X_Rtun_Resume="1")


async def test_max_sessions(stage, dial):
    await stage.serve(max_sessions=2)
    await dial("a")
    await dial("b")
    assert await status_of(dial("c")) == 503
    await dial("b")
    assert stage.server.counters()[0] == {"max-sessions": 1}


async def test_refused_target_is_told_with_fin(stage, dial):
    dead = Address("127.0.0.1", 1)
    await stage.serve(dead)
    socket = await dial()
    await packets_until(socket, FIN)
    await stage.event(FlowClosed, lambda event: event.reason == "target")


async def test_target_that_does_not_answer(stage, dial, monkeypatch):
    async def never(*_arguments, **_options):
        await asyncio.Event().wait()

    await stage.serve(connect_timeout=0.1)
    socket = await dial()
    await socket.close()
    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never)
    response = await asyncio.to_thread(_upgrade, stage.server.address)
    assert b"101" in response
    await stage.event(FlowClosed, lambda event: event.reason == "target")


def _upgrade(address):
    with socket.create_connection(address) as sock:
        sock.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"X-Session-Id: raw\r\n\r\n"
        )
        sock.settimeout(5)
        got = b""
        while len(got) < 600 and (data := sock.recv(4096)):
            got += data
            if packet(FIN) in got:
                break
        return got


async def test_tombstone_tells_a_client_that_comes_back(stage, dial):
    async def hang_up(reader, writer):
        await reader.read(1)
        writer.close()

    await stage.serve(await stage.target(hang_up))
    socket = await dial()
    await socket.send_bytes(packet(DATA, seq=1, payload=b"x"))
    await stage.event(FlowClosed)
    again = await dial()
    assert [each[0] for each in await packets_until(again, FIN)] == [FIN]


async def test_tombstones_are_bounded_and_swept(stage, dial, monkeypatch):
    monkeypatch.setattr(serve_module, "MAX_TOMBSTONES", 2)
    monkeypatch.setattr(serve_module, "TOMBSTONE_TIME", 0.3)
    await stage.serve(Address("127.0.0.1", 1))
    for name in "abcd":
        await packets_until(await dial(name), FIN)
    await until(lambda: not stage.server.book.live)
    assert len(stage.server._known) <= 2
    await until(lambda: not stage.server._known)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (packet(DATA, seq=1, length=70_000), "oversize"),
        (packet(ACK, ack=99), "ack"),
        (packet(DATA, seq=7, payload=b"x"), "stale"),
        (bytes(200_000), "oversize"),
    ],
)
async def test_bad_packets_end_the_session_and_not_the_server(stage, dial, message, reason):
    await stage.serve()
    socket = await dial()
    await packets_until(socket, DATA)
    if reason != "stale":
        await socket.send_bytes(packet(ACK))
    await socket.send_bytes(message)
    await stage.event(FlowClosed, lambda event: event.reason == reason)
    assert stage.server.counters()[1][reason] == 1
    other = await dial("s2")
    await other.send_bytes(packet(DATA, seq=1, payload=b"hi"))
    assert (await packets_until(other, ACK))[-1][2] == 1


async def test_garbage_that_the_original_skips(stage, dial):
    await stage.serve()
    socket = await dial()
    for message in (
        b"",
        b"x",
        packet(DATA, seq=1, length=5, payload=b"abc"),
        packet(99),
        packet(0),
        packet(3),
    ):
        await socket.send_bytes(message)
    await socket.send_bytes(packet(DATA, seq=1, payload=b"hi") + b"trailing")
    assert (await packets_until(socket, ACK))[-1][2] == 1
    assert stage.server.counters()[1] == {"bad-packet": 3}


async def test_broken_frames_end_the_session(stage, dial):
    await stage.serve()
    socket = await dial()
    socket._response.connection.transport.write(b"\xf3\xff" + os.urandom(50))
    await stage.event(FlowClosed, lambda event: event.reason == "framing")
    assert stage.server.counters()[1] == {"framing": 1}


async def test_pings_are_answered_with_their_payload(stage, http):
    await stage.serve()
    url = f"http://{stage.server.address}/"
    socket = await http.ws_connect(url, headers={"X-Session-Id": "p"}, autoping=False)
    for _ in range(40):
        await socket.ping(b"payload!")
    seen = 0
    while not seen:
        message = await socket.receive(5.0)
        seen += message.type is aiohttp.WSMsgType.PONG and message.data == b"payload!"


async def test_tls(stage, http, tmp_path):
    cert_pem, key_pem = self_signed(["127.0.0.1"])
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(cert_pem)
    key.write_bytes(key_pem)
    await stage.serve(cert=cert, key=key)
    url = f"wss://127.0.0.1:{stage.server.address.port}/"
    await stage.connect(url=url, ca=cert)
    reader, writer = await stage.app()
    data = os.urandom(1_000_000)
    writer.write(data)
    assert await reader.readexactly(len(data)) == data


async def test_half_a_certificate(stage, tmp_path):
    with pytest.raises(UsageError, match="together"):
        await stage.serve(cert=tmp_path / "cert.pem")


async def test_taken_address(stage):
    first = await stage.serve()
    with pytest.raises(BindError, match=str(first.address)):
        await stage.serve(listen=first.address)


async def test_listening_is_told(stage):
    server = await stage.serve()
    event = await stage.event(ServiceListening)
    assert (event.service, event.address) == ("ws-serve", str(server.address))
    assert server.address.port


async def test_stop_before_start(stage):
    server = await stage.serve()
    waiting = asyncio.gather(server.wait(), return_exceptions=True)
    await asyncio.sleep(0)
    await server.stop(drain=True)
    assert isinstance((await waiting)[0], asyncio.CancelledError)


async def test_nothing_is_left_after_500_connections(stage):
    await stage.pair()
    process = psutil.Process()
    reader, writer = await stage.app()
    writer.write(b"x")
    await reader.readexactly(1)
    sockets = process.num_fds()
    tasks = len(asyncio.all_tasks())

    async def one(number):
        reader, writer = await asyncio.open_connection(*stage.client.address)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        if number % 3:
            writer.write_eof()
            assert await reader.read(-1) == b""
            writer.close()
        else:
            writer.transport.abort()

    for start in range(0, 500, 50):
        await asyncio.gather(*map(one, range(start, start + 50)))
    book, far = stage.client.book, stage.server.book
    await until(lambda: len(book.live) == len(far.live) == len(book.linked) == len(far.linked) == 1)
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    await until(lambda: process.num_fds() <= sockets)
    assert not stage.client._dialer._responses
    assert not stage.server._entrance._waiting
    assert len(stage.server._known) == 501
    assert sum(peer.sessions for peer in far.peers.values()) == 1
