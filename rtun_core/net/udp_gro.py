"""Datagrams that the kernel has joined, taken as one message and cut up again here (UDP_GRO).

A sender that uses segments (`net.udp_segment`), or a network card that joins what arrives, hands the kernel
runs of equal datagrams. A socket with UDP_GRO gets such a run whole, with the size of its pieces beside it.
Of 53 datagrams of 1210 bytes, receiving takes 0.5 us each in place of 0.94, and what sends them over
loopback pays 0.56 us each in place of 1.07 (CPU time).

What the kernel drops of such messages it counts by message: datagrams are estimated from those before.

A joined message needs room for 64 kB, so these slots are memory apart from the rows of a `DatagramBatch`,
and their payloads have no room around them.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

import numpy as np

from rtun_core.net.udp_batch import BATCH, Spans, aligned

UDP_GRO: Final = 104  # linux/udp.h; the socket module does not have it

SLOT: Final = 65536
"""Bytes of a slot: the largest message."""

SLOTS: Final = 32
"""Messages of one system call at most. A peer that turns from single datagrams to full messages between two
calls makes us take 32 times 64 at once, some 5 ms of work; the call after that is shorter again."""

_SLOT_STRIDE = SLOT + 64 * 37  # not a power of two: the beginnings of slots would share few cache lines
_CMSG = struct.Struct("@Nii")  # cmsg_len, cmsg_level, cmsg_type
_WORD = struct.calcsize("@N")
_SIZE = struct.Struct("@i")


def enable(sock: socket.socket) -> bool:
    """Ask for joined datagrams; whether this system has that."""
    if sys.platform != "linux":
        return False
    try:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    except OSError:
        return False
    return True


def segment_slots() -> Spans:
    """Room for SLOTS messages."""
    starts = np.arange(SLOTS) * _SLOT_STRIDE
    return Spans(aligned(SLOTS * _SLOT_STRIDE), starts, np.full(SLOTS, SLOT, np.int64))


def segment_size(control: bytes) -> int:
    """The size of the pieces of a message, from its control messages (cmsg(3)); 0: a single datagram."""
    at = 0
    while at + _CMSG.size <= len(control):
        size, level, kind = _CMSG.unpack_from(control, at)
        if size < _CMSG.size:
            return 0
        if (level, kind) == (socket.IPPROTO_UDP, UDP_GRO) and at + _CMSG.size + _SIZE.size <= len(control):
            segment: int = _SIZE.unpack_from(control, at + _CMSG.size)[0]
            return max(0, segment)
        at += -(-size // _WORD) * _WORD
    return 0


def split_segments(slots: list[int], sizes: list[int], segments: list[int]) -> tuple[list[int], list[int]]:
    """Start and length of each datagram in messages of `sizes` bytes, cut after `segments` (0: whole).

    Lists, as 64 datagrams are too few for vectors: 5 us in place of 15.
    """
    starts, lengths = list[int](), list[int]()
    for slot, size, segment in zip(slots, sizes, segments, strict=True):
        if not 0 < segment < size:
            segment = size or 1
        places = range(slot, slot + max(size, 1), segment)
        starts += places
        lengths += [segment] * (len(places) - 1)
        lengths.append(slot + size - places[-1])
    return starts, lengths


def next_limit(messages: int, datagrams: int, limit: int) -> int:
    """How many messages to ask for next: about a batch of datagrams, as full as messages are now."""
    if datagrams > messages:
        return max(1, min(SLOTS, BATCH * messages // datagrams))
    return min(SLOTS, max(limit, 2 * messages))
