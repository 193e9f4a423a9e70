"""When a session whose local stream has ended is over (rtunnel spec 15, rule 14).

Between our own ends that is simple: both directions have ended and both ends know it. The original's FIN
closes both directions at once and overtakes what is queued. So ours waits until everything is acknowledged,
and then for a while of silence, because the peer may still be answering.
"""

from __future__ import annotations

from rtun_core.wire.rtunnel_receive import ReceiveQueue
from rtun_core.wire.rtunnel_send_window import SendWindow
from rtun_core.wire.rtunnel_terms import End


class Closing:
    """Looks at both halves of a session; `half_close` is what its handshake settled."""

    def __init__(
        self, send: SendWindow, receive: ReceiveQueue, *, grace: float, flush_timeout: float
    ) -> None:
        self.half_close = False
        self._send = send
        self._receive = receive
        self._grace = grace
        self._flush_timeout = flush_timeout
        self._ended_at = float("-inf")
        self._heard_at = float("-inf")
        self._progress_at = float("-inf")

    def ended(self, now: float) -> None:
        """The local TCP has sent its end of stream."""
        self._ended_at = now

    def heard(self, now: float) -> None:
        """Data came from the peer."""
        self._heard_at = now

    def progress(self, now: float) -> None:
        """The peer has taken something, or has just come back."""
        self._progress_at = now

    def due(self) -> float | None:
        """When `verdict` changes if nothing happens until then."""
        if self.half_close or not self._send.ending:
            return None
        if not self._send.drained:
            return max(self._ended_at, self._progress_at) + self._flush_timeout
        return max(self._ended_at, self._heard_at) + self._grace if self._receive.drained else None

    def verdict(self, now: float) -> End | None:
        """How the session is over, or None while it is not."""
        if self.half_close:
            complete = (
                self._send.ending and self._send.drained and self._receive.eof and self._receive.drained
            )
            return End("done", abort=False) if complete else None
        due = self.due()
        if due is None or now < due:
            return None
        if not self._send.drained:
            return End("flush", abort=True)
        return End("truncated", abort=True) if self._receive.gap else End("done", abort=False)
