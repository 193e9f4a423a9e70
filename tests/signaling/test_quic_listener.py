"""QUIC as the programs in the field speak it, through aioquic's own client, and as strangers do."""

import asyncio
import os
import socket
import ssl
from contextlib import asynccontextmanager

import pytest
from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration

from rtun_core.net.signal_client import list_agents
from rtun_core.signaling.config import ServerLimits
from rtun_core.wire.frames import encode_frame

TOKEN = "AAABi8/laADqAx7zedtTcFUXU4ayoaUQBX8KzYhIwGyEScfM3PUNxA"
PUB = bytes.fromhex("0000009f") + (
    b'{"kind":"pub","agent":"relay-e2e","token":"%s","expire_in":600000,'
    b'"instance_id":null,"ver":"0.2.0.8af2851"}' % TOKEN.encode()
)
PUB_OK = bytes.fromhex(
    "0000003c7b226b696e64223a22707562222c22636f6465223a302c22726561736f6e223a22222c226167656e745f"
    "6e616d65223a2272656c61792d653265227d"
)
SUB = encode_frame(
    b'{"kind":"sub","agent":"relay-e2e","token":"%s","expire_in":null,"instance_id":null,"ver":null}'
    % TOKEN.encode()
)
SUB_OK = bytes.fromhex("000000237b226b696e64223a22737562222c22636f6465223a302c22726561736f6e223a22227d")
SESSIONS = bytes.fromhex("000000137b226b696e64223a2273657373696f6e73227d")
PING = bytes.fromhex("0000000b120922070880d095ffbc31")
PONG = bytes.fromhex("0000000912070880d095ffbc31")
OPEN_P2P = bytes.fromhex(
    "0000006b1269326722650a4c0a084162436445664768120830313233343536371a3663616e6469646174653a312031"
    "207564702032313330373036313735203139322e302e322e31302034303030302074797020686f7374120a"
    "382e382e382e383a3533187820a20b28f8acd19101"
)
BOOM = bytes.fromhex("000000151213121108ffffffffffffffffff011204626f6f6d")


@pytest.fixture
async def running(serve):
    return await serve("quic")


@asynccontextmanager
async def client(running, **options):
    """A stock client: its reader and writer of stream 0."""
    configuration = QuicConfiguration(is_client=True, verify_mode=ssl.CERT_NONE, **options)
    async with connect("127.0.0.1", running.port, configuration=configuration) as protocol:
        reader, writer = await protocol.create_stream()
        yield reader, writer
        writer.close()


async def frame(reader):
    async with asyncio.timeout(10):
        prefix = await reader.readexactly(4)
        return prefix + await reader.readexactly(int.from_bytes(prefix, "big"))


async def rest(reader):
    async with asyncio.timeout(10):
        return await reader.read()


async def test_an_original_agent_and_client(running):
    async with client(running) as (agent, to_agent), client(running) as (reader, writer):
        to_agent.write(PUB)
        assert await frame(agent) == PUB_OK
        writer.write(SUB)
        assert await frame(reader) == SUB_OK
        writer.write(PING)
        assert await frame(reader) == PONG
        writer.write(OPEN_P2P)
        assert await frame(agent) == OPEN_P2P
        to_agent.write(BOOM)
        assert await frame(reader) == BOOM


async def test_the_list_ends_the_stream(running, register):
    await register(running, "beta")
    async with client(running) as (reader, writer):
        writer.write(SESSIONS)
        answer = await rest(reader)
    assert answer[4:].startswith(
        b'{"kind":"sessions","code":0,"reason":"","sessions":[{"name":"beta","addr":"'
    )
    assert answer == encode_frame(answer[4:])


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (
            b'{"kind":"sub","token":"AAAA"}',
            b'{"kind":"sub","code":-1,"reason":"unauthorized: token too short"}',
        ),
        (
            b'{"kind":"pub","token":"!"}',
            b'{"kind":"pub","code":-1,"reason":"unauthorized: invalid token","agent_name":null}',
        ),
        (
            b'{"token":"%s","kind":"sub","more":1}' % TOKEN.encode(),
            b'{"kind":"sub","code":-1,"reason":"not found agent [local]"}',
        ),
        (
            b'{"kind":"sub","agent":"x","token":"%s"}' % TOKEN.encode(),
            b'{"kind":"sub","code":-1,"reason":"not found agent [x]"}',
        ),
    ],
)
async def test_refusals_have_their_bytes_and_end_the_stream(running, request_, answer):
    async with client(running) as (reader, writer):
        writer.write(encode_frame(request_))
        assert await rest(reader) == encode_frame(answer)


@pytest.mark.parametrize(
    ("bytes_", "fault"),
    [
        (encode_frame(b"{}"), "json"),
        (encode_frame(b'{"kind":"sub"}'), "json"),
        (encode_frame(b"\xff\xfe"), "json"),
        (encode_frame(b""), "json"),
        (b"\x01\0\0\x01", "oversize"),
        (b"\0\x01\0\x00" + b"x" * 66000, "oversize"),
    ],
)
async def test_what_is_no_request_gets_no_answer(running, bytes_, fault):
    async with client(running) as (reader, writer):
        writer.write(bytes_)
        assert await rest(reader) == b""
    assert running.faults[fault] == 1


async def test_a_stream_that_ends_inside_a_frame(running):
    async with client(running) as (reader, writer):
        writer.write(b"\0\0\0\x13{")
        writer.write_eof()
        assert await rest(reader) == b""
    await running.until(lambda: running.faults.get("truncated"))


async def test_an_idle_stranger_is_shown_out(serve):
    running = await serve("quic", limits=ServerLimits(unauthenticated_time=0.3))
    async with client(running) as (reader, writer):
        writer.write(b"\0")
        assert await rest(reader) == b""
    assert running.faults == {"idle": 1}


async def test_a_handshake_that_never_ends_is_shown_out(serve):
    running = await serve("quic", limits=ServerLimits(unauthenticated_time=0.2))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", running.port))
        sock.send(b"\xc0\0\0\0\x01\x08" + os.urandom(8) + b"\x00\x00\x44\xd0" + os.urandom(1300))
        await running.until(lambda: running.faults.get("idle"))
    assert len(running.server._quic._acceptor) == 0


async def test_a_session_outlives_the_time_for_strangers(serve, register, attach, p2p):
    running = await serve("quic", limits=ServerLimits(unauthenticated_time=1.0))
    await register(running)
    session = await attach(running)
    await asyncio.sleep(1.2)
    assert (await session.request(p2p("x"), timeout=5)).HasField("args")


async def test_a_trusted_peer_may_send_big_packets(serve, register, attach, p2p):
    running = await serve("quic", limits=ServerLimits(first_frame=1000))
    await register(running)
    session = await attach(running)
    answer = await session.request(p2p("x" * 300_000), timeout=10)
    assert len(answer.args.udp_relay.target_addr) == 300_000


async def test_a_frame_that_is_too_big_ends_a_session(running):
    async with client(running) as (agent, to_agent):
        to_agent.write(PUB)
        await frame(agent)
        to_agent.write(b"\x01\0\0\x01")
        assert await rest(agent) == b""
    assert await list_agents(running.endpoint) == []
    await running.until(lambda: running.faults.get("oversize"))


async def test_garbage_at_the_port_harms_nobody(running, register, attach):
    await register(running)
    session = await attach(running)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", running.port))
        for size in (1, 20, 1200, 1472):
            sock.send(os.urandom(size))
            sock.send(b"\xc0\x1a\x2a\x3a\x4a" + os.urandom(size))
    assert await session.ping(5) < 5
    await running.until(lambda: sum(running.faults.values()) >= 1)
