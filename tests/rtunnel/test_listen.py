import asyncio
import errno
import socket
from contextlib import ExitStack

import pytest

from rtun_core.errors import BindError
from rtun_core.net.tasks import TaskOwner
from rtun_core.net.tls import pair_context, read_pair, self_signed
from rtun_core.rtunnel import listen
from rtun_core.rtunnel.listen import Listener, listen_on
from rtun_core.wire.address import Address


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_listening_sockets(host):
    with listen_on(Address(host, 0)) as sock:
        assert sock.getsockname()[1]
        assert not sock.getblocking()


def test_taken_address_is_named():
    with listen_on(Address("127.0.0.1", 0)) as sock:
        address = Address(*sock.getsockname())
        with pytest.raises(BindError, match=f"cannot listen on TCP {address}: Address already in use$"):
            listen_on(address)


class Greeter(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"hello")
        transport.close()


@pytest.fixture
async def listening():
    """Makes a listener for greeters; all is closed in the end."""
    tasks, made = TaskOwner("test"), []

    def make(**options):
        sock = listen_on(Address("127.0.0.1", 0))
        port = sock.getsockname()[1]
        made.append(Listener(sock, Greeter, tasks, **options))
        return port

    yield make
    for listener in made:
        listener.close()
    await tasks.close()


async def greeting(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = await reader.read()
    writer.close()
    return data


async def test_all_that_wait_are_taken_in_one_turn(listening):
    port, taken = listening(), []
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.setblocking(False)
            taken.append(connection)
        answers = await asyncio.gather(*(loop.sock_recv(each, 5) for each in taken))
    assert answers == [b"hello"] * 20


async def test_a_system_without_descriptors_is_tried_again(listening, monkeypatch):
    monkeypatch.setattr(listen, "PAUSE", 0.01)
    port, failures = listening(), [OSError(errno.EMFILE, "too many"), BlockingIOError()]
    real = socket.socket.accept

    def accept(sock):
        if failures:
            raise failures.pop(0)
        return real(sock)

    monkeypatch.setattr(socket.socket, "accept", accept)
    assert await greeting(port) == b"hello"
    assert failures == []


async def test_a_closed_listener_takes_nobody():
    tasks = TaskOwner("test")
    sock = listen_on(Address("127.0.0.1", 0))
    port = sock.getsockname()[1]
    Listener(sock, Greeter, tasks).close()
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", port)
    await tasks.close()


async def test_a_peer_without_tls_does_no_harm(listening, tmp_path):
    certificate = tmp_path / "cert.pem", tmp_path / "key.pem"
    for path, content in zip(certificate, self_signed(["localhost"]), strict=True):
        path.write_bytes(content)
    port = listening(context=pair_context(read_pair(*certificate)), patience=5.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n" * 10)
    assert b"hello" not in await reader.read()
    writer.close()
