"""The UDP echo service."""

import pytest

from rtun_core.agent.echo import EchoService
from rtun_core.errors import BindError
from rtun_core.net.udp import ROOM
from rtun_core.wire.address import Address


@pytest.fixture
async def echo():
    service = EchoService(Address("127.0.0.1", 0))
    yield service
    service.close()


@pytest.fixture
def peers(request):
    made = []

    def make(host="127.0.0.1"):
        made.append(request.getfixturevalue("peer_type")(host))
        return made[-1]

    yield make
    for peer in made:
        peer.close()


async def test_everybody_gets_his_own_datagrams_back(echo, peers):
    clients = [peers() for _ in range(5)]
    for turn in range(30):
        for number, client in enumerate(clients):
            client.send(b"%d %d" % (number, turn), echo.address)
    for number, client in enumerate(clients):
        answers = [await client.recv() for _ in range(30)]
        assert answers == [(b"%d %d" % (number, turn), echo.address) for turn in range(30)]


async def test_empty_and_largest_datagrams_come_back(echo, peers):
    client = peers()
    for payload in (b"", bytes(ROOM)):
        client.send(payload, echo.address)
        assert (await client.recv())[0] == payload


async def test_what_does_not_fit_is_dropped_and_counted(echo, peers):
    client = peers()
    client.send(bytes(ROOM + 1), echo.address)
    client.send(b"fits", echo.address)
    assert (await client.recv())[0] == b"fits"
    assert echo.counters() == ({"oversize": 1}, {})


async def test_it_listens_on_ipv6_too(peers):
    service = EchoService(Address("::1", 0))
    client = peers("::1")
    client.send(b"six", service.address)
    assert (await client.recv())[0] == b"six"
    service.close()


async def test_an_address_in_use_is_a_bind_error(echo):
    with pytest.raises(BindError):
        EchoService(echo.address)


async def test_socket_errors_are_counted(echo):
    echo._on_error(OSError("unreachable"))
    assert echo.counters()[1] == {"echo socket": 1}
