"""When an end of a relay channel beats, in which frame form it speaks, and when it gives up; sans-IO.

The same rules hold for relay and agent (wire spec 9.4, 9.6, 9.8). Nothing on the wire names the form of
frames, so it follows from what is known, first rule first:

* it was settled in the set-up: seed 0 is the legacy form, two ends of our own agree on obfs-v2;
* there is a good guess, which is spoken at once and corrected by the peer's first frame;
* else our first heartbeat is held until the peer's first frame shows its form, because older builds close
  a channel on a frame that they cannot read; but only for a while, as the peer may be waiting for us too.

Times are seconds of one clock that does not go backwards.
"""

from __future__ import annotations

from dataclasses import dataclass

from rtun_core.wire.relay_frame import CodecKind, detect_codec

HEARTBEAT = 3.0
WATCHDOG = 30.0
REFUSED_WINDOW = 3.0
CONFIRM_AFTER = 1.0

_EARLY = 0.5  # a beat may come this early, so that ticks of a second do not stretch the interval


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTerms:
    """What one end knows of the form of frames when a channel starts.

    `settled` needs no guessing; `guess` is spoken at once; without both, the first heartbeat is held for
    `hold` seconds and `fallback` is spoken then.
    """

    seed: int
    settled: CodecKind | None
    guess: CodecKind | None = None
    fallback: CodecKind = CodecKind.OBFS_V2
    hold: float = 3.0


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now: send a heartbeat, close for a reason."""

    heartbeat: bool = False
    close: str | None = None


class FramePolicy:
    """The state of one end. `kind` is the form to send in, None while that is held open."""

    __slots__ = ("_heard_at", "_hold_until", "_next_beat", "_refused_at", "_terms", "kind", "settled")

    def __init__(self, terms: FrameTerms, now: float) -> None:
        self._terms = terms
        self._heard_at = now
        self._hold_until = now + terms.hold
        self._next_beat = now
        self._refused_at: float | None = None
        self.settled = terms.settled is not None
        self.kind = terms.settled or terms.guess

    def quiet(self, now: float) -> float:
        """Seconds since the last valid frame, or since the start."""
        return max(0.0, now - self._heard_at)

    def detect(self, datagram: bytes, now: float) -> bool:
        """Judge a datagram while not settled; True when it is a frame, whose form is then settled.

        A heartbeat that was held, or went out in a form the peer cannot read, is due again.
        """
        kind = detect_codec(self._terms.seed, datagram)
        if kind is None:
            return False
        if kind is not self.kind:
            self._next_beat = now
        self.kind = kind
        self.settled = True
        self.received(now)
        return True

    def received(self, now: float) -> None:
        """A valid frame arrived."""
        self._heard_at = now
        self._refused_at = None

    def refused(self, now: float) -> bool:
        """The peer's host says that nobody listens; whether that closes the channel.

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
            self.kind = self._terms.fallback
        if self.kind is None or now + _EARLY < self._next_beat:
            return Step()
        self._next_beat = now + HEARTBEAT
        return Step(heartbeat=True)
