"""Datagrams that the kernel has joined, taken as one message and cut up again here (UDP_GRO).

A sender that uses segments (`net.udp_segment`), or a network card that joins what arrives, hands the kernel
runs of equal datagrams. A socket with UDP_GRO gets such a run whole, with the size of its pieces beside it.
Of 53 datagrams of 1210 bytes, receiving takes 0.25 us each in place of 0.9, and what sends them over
loopback pays 0.4 us each in place of 1.0 (CPU time).

What the kernel drops of such messages it counts by message, not by datagram.

A joined message needs room for 64 kB, so these slots are memory apart from the rows of a `DatagramBatch`,
and their payloads have no room around them.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

import numpy as np
from numpy.typing import NDArray

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


def split_segments(
    slots: NDArray[np.int64], sizes: list[int], segments: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and length of each datagram in messages of `sizes` bytes, cut after `segments` (0: whole)."""
    counts = [
        -(-size // segment) if 0 < segment < size else 1
        for size, segment in zip(sizes, segments, strict=True)
    ]
    total, messages = sum(counts), len(sizes)
    if total == messages:
        return slots[:messages], np.array(sizes, np.int64)
    if messages == 1:
        starts = np.arange(0, total * segments[0], segments[0]) + slots[0]
        lengths = np.full(total, segments[0], np.int64)
        lengths[-1] = sizes[0] - (total - 1) * segments[0]
        return starts, lengths
    piece = np.where(np.array(counts) > 1, segments, sizes)
    last = np.cumsum(counts) - 1
    number = np.arange(total) - np.repeat(last + 1 - counts, counts)
    starts = np.repeat(slots[:messages], counts) + number * np.repeat(piece, counts)
    lengths = np.repeat(piece, counts)
    lengths[last] = np.array(sizes) - (np.array(counts) - 1) * piece
    return starts, lengths


def next_limit(messages: int, datagrams: int, limit: int) -> int:
    """How many messages to ask for next: about a batch of datagrams, as full as messages are now."""
    if datagrams > messages:
        return max(1, min(SLOTS, BATCH * messages // datagrams))
    return min(SLOTS, max(limit, 2 * messages))
