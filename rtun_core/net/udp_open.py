"""Opening UDP sockets, and the batch system calls that serve them."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator

from rtun_core.errors import BindError
from rtun_core.net import udp_mmsg
from rtun_core.net.sockaddr import socket_address
from rtun_core.net.udp_batch import BatchIO
from rtun_core.net.udp_plain import PlainIO
from rtun_core.wire.address import Address

BUFFER_BYTES = 4 * 1024 * 1024
"""Socket buffers we ask for. The kernel grants less without complaint (net.core.rmem_max on Linux), except to
a process that may administer the network: that gets them whole."""

FLOW_BUFFER_BYTES = 1024 * 1024
"""Of sockets that exist by the thousand. The system's 208 kB hold some 90 datagrams of 1200 bytes, which a
target that answers in bursts overruns; memory is used only for what waits in a buffer."""

_MIN_BUFFER_BYTES = 64 * 1024
_BEYOND_LIMITS = {
    socket.SO_RCVBUF: 33,
    socket.SO_SNDBUF: 32,
}  # SO_RCVBUFFORCE, SO_SNDBUFFORCE of linux/socket.h
_threads = threading.local()


def thread_io(*, portable: bool = False) -> BatchIO:
    """This thread's batch system calls: the best there are, or those that every system has."""
    plain = portable or not udp_mmsg.available()
    name = "plain" if plain else "mmsg"
    found: BatchIO | None = getattr(_threads, name, None)
    if found is None:
        found = PlainIO() if plain else udp_mmsg.MmsgIO()
        setattr(_threads, name, found)
    return found


def open_socket(
    *, local: Address | None, remote: Address | None, family: int | None, small_buffers: bool
) -> socket.socket:
    """A non-blocking UDP socket, bound to `local` or to a free port, connected to `remote` if given.

    Raises BindError when it cannot be bound, OSError when it cannot be made or connected, ValueError when
    an address is a host name.
    """
    sock = socket.socket(family or _family(local or remote), socket.SOCK_DGRAM)
    with _closing_on_error(sock):
        sock.setblocking(False)
        if small_buffers:
            _grow(sock, socket.SO_RCVBUF, FLOW_BUFFER_BYTES)
        else:
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                if not _grow_beyond_limits(sock, option, BUFFER_BYTES):
                    _grow(sock, option, BUFFER_BYTES)
        if sys.platform == "linux":
            sock.setsockopt(socket.SOL_SOCKET, udp_mmsg.SO_RXQ_OVFL, 1)
        if local is not None or remote is None:
            _bind(sock, local or wildcard(sock.family))
        if remote is not None:
            sock.connect(socket_address(remote))
    return sock


def wildcard(family: int) -> Address:
    """Every interface, any port."""
    return Address("::" if family == socket.AF_INET6 else "0.0.0.0", 0)


def _family(address: Address | None) -> int:
    return socket.AF_INET6 if address is not None and address.is_ipv6 else socket.AF_INET


def _bind(sock: socket.socket, local: Address) -> None:
    try:
        sock.bind(socket_address(local))
    except OSError as error:
        raise BindError(f"cannot bind UDP {local}: {error.strerror or error}") from error


def _grow(sock: socket.socket, option: int, size: int) -> None:
    """Ask for a large buffer; systems that refuse what is too much are asked for half of it."""
    while size >= _MIN_BUFFER_BYTES:
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, size)
        except OSError:
            size //= 2
        else:
            return


def _grow_beyond_limits(sock: socket.socket, option: int, size: int) -> bool:
    """Take a large buffer whatever the limits of the system are; whether this process may."""
    if sys.platform != "linux":
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, _BEYOND_LIMITS[option], size)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _closing_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise
