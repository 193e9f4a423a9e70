"""Measuring a round trip on the WebSocket of a session when somebody asks for it."""

from __future__ import annotations

import asyncio
import secrets
from time import monotonic


class RoundTrip:
    """One ping of our own at a time; all who ask meanwhile get the same answer."""

    __slots__ = ("_answer", "_payload", "_sent_at")

    def __init__(self) -> None:
        self._payload = b""
        self._sent_at = 0.0
        self._answer: asyncio.Future[float] | None = None

    def ask(self) -> asyncio.Future[float]:
        """The seconds that the ping will take."""
        if self._answer is None:
            self._payload = b"rtun" + secrets.token_bytes(8)
            self._sent_at = 0.0
            self._answer = asyncio.get_running_loop().create_future()
        return self._answer

    def forget(self) -> None:
        """Nobody waits any more."""
        self._answer = None

    def take(self) -> bytes | None:
        """The payload of a ping to send now, if there is one."""
        if self._answer is None or self._sent_at:
            return None
        self._sent_at = monotonic()
        return self._payload

    def pong(self, payload: bytes, now: float) -> None:
        """A pong came, perhaps ours."""
        if self._answer is not None and payload == self._payload:
            self._answer.set_result(now - self._sent_at)
            self._answer = None
