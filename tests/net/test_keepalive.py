import socket

import pytest

from rtun_core.net.keepalive import end_when_lost

NAMES = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")


def values(connection):
    return [connection.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in NAMES]


@pytest.mark.skipif(not all(hasattr(socket, name) for name in NAMES), reason="not offered by this system")
def test_an_accepted_connection_has_it_from_its_listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        end_when_lost(listener, 20)
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert values(accepted) == [11, 3, 3, 20_000]


def test_options_that_a_system_does_not_have(monkeypatch):
    for name in NAMES:
        monkeypatch.delattr(socket, name, raising=False)
    with socket.socket() as connection:
        end_when_lost(connection, 20)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
