"""WebSocket frames as a server sends them (RFC 6455 5.2): whole binary messages, not masked."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_FINAL_BINARY = 0x82
_SHORT = struct.Struct(">BB")
_MEDIUM = struct.Struct(">BBH")
_LONG = struct.Struct(">BBQ")


def plain_frames(messages: Sequence[bytes]) -> list[bytes]:
    """Buffers for one write: of each message its header, and the message itself, which is not copied."""
    buffers = []
    for message in messages:
        buffers.append(_header(len(message)))
        buffers.append(message)
    return buffers


def _header(size: int) -> bytes:
    if size < 126:
        return _SHORT.pack(_FINAL_BINARY, size)
    if size < 65_536:
        return _MEDIUM.pack(_FINAL_BINARY, 126, size)
    return _LONG.pack(_FINAL_BINARY, 127, size)
