import errno
import socket

import pytest

from rtun_core.net.sockaddr import pack_sockaddr
from rtun_core.net.udp_batch import BATCH, ROOM
from rtun_core.net.udp_plain import PlainIO
from rtun_core.wire.address import Address


@pytest.fixture
def pair():
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        client.connect(server.getsockname())
        server.setblocking(False)
        client.setblocking(False)
        yield server, client


def test_receives_into_the_rows_asked_for(pair):
    server, client = pair
    io = PlainIO()
    for payload in (b"one", b"", bytes(ROOM + 1)):
        client.send(payload)
    assert io.receive(server, BATCH - 3, 2) == 2
    assert io.receive(server, BATCH - 1, 1) == 1
    assert io.receive(server, 0, BATCH) == 0
    assert io.error is None
    io.batch.resize(BATCH)
    assert io.batch.sizes[-3:] == [3, 0, ROOM]
    assert io.batch.truncated[-3:].tolist() == [False, False, True]
    assert io.batch.payload(BATCH - 3) == b"one"
    sender = pack_sockaddr(Address(*client.getsockname()))
    assert {name.tobytes() for name in io.batch.names[-3:]} == {sender}


class Scripted:
    """A socket that answers with datagrams (bytes) and errors (errno)."""

    def __init__(self, *script):
        self.script = list(script)

    def recvfrom_into(self, buffer):
        answer = self.script.pop(0)
        if isinstance(answer, int):
            raise OSError(answer, "scripted")
        buffer[: len(answer)] = answer
        return len(answer), ("192.0.2.1", 7)


def test_an_error_after_datagrams_is_kept_beside_them():
    io = PlainIO()
    sock = Scripted(b"one", errno.ECONNREFUSED, b"two", errno.EAGAIN)
    assert io.receive(sock, 0, BATCH) == 1
    assert isinstance(io.error, ConnectionRefusedError)
    assert io.receive(sock, 1, BATCH - 1) == 1
    assert io.error is None


def test_a_datagram_that_the_system_refuses_to_cut_is_skipped():
    io = PlainIO()
    sock = Scripted(b"one", errno.EMSGSIZE, b"two", *[errno.EMSGSIZE] * 10)
    assert io.receive(sock, 0, 5) == 2
    assert len(sock.script) == 8
    assert io.error is None


def test_segments_are_plain_datagrams_here(pair):
    server, client = pair
    io = PlainIO()
    for payload in (b"one", b"", bytes(ROOM + 1)):
        client.send(payload)
    assert io.receive_segments(server, 8) == io.segments.count == 3
    assert io.segments.payload(0) == b"one"
    assert io.segments.truncated.tolist() == [False, False, True]
    assert io.receive_segments(server, 8) == io.segments.count == 0
