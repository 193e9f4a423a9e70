"""Many connections on one UDP port: connection ids, strangers, limits, and another certificate."""

import asyncio
import os
import socket
from collections import Counter

import pytest

from rtun_core.errors import SignalingError
from rtun_core.net import tls
from rtun_core.net.endpoint import SignalEndpoint
from rtun_core.net.quic_server import AcceptLimits, QuicAcceptor
from rtun_core.net.quic_transport import connect_quic
from rtun_core.net.udp import UdpSocket
from rtun_core.wire.address import Address
from rtun_core.wire.signal_url import parse_signal_url

LIMITS = AcceptLimits(connections=3, first_bytes=1000, max_frame=1 << 20)


class Server:
    """An acceptor and what it reported."""

    def __init__(self):
        self.streams = asyncio.Queue()
        self.faults = Counter()
        self.fault = asyncio.Event()
        self.acceptor = QuicAcceptor(
            UdpSocket.open(local=Address("127.0.0.1", 0)),
            tls.CertificatePair(*tls.self_signed(["localhost", "127.0.0.1"])),
            LIMITS,
            on_stream=self.streams.put_nowait,
            on_fault=self.on_fault,
        )
        self.acceptor.start()
        self.port = self.acceptor.address.port

    def on_fault(self, word):
        self.faults[word] += 1
        self.fault.set()

    async def until(self, word):
        while not self.faults[word]:
            self.fault.clear()
            await asyncio.wait_for(self.fault.wait(), 5)

    async def connect(self, **options):
        options = options or {"insecure": True}
        url = parse_signal_url(f"quic://127.0.0.1:{self.port}")
        return await connect_quic(SignalEndpoint(url=url, secret=b"s", **options), timeout=5)


@pytest.fixture
async def server():
    server = Server()
    yield server
    server.acceptor.close()


@pytest.fixture
def stranger(server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", server.port))
        sock.setblocking(False)
        yield sock


async def test_connections_are_told_apart(server):
    clients = [await server.connect() for _ in range(3)]
    streams = [await server.streams.get() for _ in range(3)]
    for number, client in enumerate(clients):
        await client.send(b"hello %d" % number)
    for number, stream in enumerate(streams):
        assert await stream.recv() == b"hello %d" % number
        await stream.send(b"welcome %d" % number)
    for number, client in enumerate(clients):
        assert await client.recv() == b"welcome %d" % number
        await client.close()
    for stream in streams:
        with pytest.raises(SignalingError, match="peer closed"):
            await asyncio.wait_for(stream.recv(), 5)
    assert len(server.acceptor) == 0
    assert server.acceptor._by_id == {}


async def test_the_number_of_connections_is_bounded(server):
    clients = [await server.connect() for _ in range(3)]
    extra = asyncio.get_running_loop().create_task(server.connect())
    await server.until("flood")
    extra.cancel()
    with pytest.raises(asyncio.CancelledError):
        await extra
    await clients[0].close()
    await (await server.connect()).close()
    for client in clients:
        await client.close()


async def test_the_stream_of_a_stranger_is_bounded(server):
    client = await server.connect()
    stream = await server.streams.get()
    await client.send(b"x" * 1000)
    with pytest.raises(SignalingError, match="before the token"):
        await stream.recv()
    assert stream.fault == "oversize"
    await client.close()


@pytest.mark.parametrize(
    ("datagram", "word"),
    [
        (b"\x00", "stray"),  # too short for a connection id is garbage or stray, never an error
        (b"\x40" + bytes(30), "stray"),
        (b"\xff" * 1300, "garbage"),
        (b"\xc0\0\0\0\x01\x08" + bytes(8) + b"\x08" + bytes(8) + b"\0\x40\x10" + bytes(20), "stray"),
        (b"\xe0\0\0\0\x01\x08" + bytes(8) + b"\x08" + bytes(8) + b"\x44\xd0" + bytes(1232), "stray"),
        (b"\x80\0\0\0\0\x08" + bytes(8) + b"\x08" + bytes(8) + bytes(4) * 300, "stray"),
    ],
)
async def test_garbage_is_counted(server, stranger, datagram, word):
    stranger.send(datagram)
    while not server.faults:
        server.fault.clear()
        await asyncio.wait_for(server.fault.wait(), 5)
    assert set(server.faults) <= {word, "garbage"}
    assert len(server.acceptor) == 0


async def test_random_datagrams_never_raise(server, stranger):
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))
    for size in range(0, 1500, 7):
        stranger.send(os.urandom(size))
    stranger.send(b"\xc0\0\0\0\x01\x08" + os.urandom(8) + b"\x00\x00\x44\xd0" + os.urandom(1300))
    client = await server.connect()
    await client.close()
    assert reports == []


async def test_an_unknown_version_gets_a_list_of_ours(server, stranger):
    reader = asyncio.get_running_loop()
    datagram = b"\xc0\x1a\x2a\x3a\x4a\x04own1\x04src1" + bytes(1200)
    stranger.send(datagram)
    answer = await asyncio.wait_for(reader.sock_recv(stranger, 2000), 5)
    assert answer[1:15] == b"\0\0\0\0\x04src1\x04own1"
    assert b"\0\0\0\x01" in answer[15:]
    stranger.send(datagram[:100])
    await server.until("stray")


async def test_another_certificate_serves_the_next_connection(server, tmp_path):
    first = await server.connect()
    pair = tls.CertificatePair(*tls.self_signed(["127.0.0.1"]))
    (tmp_path / "ca.pem").write_bytes(pair.cert_pem)
    with pytest.raises(SignalingError, match="not trusted"):
        await server.connect(ca=tmp_path / "ca.pem")
    server.acceptor.install(pair)
    second = await server.connect(ca=tmp_path / "ca.pem")
    await first.send(b"still here")
    assert await (await server.streams.get()).recv() == b"still here"
    await first.close()
    await second.close()


async def test_closing_tells_the_clients(server):
    client = await server.connect()
    server.acceptor.close()
    with pytest.raises(SignalingError, match="server stops"):
        await asyncio.wait_for(client.recv(), 5)
