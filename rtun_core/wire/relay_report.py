"""Measurements that two of our own ends exchange on flow 0 of a relay channel.

Only after both agreed on them in the set-up: towards any other program flow 0 carries heartbeats alone
(wire spec 9.4). A report is the payload of a flow-0 frame, big-endian, and never empty:

    ping  kind(1)=1 seq(4) sent_us(8) tx_frames(8)
    pong  kind(1)=2 seq(4) echo_sent_us(8) rx_frames(8) tx_frames(8)

Bytes after these are ignored, so that fields may be added.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from rtun_core.errors import RemoteProtocolError

_PING = struct.Struct(">BIQQ")
_PONG = struct.Struct(">BIQQQ")
_PING_KIND = 1
_PONG_KIND = 2
_M32 = (1 << 32) - 1
_M64 = (1 << 64) - 1


class Ping(NamedTuple):
    """A question for a pong. `sent_us` is on the sender's clock, in microseconds.

    `tx_frames` counts all relay frames that the sender has sent so far on this channel.
    """

    seq: int
    sent_us: int
    tx_frames: int


class Pong(NamedTuple):
    """The answer to the ping with the same `seq`, its `sent_us` returned as `echo_sent_us`.

    `rx_frames` counts the valid frames that the pong's sender has received so far on this channel,
    `tx_frames` those it has sent.
    """

    seq: int
    echo_sent_us: int
    rx_frames: int
    tx_frames: int


def encode_report(report: Ping | Pong) -> bytes:
    """The payload of a flow-0 frame. Fields wrap at their width (`seq` 32 bits, the others 64)."""
    seq, *counters = report
    fields = [seq & _M32, *(counter & _M64 for counter in counters)]
    if isinstance(report, Ping):
        return _PING.pack(_PING_KIND, *fields)
    return _PONG.pack(_PONG_KIND, *fields)


def decode_report(data: bytes | bytearray | memoryview) -> Ping | Pong:
    """Read the payload of a flow-0 frame. Raises RemoteProtocolError (reason `report`)."""
    kind = data[0] if len(data) else 0
    if kind == _PING_KIND and len(data) >= _PING.size:
        return Ping(*_PING.unpack_from(data)[1:])
    if kind == _PONG_KIND and len(data) >= _PONG.size:
        return Pong(*_PONG.unpack_from(data)[1:])
    raise RemoteProtocolError(f"channel report of kind {kind} and {len(data)} bytes", reason="report")
