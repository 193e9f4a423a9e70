"""What the owner of an RTunnel session can see: state, room, positions, round trips (rtunnel spec 5.1)."""

from __future__ import annotations

from rtun_core.wire.rtunnel_ack import AckPolicy
from rtun_core.wire.rtunnel_budget import Budget
from rtun_core.wire.rtunnel_close import Closing
from rtun_core.wire.rtunnel_liveness import Liveness
from rtun_core.wire.rtunnel_probe import Probe
from rtun_core.wire.rtunnel_receive import HeldPackets, ReceiveQueue
from rtun_core.wire.rtunnel_send_window import SendWindow
from rtun_core.wire.rtunnel_terms import EOF_GRACE, Counters, End, Role, SessionConfig, State

_DEFAULTS = SessionConfig()


class SessionView:
    """The parts of a session and everything that can be read off them; nothing here changes them.

    `end` is None until the session is over, `drop_socket` asks for the WebSocket to be closed, and
    `half_close` is what the first handshake settled. `budget` is shared with other sessions.
    """

    def __init__(
        self,
        *,
        session_id: str,
        role: Role,
        now: float,
        config: SessionConfig = _DEFAULTS,
        budget: Budget | None = None,
    ) -> None:
        self.session_id = session_id
        self.role = role
        self.half_close = False
        self.counters = Counters()
        self.end: End | None = None
        self.drop_socket = False
        self._config = config
        self._send = SendWindow(config.send_buffer, self.counters, budget)
        self._receive = ReceiveQueue()
        self._acks = AckPolicy(delay=config.ack_delay, every=config.ack_every)
        self._probe = Probe()
        self._live = Liveness(interval=config.ping_interval, dead_after=config.dead_after)
        grace = EOF_GRACE[role] if config.eof_grace is None else config.eof_grace
        self._closing = Closing(self._send, self._receive, grace=grace, flush_timeout=config.flush_timeout)
        self._attached = False
        self._detached_at = now
        self._connections = 0
        self._answers = 0
        self._met = False  # the peer was heard in this life of ours
        self._held = HeldPackets()
        self._fin_due = False

    @property
    def state(self) -> State:
        """See `State`. In every state `packets` may have something to send."""
        if self.end is not None:
            return State.CLOSED if self.end.abort or self._receive.drained else State.CLOSING
        if self._connections == 0 or (self._connections == 1 and self._probe.active):
            return State.OPENING
        if not self._attached or self._probe.active:
            return State.RESUMING
        return State.CLOSING if self._send.ending and not self.half_close else State.OPEN

    @property
    def wants_socket(self) -> bool:
        """Whether a client without a WebSocket should open one."""
        return self.end is None and not self._attached

    @property
    def room(self) -> int:
        """Bytes that `write` would take now."""
        return self._send.room if self.end is None else 0

    @property
    def unread(self) -> int:
        """Bytes that arrived and that the local TCP has not confirmed with `delivered`."""
        return self._receive.unread

    @property
    def unacknowledged(self) -> int:
        """Bytes of the local TCP that the peer has not confirmed."""
        return self._send.unsent + self._send.in_flight_bytes

    @property
    def in_flight(self) -> int:
        """Packets that the peer has not confirmed, of at most `WINDOW_PACKETS`."""
        return self._send.in_flight

    @property
    def readable(self) -> bool:
        """Whether `read` has bytes."""
        return self._receive.readable

    @property
    def read_eof(self) -> bool:
        """Whether the local TCP has been handed everything, and no more will come."""
        return not self.readable and (self._receive.eof or (self.end is not None and not self.end.abort))

    @property
    def rtt(self) -> float | None:
        """The latest round trip in seconds."""
        return self._live.rtt

    @property
    def srtt(self) -> float | None:
        """The smoothed round trip in seconds."""
        return self._live.srtt
