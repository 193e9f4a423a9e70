"""When an exit tunnel beats, in which frame form it speaks, and when it gives up: decisions without I/O.

The frame form. Nothing on the wire names it, so it follows from what is known, first rule first
(wire spec 9.8):

* seed 0 is the legacy form; a relay of our own family agreed on obfs-v2: both are settled at once;
* a relay that asked for payloads of 1442 bytes counts on the 10-byte header of obfs-v2: start with it;
* else hold our first heartbeat until the relay's first frame shows its form, but 3 s at most, because
  a relay may be waiting for us too. Then assume obfs-v2, or obfs-v1 if the payload that the relay asked
  for leaves no room for ten header bytes.

An assumption is corrected by the first frame that can be read, and settled by it.

Times are seconds of one clock that does not go backwards.
"""

from __future__ import annotations

from dataclasses import dataclass

from rtun_core.wire.relay_frame import MAX_DATAGRAM, CodecKind, detect_codec

HEARTBEAT = 3.0
WATCHDOG = 30.0
HOLD = 3.0
REFUSED_WINDOW = 3.0
CONFIRM_AFTER = 1.0

OBFS_V2_PAYLOAD = MAX_DATAGRAM - 10
OBFS_V1_PAYLOAD = MAX_DATAGRAM - 9
LEGACY_PAYLOAD = MAX_DATAGRAM - 8

_EARLY = 0.5  # a beat may come this early, so that ticks of a second do not stretch the interval


@dataclass(frozen=True, slots=True)
class CodecTerms:
    """What the set-up of a tunnel says about its frames. `max_payload` 0 leaves it to us."""

    seed: int
    max_payload: int = 0
    agreed: bool = False

    @property
    def payload_limit(self) -> int:
        """The largest payload (bytes) that any frame form these terms allow can carry."""
        if self.seed == 0:
            return LEGACY_PAYLOAD
        return OBFS_V2_PAYLOAD if self.agreed else OBFS_V1_PAYLOAD

    @property
    def settled(self) -> CodecKind | None:
        """The form that needs no guessing."""
        if self.seed == 0:
            return CodecKind.LEGACY
        return CodecKind.OBFS_V2 if self.agreed else None

    @property
    def assumed(self) -> CodecKind:
        """The form to speak when the relay has shown none."""
        return CodecKind.OBFS_V1 if self.max_payload > OBFS_V2_PAYLOAD else CodecKind.OBFS_V2


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now: send a heartbeat, close for a reason."""

    heartbeat: bool = False
    close: str | None = None


class TunnelPolicy:
    """The state of one tunnel. `kind` is the form to send in, None while that is held open."""

    __slots__ = ("_heard_at", "_hold_until", "_next_beat", "_refused_at", "_terms", "kind", "settled")

    def __init__(self, terms: CodecTerms, now: float) -> None:
        self._terms = terms
        self._heard_at = now
        self._hold_until = now + HOLD
        self._next_beat = now
        self._refused_at: float | None = None
        self.settled = terms.settled is not None
        self.kind = terms.settled
        if self.kind is None and terms.max_payload == OBFS_V2_PAYLOAD:
            self.kind = CodecKind.OBFS_V2

    def quiet(self, now: float) -> float:
        """Seconds since the last valid frame, or since the start."""
        return max(0.0, now - self._heard_at)

    def detect(self, datagram: bytes, now: float) -> bool:
        """Judge a datagram while not settled; True when it is a frame, whose form is then settled.

        A heartbeat that was held, or went out in a form the relay cannot read, is due again.
        """
        kind = detect_codec(self._terms.seed, datagram)
        if kind is None:
            return False
        if kind is not self.kind:
            self._next_beat = now
        self.kind = kind
        self.settled = True
        return True

    def received(self, now: float) -> None:
        """A valid frame arrived."""
        self._heard_at = now
        self._refused_at = None

    def refused(self, now: float) -> bool:
        """The peer's host says that nobody listens; whether that closes the tunnel.

        A single report may be a late echo of the ICE phase. It takes a second one within 3 s, with no
        valid frame between them; a heartbeat soon after the first one makes sure (wire spec 9.6).
        """
        again = self._refused_at is not None and now - self._refused_at <= REFUSED_WINDOW
        self._refused_at = now
        self._next_beat = min(self._next_beat, now + CONFIRM_AFTER)
        return again

    def tick(self, now: float) -> Step:
        """Call at the start, after `detect` and about once a second."""
        if self.quiet(now) >= WATCHDOG:
            return Step(close=f"no valid frame for {WATCHDOG:.0f} s")
        if self.kind is None and now >= self._hold_until:
            self.kind = self._terms.assumed
        if self.kind is None or now + _EARLY < self._next_beat:
            return Step()
        self._next_beat = now + HEARTBEAT
        return Step(heartbeat=True)
