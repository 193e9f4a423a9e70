import ctypes
import errno
import socket
import struct

import numpy as np
import pytest

from rtun_core.net import udp_mmsg
from rtun_core.net.sockaddr import pack_sockaddr
from rtun_core.net.udp_batch import BATCH, ROOM, Spans
from rtun_core.net.udp_mmsg import MmsgIO, _read_overflow
from rtun_core.wire.address import Address

pytestmark = pytest.mark.skipif(not udp_mmsg.available(), reason="no recvmmsg here")


@pytest.fixture
def pair():
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        client.connect(server.getsockname())
        yield server, client


def spans(count, size=8):
    """Datagrams that tell their number by their content, and overlap nowhere."""
    data = np.arange(count * size, dtype=np.uint8)
    return Spans(data, np.arange(count) * size, np.full(count, size))


def test_receives_into_the_rows_asked_for(pair):
    server, client = pair
    io = MmsgIO()
    for payload in (b"one", b"", bytes(ROOM + 1)):
        client.send(payload)
    assert io.receive(server, 5, 2) == 2
    assert io.receive(server, 7, 10) == 1
    assert io.receive(server, 8, 10) == 0
    assert io.error is None
    io.batch.resize(8)
    assert io.batch.sizes[5:] == [3, 0, ROOM]
    assert io.batch.truncated[5:].tolist() == [False, False, True]
    assert io.batch.payload(5) == b"one"
    sender = pack_sockaddr(Address(*client.getsockname()))
    assert {io.batch.names[row].tobytes() for row in (5, 6, 7)} == {sender}


@pytest.mark.parametrize("count", [1, 3, 4, BATCH])
@pytest.mark.parametrize(("named", "peered"), [(False, False), (True, False), (True, True)])
def test_sends_loaded_datagrams_from_any_of_them_on(pair, count, named, peered):
    server, client = pair
    io = MmsgIO()
    name = pack_sockaddr(Address(*server.getsockname()))
    names = np.frombuffer(name * count, np.uint8).reshape(count, 28) if named else None
    datagrams = spans(count)
    io.sender.load(datagrams, names, [7] * count if peered else None)
    first = done = count // 2
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unconnected:
        while done < count:
            done += io.sender.transmit(unconnected if named else client, done, count)
        assert io.receive(server, 0, BATCH) == count - first
    io.batch.resize(count - first)
    assert [*io.batch.spans().payloads()] == [*datagrams.payloads(first)]


def test_a_full_kernel_shows_as_blocking():
    io = MmsgIO()
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        sender.setblocking(False)
        io.sender.load(spans(BATCH), None, None)
        with pytest.raises(BlockingIOError):
            send_until_full(io, sender)


def send_until_full(io, sock):
    for _ in range(10_000):
        io.sender.transmit(sock, 0, BATCH)


@pytest.mark.parametrize("count", [1, 8])
def test_errors_of_the_first_datagram_are_raised(pair, count):
    server, client = pair
    io = MmsgIO()
    server.close()
    client.send(b"x")
    io.sender.load(spans(count), None, None)
    with pytest.raises(ConnectionRefusedError):
        io.sender.transmit(client, 0, count)
    assert io.receive(client, 0, 1) == 0
    client.send(b"x")
    assert io.receive(client, 0, 1) == 0
    assert io.error is not None
    assert io.error.errno == errno.ECONNREFUSED


def test_the_drop_counter_is_found_among_control_messages():
    word = ctypes.sizeof(ctypes.c_size_t)
    header = struct.calcsize("@Nii")

    def message(level, kind, body):
        padding = bytes(-len(body) % word)
        return struct.pack("@Nii", header + len(body), level, kind) + body + padding

    drops = message(socket.SOL_SOCKET, udp_mmsg.SO_RXQ_OVFL, struct.pack("=I", 77))
    other = message(socket.IPPROTO_UDP, 104, struct.pack("=H", 1200))
    assert _read_overflow(drops + bytes(24)) == 77
    assert _read_overflow(other + drops) == 77
    assert _read_overflow(other + bytes(24)) is None
    assert _read_overflow(bytes(64)) is None
    assert _read_overflow(b"") is None
    assert _read_overflow(struct.pack("@Nii", 1 << 40, 1, 1)) is None


def test_other_systems_are_told_apart(monkeypatch):
    monkeypatch.setattr(udp_mmsg.sys, "platform", "darwin")
    assert not udp_mmsg.available()
