"""Socket addresses in three shapes: `Address`, the raw sockaddr of a batch, and the tuple of `socket`.

A raw sockaddr is always NAME_SIZE bytes: the Linux `sockaddr_in6`, or a `sockaddr_in` followed by zeros.
So it can stand in one row of a matrix, be handed to sendmmsg as it is, and be compared as bytes.
IPv4-mapped IPv6 addresses stay what they are. A zone is part of the host, as its interface index:
`fe80::1%2`.
"""

from __future__ import annotations

import socket
import struct
from functools import lru_cache
from typing import Any

from rtun_core.wire.address import Address

NAME_SIZE = 28
"""Bytes of a raw sockaddr."""

SocketAddress = tuple[Any, ...]
"""What the methods of `socket.socket` take and return: (host, port) or (host, port, flow info, scope)."""

_FAMILY = struct.Struct("=H")
_V4 = struct.Struct("!H4s20x")
_V6 = struct.Struct("!HI16s")
_SCOPE = struct.Struct("=I")


@lru_cache(maxsize=4096)
def pack_sockaddr(address: Address) -> bytes:
    """The raw sockaddr of an IP address. Raises ValueError for a host name or an unknown zone."""
    target = socket_address(address)
    if len(target) == 2:
        return _FAMILY.pack(socket.AF_INET) + _V4.pack(target[1], socket.inet_aton(target[0]))
    host, port, _, scope = target
    body = _V6.pack(port, 0, socket.inet_pton(socket.AF_INET6, host))
    return _FAMILY.pack(socket.AF_INET6) + body + _SCOPE.pack(scope)


@lru_cache(maxsize=4096)
def unpack_sockaddr(raw: bytes) -> Address:
    """The address in a raw sockaddr. Raises ValueError when its family is neither IPv4 nor IPv6."""
    if len(raw) >= 16 and raw[:2] == _FAMILY.pack(socket.AF_INET):
        return Address(socket.inet_ntop(socket.AF_INET, raw[4:8]), int.from_bytes(raw[2:4], "big"))
    if len(raw) < NAME_SIZE or raw[:2] != _FAMILY.pack(socket.AF_INET6):
        raise ValueError(f"not an IPv4 or IPv6 socket address: {raw.hex()}")
    port, _, host = _V6.unpack_from(raw, 2)
    (scope,) = _SCOPE.unpack_from(raw, 24)
    zone = f"%{scope}" if scope else ""
    return Address(socket.inet_ntop(socket.AF_INET6, host) + zone, port)


@lru_cache(maxsize=4096)
def socket_address(address: Address) -> SocketAddress:
    """The tuple that `socket.socket` takes. Raises ValueError for a host name: nothing here resolves."""
    host, percent, zone = address.host.partition("%")
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        raise ValueError(f"{address.host!r} is not an IP address") from None
    if ":" not in host:
        return (host, address.port)
    return (host, address.port, 0, _scope(zone) if percent else 0)


@lru_cache(maxsize=4096)
def pack_socket_address(target: SocketAddress) -> bytes:
    """The raw sockaddr of a tuple that a `socket.socket` returned."""
    return pack_sockaddr(from_socket_address(target))


@lru_cache(maxsize=4096)
def target_of(raw: bytes) -> SocketAddress:
    """The tuple that `socket.socket` takes, of a raw sockaddr. Raises ValueError as `unpack_sockaddr`."""
    return socket_address(unpack_sockaddr(raw))


def from_socket_address(target: SocketAddress) -> Address:
    """The address in a tuple that a `socket.socket` returned."""
    host = target[0].partition("%")[0]
    zone = f"%{target[3]}" if len(target) == 4 and target[3] else ""
    return Address(host + zone, target[1])


def _scope(zone: str) -> int:
    if zone.isascii() and zone.isdigit() and len(zone) <= 9:
        return int(zone)
    try:
        return socket.if_nametoindex(zone)
    except OSError:
        raise ValueError(f"{zone!r} is not a network interface") from None
