"""Listening TCP sockets."""

from __future__ import annotations

import socket
from typing import Final

from rtun_core.errors import BindError
from rtun_core.wire.address import Address

BACKLOG: Final = 512


def listen_on(address: Address) -> socket.socket:
    """A listening socket. Raises BindError naming the address."""
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    try:
        sock = socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise BindError(f"cannot listen on TCP {address}: {error.strerror or error}") from None
    sock.setblocking(False)
    return sock
