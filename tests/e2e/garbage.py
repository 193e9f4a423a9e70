"""Datagrams and TCP bytes that no program of ours sends, from a seed."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator

from tests.e2e.udp import Address

COOKIE = b"\x21\x12\xa4\x42"
LONGEST = 2000  # bytes; more than a tunnel carries and than fits an Ethernet frame


def garbage(seed: int = 1) -> list[bytes]:
    """Random bytes of every length, and some that begin like STUN and like QUIC."""
    rng = random.Random(seed)
    noise = [rng.randbytes(length) for length in range(LONGEST + 1)]
    return noise + list(_stun_like(rng, 200)) + list(_quic_like(rng, 200))


def _stun_like(rng: random.Random, count: int) -> Iterator[bytes]:
    for _ in range(count):
        kind = rng.choice((0x0001, 0x0101, 0x0111, 0x0011, 0x3FFF)).to_bytes(2, "big")
        length = rng.choice((0, 4, 8, 36, 65532)).to_bytes(2, "big")
        yield kind + length + COOKIE + rng.randbytes(rng.randrange(60))


def _quic_like(rng: random.Random, count: int) -> Iterator[bytes]:
    for _ in range(count):
        first = bytes([0xC0 | rng.randrange(64)])
        version = rng.choice((b"\0\0\0\x01", b"\0\0\0\0", rng.randbytes(4)))
        ids = b"".join(bytes([length]) + rng.randbytes(length) for length in (rng.randrange(21), 8))
        yield first + version + ids + rng.randbytes(rng.randrange(1200))


def throw_udp(to: Address, datagrams: list[bytes], *, each: int = 50) -> None:
    """Send them from one socket, in runs with a breath between, and read what comes back to nobody."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thrower:
        thrower.connect(to)
        thrower.settimeout(0.002)
        for start in range(0, len(datagrams), each):
            for datagram in datagrams[start : start + each]:
                with contextlib.suppress(ConnectionRefusedError):
                    thrower.send(datagram)
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                thrower.recv(65536)


def throw_tcp(to: Address, datagrams: list[bytes]) -> None:
    """Open a connection for each, write it, and leave."""
    for data in datagrams:
        with contextlib.suppress(ConnectionError), socket.create_connection(to, timeout=5) as connection:
            connection.sendall(data)
