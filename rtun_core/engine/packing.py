"""Bytes made small and made again, with a bound on how many may come out."""

from __future__ import annotations

import zlib
from typing import Final

LEVEL: Final = 1  # of zlib: three times as fast as the usual one, and pictures grow by a tenth


def pack(raw: bytes, dictionary: bytes = b"") -> bytes:
    """Compress; what `raw` shares with the end of the dictionary costs next to nothing."""
    packer = zlib.compressobj(LEVEL, zdict=dictionary) if dictionary else zlib.compressobj(LEVEL)
    return packer.compress(raw) + packer.flush()


def unpack(data: bytes, limit: int, dictionary: bytes = b"") -> bytes:
    """What `pack` was given, with the same dictionary. Raises ValueError for anything else or more."""
    unpacker = zlib.decompressobj(zdict=dictionary) if dictionary else zlib.decompressobj()
    try:
        raw = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise ValueError(f"cannot be unpacked: {error}") from None
    if len(raw) > limit:
        raise ValueError(f"unpacks to more than {limit} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("is cut off or has more behind its end")
    return raw
