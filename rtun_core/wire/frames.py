"""Length-prefixed frames of a QUIC signalling stream (wire spec 5.2).

Each frame is an unsigned 32-bit big-endian length and that many bytes; length 0 is legal. The stream
may end between frames only.
"""

from __future__ import annotations

from rtun_core.errors import LocalProtocolError, RemoteProtocolError

MAX_FRAME = 16 * 1024 * 1024
_PREFIX = 4


def encode_frame(body: bytes) -> bytes:
    """Put the length in front of `body`. Raises LocalProtocolError above 16 MiB."""
    if len(body) > MAX_FRAME:
        raise LocalProtocolError(f"a frame of {len(body)} bytes is too big; accepted: up to {MAX_FRAME}")
    return len(body).to_bytes(_PREFIX, "big") + body


class FrameReader:
    """Cuts a byte stream into frame bodies, the same ones however the stream is chunked.

    A length above `max_size` breaks the stream for good. Frames that were complete before it are
    still returned; then this and every later call raises RemoteProtocolError(reason="oversize").
    """

    def __init__(self, max_size: int = MAX_FRAME) -> None:
        self._max_size = max_size
        self._buffer = bytearray()
        self._failure: RemoteProtocolError | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream, return the bodies they complete, in order."""
        if self._failure is None:
            self._buffer += data
            bodies = self._cut()
            if bodies or self._failure is None:
                return bodies
        raise self._failure

    def eof(self) -> None:
        """Tell that the stream has ended. Raises RemoteProtocolError(reason="truncated") inside a frame."""
        if self._failure is not None:
            raise self._failure
        if self._buffer:
            raise RemoteProtocolError("the stream ended inside a frame", reason="truncated")

    def _cut(self) -> list[bytes]:
        bodies: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= _PREFIX:
            body = start + _PREFIX
            size = int.from_bytes(self._buffer[start:body], "big")
            if size > self._max_size:
                self._fail(size)
                return bodies
            if len(self._buffer) - body < size:
                break
            start = body + size
            bodies.append(bytes(self._buffer[body:start]))
        # One deletion per call keeps many small frames in one chunk linear.
        del self._buffer[:start]
        return bodies

    def _fail(self, size: int) -> None:
        text = f"a frame announces {size} bytes; accepted: up to {self._max_size}"
        self._failure = RemoteProtocolError(text, reason="oversize")
        self._buffer.clear()
