"""The words of an RTunnel session: roles, states, how it ended, its settings and its counters."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, NamedTuple

from rtun_core.wire.rtunnel_packet import HEADER_SIZE, MAX_PAYLOAD, ORIGINAL_PAYLOAD


class Role(enum.Enum):
    """Which end of the tunnel this is. The client opens the WebSockets, the server owns the target."""

    CLIENT = "client"
    SERVER = "server"


class State(enum.Enum):
    """Where a session stands. The values are the names that tables and logs show.

        opening -> open <-> resuming -> closing -> closed

    opening   no WebSocket yet, or a peer that has not shown yet that it is new
    open      data flows
    resuming  the WebSocket is gone, or a new one is there and the positions are being compared
    closing   an end was asked for or announced, and bytes are still to be handed on
    closed    over; `Session.end` says why
    """

    OPENING = "opening"
    OPEN = "open"
    RESUMING = "resuming"
    CLOSING = "closing"
    CLOSED = "closed"


class End(NamedTuple):
    """How a session ended. With `abort` the local TCP connection is reset instead of closed.

    Reasons of the engine: `done`, `eof` (the peer closed), `aborted` (the peer gave up), `truncated` (the
    peer closed and part of its data never came), `refused`, `lost`, `changed` (the peer is another life of
    itself), `gone` (no WebSocket for too long), `ghost` (nobody answered), `flush` (the peer stopped taking
    the rest), the reasons of RemoteProtocolError, and whatever word `Session.reset` was given.
    """

    reason: str
    abort: bool


class Shape(NamedTuple):
    """How much one direction may have under way: bytes of payload in a packet, bytes of packets in all."""

    payload: int
    window: int


WINDOW_PACKETS: Final = 128
"""Packets that may be unacknowledged, towards any peer (rtunnel spec 15, rule 1)."""
MAX_STORED: Final = 1024
"""Packets that a receiver keeps, in order or not, before it calls the peer broken."""

ORIGINAL_SHAPE: Final = Shape(ORIGINAL_PAYLOAD, WINDOW_PACKETS * (HEADER_SIZE + ORIGINAL_PAYLOAD))
OWN_SHAPE: Final = Shape(MAX_PAYLOAD, 4 * 1024 * 1024)
"""Between our own ends: fewer, bigger packets."""

EOF_GRACE: Final = {Role.CLIENT: 2.0, Role.SERVER: 0.25}
"""Seconds of silence from the original before a local end of stream ends the whole session.

An application at the client often ends its request and waits; a target that ends is mostly finished.
"""


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """Settings of one session; times in seconds, sizes in bytes."""

    send_buffer: int = 262_144
    """Bytes taken from the local TCP that are not in packets yet."""
    ack_delay: float = 0.02
    """The longest that an acknowledgement waits for company."""
    ack_every: int = 16
    """Packets that are acknowledged without waiting."""
    eof_grace: float | None = None
    """Replaces `EOF_GRACE` of the role."""
    flush_timeout: float = 30.0
    """How long a peer may take nothing at all while the end of the stream waits to be sent."""
    resume_limit: float = 300.0
    """How long a session lives without a WebSocket; a server of the field forgets it then."""
    probe_timeout: float = 60.0
    """How long a peer may leave the question for its position unanswered."""
    ping_interval: float = 15.0
    dead_after: float = 150.0
    """Silence of a WebSocket that counts as its death. The original is mute while its TCP is stalled."""


@dataclass(slots=True)
class Counters:
    """What a session has done since it began. Bytes are payload, not packets."""

    bytes_in: int = 0
    bytes_out: int = 0
    packets_in: int = 0
    packets_out: int = 0
    acks_in: int = 0
    acks_out: int = 0
    resends: int = 0
    duplicates: int = 0
    bad_packets: int = 0
    reconnects: int = 0
