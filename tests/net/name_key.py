"""What `DatagramBatch.name_keys` is to give, said in another way."""

from __future__ import annotations

import socket
import struct
import sys

from rtun_core.net.sockaddr import NAME_SIZE


def name_key(raw: bytes) -> int | bytes:
    """The key of one raw sockaddr: an int for IPv4."""
    if raw[:2] == struct.pack("=H", socket.AF_INET):
        return int.from_bytes(raw[:8], sys.byteorder)
    return bytes(raw[:NAME_SIZE])
