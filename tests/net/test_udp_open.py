import errno
import socket
import sys
import threading

import pytest

from rtun_core.errors import BindError
from rtun_core.net import udp_mmsg, udp_open
from rtun_core.net.udp_mmsg import MmsgIO
from rtun_core.net.udp_open import open_socket, thread_io, wildcard
from rtun_core.net.udp_plain import PlainIO
from rtun_core.wire.address import Address

DEFAULTS = {"local": None, "remote": None, "family": None, "small_buffers": False}


def opened(**options):
    return open_socket(**(DEFAULTS | options))


def test_family_and_wildcards():
    with opened() as sock:
        assert sock.family == socket.AF_INET
        assert sock.getsockname()[0] == "0.0.0.0"
        assert sock.getsockname()[1] > 0
        assert not sock.getblocking()
    with opened(family=socket.AF_INET6) as sock:
        assert sock.getsockname()[0] == "::"
    with opened(local=Address("::1", 0)) as sock:
        assert sock.family == socket.AF_INET6
    assert wildcard(socket.AF_INET6) == Address("::", 0)


def test_connecting_with_and_without_an_own_address():
    with opened() as peer:
        port = peer.getsockname()[1]
        with opened(remote=Address("127.0.0.1", port)) as sock:
            assert sock.getpeername() == ("127.0.0.1", port)
        with opened(local=Address("127.0.0.2", 0), remote=Address("127.0.0.1", port)) as sock:
            assert sock.getsockname()[0] == "127.0.0.2"


def test_buffers_are_large_unless_told_otherwise():
    with opened() as large, opened(small_buffers=True) as small:
        sizes = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for sock in (large, small)]
        assert sizes[0] >= sizes[1]


def test_a_system_that_refuses_large_buffers_is_asked_for_less():
    asked = []

    class Picky:
        def setsockopt(self, level, option, size):
            asked.append(size)
            if size > 1024 * 1024:
                raise OSError(errno.ENOBUFS, "too much")

    udp_open._grow(Picky(), socket.SO_RCVBUF, 4 << 20)
    assert asked == [4 << 20, 2 << 20, 1 << 20]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has limits that may be passed")
@pytest.mark.parametrize("option", [socket.SO_RCVBUF, socket.SO_SNDBUF])
def test_who_may_passes_the_limits_of_the_system(option):
    asked = []

    class Kernel:
        """Takes what it is told by the options for administrators (linux/socket.h)."""

        def setsockopt(self, level, option, size):
            asked.append((level, option, size))

    assert udp_open._grow_beyond_limits(Kernel(), option, 5 << 20)
    force = {socket.SO_RCVBUF: 33, socket.SO_SNDBUF: 32}[option]
    assert asked == [(socket.SOL_SOCKET, force, 5 << 20)]


def test_who_may_not_is_told_so():
    class Kernel:
        def setsockopt(self, level, option, size):
            raise PermissionError(errno.EPERM, "Operation not permitted")

    assert not udp_open._grow_beyond_limits(Kernel(), socket.SO_RCVBUF, 5 << 20)


def test_errors_name_the_address_and_leave_nothing_open():
    with opened(local=Address("127.0.0.1", 0)) as taken:
        local = Address(*taken.getsockname())
        with pytest.raises(BindError, match=rf"cannot bind UDP {local}: Address already in use"):
            opened(local=local)
    with pytest.raises(BindError, match=r"cannot bind UDP 192\.0\.2\.1:0: "):
        opened(local=Address("192.0.2.1", 0))
    with pytest.raises(ValueError, match="'localhost' is not an IP address"):
        opened(remote=Address("localhost", 1))
    with pytest.raises(OSError, match=r"denied|unreachable|Network"):
        opened(remote=Address("255.255.255.255", 1))


def test_system_calls_are_shared_by_the_sockets_of_a_thread():
    assert thread_io() is thread_io()
    assert thread_io(portable=True) is thread_io(portable=True)
    other = []
    thread = threading.Thread(target=lambda: other.append(thread_io()))
    thread.start()
    thread.join()
    assert other[0] is not thread_io()


def test_the_best_system_calls_are_chosen(monkeypatch):
    assert isinstance(thread_io(portable=True), PlainIO)
    assert isinstance(thread_io(), MmsgIO if udp_mmsg.available() else PlainIO)
    monkeypatch.setattr(udp_mmsg, "available", lambda: False)
    assert isinstance(thread_io(), PlainIO)
