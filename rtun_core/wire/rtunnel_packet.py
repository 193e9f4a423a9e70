"""Packets of an RTunnel session: a header of 21 bytes and a payload (rtunnel spec 4).

    flag(1) seq(8) ack(8) length(4) payload(length)        unsigned, big-endian

One packet is one WebSocket message. Numbers count packets, not bytes, and start at 1 in each direction.
The format has no version and no room for one: what peers agree on beyond it is settled by headers of the
WebSocket handshake, and every flag that a receiver does not know is skipped.

`EOF` (16) and the `seq` of an `ACK` are ours. They are only ever sent to a peer that asked for them in
the handshake; the original program skips the one and does not look at the other.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from rtun_core.errors import LocalProtocolError, RemoteProtocolError

DATA: Final = 1
ACK: Final = 2
BIND: Final = 3
"""A leftover that nobody sends. Receivers skip it."""
FIN: Final = 4
EOF: Final = 16
"""Numbered end of one direction, acknowledged like data (between our own ends)."""

HEADER_SIZE: Final = 21
ORIGINAL_PAYLOAD: Final = 16_384
"""The most bytes that one packet of the original program carries."""
MAX_PAYLOAD: Final = 65_536
"""The most bytes of payload that this codec writes or accepts."""
MAX_MESSAGE: Final = 2 * MAX_PAYLOAD
"""The longest WebSocket message that is looked at: a packet and, possibly, bytes to ignore after it."""

_HEADER = struct.Struct(">BQQI")
_pack = _HEADER.pack
_unpack_from = _HEADER.unpack_from
_MAX_NUMBER = (1 << 64) - 1

FIN_PACKET: Final = _pack(FIN, 0, 0, 0)
PROBE_PACKET: Final = _pack(DATA, 0, 0, 0)
"""Data that nobody accepts: the answer to it tells how far the peer has got (rtunnel spec 15, rule 8)."""


class Packet(NamedTuple):
    """A decoded packet. The payload is a view of the message, or of a copy if the message had more bytes."""

    flag: int
    seq: int
    ack: int
    payload: memoryview


def encode_data(seq: int, parts: Sequence[bytes | bytearray | memoryview], size: int) -> bytes:
    """Join `parts`, which hold `size` bytes together, into one DATA packet: the only copy on the way out.

    Raises LocalProtocolError for more than `MAX_PAYLOAD` bytes or a number that does not fit.
    """
    if size > MAX_PAYLOAD or not 0 <= seq <= _MAX_NUMBER:
        raise LocalProtocolError(f"data packet {seq} of {size} bytes; accepted: up to {MAX_PAYLOAD} bytes")
    return b"".join((_pack(DATA, seq, 0, size), *parts))


def encode_ack(ack: int, received: int = 0) -> bytes:
    """Write an ACK: everything up to `ack` was taken by the local TCP.

    `received` tells our own kind how far the data has arrived, taken or not; the original sends 0.
    """
    return _pack(ACK, received, ack, 0)


def encode_eof(seq: int) -> bytes:
    """Write the numbered end of one direction."""
    return _pack(EOF, seq, 0, 0)


def decode_packet(message: bytes) -> Packet:
    """Read one packet; bytes after its payload are ignored.

    Raises RemoteProtocolError with the reason `short` (no whole header), `length` (the payload is not all
    there) or `oversize` (payload or message above what is accepted). The original drops the first two
    without a word, and so should the caller.
    """
    total = len(message)
    if total < HEADER_SIZE:
        raise RemoteProtocolError(
            f"a packet has {total} bytes; accepted: {HEADER_SIZE} or more", reason="short"
        )
    flag, seq, ack, length = _unpack_from(message)
    if length > MAX_PAYLOAD or total > MAX_MESSAGE:
        raise RemoteProtocolError(
            f"a packet of {total} bytes announces {length}; accepted: up to {MAX_PAYLOAD}", reason="oversize"
        )
    if HEADER_SIZE + length > total:
        raise RemoteProtocolError(f"a packet of {total} bytes announces {length}", reason="length")
    if HEADER_SIZE + length < total:
        message = message[: HEADER_SIZE + length]  # a view would keep the ignored bytes alive
    return Packet(flag, seq, ack, memoryview(message)[HEADER_SIZE:])
