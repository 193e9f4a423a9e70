"""When a channel speaks, which codec it speaks, and when it counts as lost.

Pure: `now` in seconds. Wire spec 9.4 (heartbeats), 9.6 (socket errors), 9.8 (codec generations).
Towards an original agent nothing is sent until its first frame has told its generation, because older
builds close a channel on a frame that they do not understand. Our own agents agree on obfs-v2 in the
set-up.
"""

from __future__ import annotations

from rtun_core.wire.relay_frame import CodecKind, RelayCodec, default_kind, detect_codec, make_codec

HEARTBEAT_INTERVAL = 3.0
RECEIVE_TIMEOUT = 30.0
DETECT_TIMEOUT = 4.0  # a lost first heartbeat is followed by the next after 3 s
REFUSALS = 2  # one late ICMP message of the connecting phase must not end a channel ...
REFUSAL_MEMORY = 3.0  # ... but a peer whose process is gone refuses every datagram


class ChannelPolicy:
    """Timing and codec of one channel. Call `tick` about once a second."""

    def __init__(self, *, seed: int, agreed: CodecKind | None, now: float) -> None:
        """`agreed`: the codec when it is known beforehand; seed 0 always means legacy."""
        self._seed = seed
        self._opened_at = self._last_rx = now
        self._next_heartbeat = now
        self._refusals: list[float] = []
        kind = CodecKind.LEGACY if seed == 0 else agreed
        self.codec: RelayCodec | None = None if kind is None else make_codec(kind, seed)

    def first_frame(self, datagram: bytes) -> RelayCodec | None:
        """Learn the codec from the peer's first frame; None while it is none of them."""
        if self.codec is None and (kind := detect_codec(self._seed, datagram)) is not None:
            self.codec = make_codec(kind, self._seed)
        return self.codec

    def assume_codec(self) -> RelayCodec:
        """The peer said nothing for DETECT_TIMEOUT: speak the newest generation."""
        if self.codec is None:
            self.codec = make_codec(default_kind(self._seed), self._seed)
        return self.codec

    def received(self, now: float) -> None:
        """A valid frame arrived."""
        self._last_rx = now
        self._refusals.clear()

    def refused(self, now: float) -> bool:
        """The peer's host refused a datagram; True when that means the peer is gone.

        The next heartbeat goes out early and makes sure, so an idle channel finds out as well.
        """
        self._next_heartbeat = min(self._next_heartbeat, now)
        self._refusals = [at for at in self._refusals if now - at < REFUSAL_MEMORY] + [now]
        return len(self._refusals) >= REFUSALS

    def heartbeat_due(self, now: float) -> bool:
        """Whether to send a heartbeat now; asking schedules the next one."""
        if self.codec is None or now < self._next_heartbeat:
            return False
        late = now - self._next_heartbeat >= HEARTBEAT_INTERVAL
        self._next_heartbeat = (now if late else self._next_heartbeat) + HEARTBEAT_INTERVAL
        return True

    def lost(self, now: float) -> str | None:
        """Why the channel is lost, or None."""
        quiet = now - self._last_rx
        return f"nothing received for {quiet:.0f} s" if quiet >= RECEIVE_TIMEOUT else None
