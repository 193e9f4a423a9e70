"""Runs of equal datagrams to one peer as one message, which the kernel cuts up again (UDP_SEGMENT, GSO).

The way through the kernel is gone once a run instead of once a datagram: 64 frames of 1210 bytes to one
peer cost 1.1 us each this way, 1.7 us each by sendmmsg alone (CPU time, over loopback, where the receiving
half of the kernel's work is the sender's).
"""

from __future__ import annotations

import itertools
import socket
import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

UDP_SEGMENT: Final = 103  # linux/udp.h; the socket module does not have it
MAX_SEGMENTS: Final = 64  # what every kernel that knows UDP_SEGMENT takes
MAX_BYTES: Final = 65000  # of one message: the largest UDP datagram, less the headers
WORTHWHILE: Final = 2  # datagrams per run, on average, from which on runs are cheaper

_CMSG = struct.Struct("@NiiH")  # cmsg_len, cmsg_level, cmsg_type, the size of a segment
CONTROL_SIZE: Final = -(-_CMSG.size // struct.calcsize("@N")) * struct.calcsize("@N")


class Runs:
    """Consecutive datagrams that go out as one message each: run k is [starts[k], starts[k] + counts[k])."""

    __slots__ = ("at", "counts", "ends", "starts")

    def __init__(self, starts: list[int], counts: list[int]) -> None:
        self.starts = starts
        self.counts = counts
        self.ends = [start + count for start, count in zip(starts, counts, strict=True)]
        self.at = {start: index for index, start in enumerate(starts)}

    def __len__(self) -> int:
        return len(self.starts)


def find_runs(lengths: NDArray[np.int64], names: NDArray[np.uint8] | None) -> Runs | None:
    """The runs of equal length and destination; None where sending them so would not pay."""
    total = len(lengths)
    sizes = lengths.tolist()
    uniform = names is None and sizes.count(sizes[0]) == total
    edges = [0, total] if uniform else _edges(lengths, names)
    if (len(edges) - 1) * WORTHWHILE > total:
        return None
    starts: list[int] = []
    counts: list[int] = []
    for first, last in itertools.pairwise(edges):
        length = sizes[first]
        # Empty datagrams have no segments: a run of them would arrive as one.
        most = max(1, min(MAX_SEGMENTS, MAX_BYTES // length)) if length else 1
        for start in range(first, last, most):
            starts.append(start)
            counts.append(min(most, last - start))
    return Runs(starts, counts)


def _edges(lengths: NDArray[np.int64], names: NDArray[np.uint8] | None) -> list[int]:
    """Where a datagram differs from the one before it in size or destination, and both ends."""
    differs = lengths[1:] != lengths[:-1]
    if names is not None:
        differs |= (names[1:] != names[:-1]).any(axis=1)
    return [0, *(np.flatnonzero(differs) + 1).tolist(), len(lengths)]


def control_messages(count: int) -> NDArray[np.uint8]:
    """Room for `count` control messages that give the size of a segment; `set_sizes` fills it in."""
    control: NDArray[np.uint8] = np.zeros((count, CONTROL_SIZE), np.uint8)
    blank = _CMSG.pack(_CMSG.size, socket.IPPROTO_UDP, UDP_SEGMENT, 0)
    control[:, : len(blank)] = np.frombuffer(blank, np.uint8)
    return control


def sizes_of(control: NDArray[np.uint8]) -> NDArray[Any]:
    """The segment sizes inside `control`, as a writable vector."""
    at = _CMSG.size - 2
    return control[:, at : at + 2].view(np.uint16)[:, 0]
