"""Packets of a switch session: a channel number and a payload (wire spec 6.1 and 7, `RawPacket`).

One packet is one binary WebSocket message, or the body of one frame of a QUIC stream. Default values
are left out, so the packet that closes channel 0 has no bytes at all.
"""

from __future__ import annotations

from typing import NamedTuple

from google.protobuf.message import DecodeError

from rtun_core.errors import LocalProtocolError, RemoteProtocolError
from rtun_core.wire.pb import rtun_pb2 as pb

MAX_PACKET = 16 * 1024 * 1024
"""Bytes of the biggest packet that the transports of the field carry."""

CONTROL_CHANNEL = 0


class Packet(NamedTuple):
    """Data of one channel, 0 being the control channel. An empty payload ends the channel."""

    channel: int
    payload: bytes


def encode_packet(channel: int, payload: bytes) -> bytes:
    """Serialize one packet. Raises LocalProtocolError for a channel beyond 64 bits or too much payload."""
    if not 0 <= channel < 1 << 64:
        raise LocalProtocolError(f"channel {channel} does not fit 64 bits")
    data = pb.RawPacket(ch_id=channel, payload=payload).SerializeToString()
    if len(data) > MAX_PACKET:
        raise LocalProtocolError(f"a packet of {len(data)} bytes is too big; accepted: up to {MAX_PACKET}")
    return data


def decode_packet(data: bytes) -> Packet:
    """Read one packet. Raises RemoteProtocolError(reason="packet")."""
    if len(data) > MAX_PACKET:
        raise RemoteProtocolError(f"a packet has {len(data)} bytes", reason="packet")
    try:
        raw = pb.RawPacket.FromString(data)
    except DecodeError:
        raise RemoteProtocolError("a packet is not a channel number and a payload", reason="packet") from None
    return Packet(raw.ch_id, raw.payload)
