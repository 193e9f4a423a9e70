"""What the set-up of a tunnel tells an agent about the relay's frames (wire spec 9.1, 9.8)."""

from __future__ import annotations

from dataclasses import dataclass

from rtun_core.wire.frame_policy import FrameTerms
from rtun_core.wire.relay_frame import MAX_DATAGRAM, CodecKind

OBFS_V2_PAYLOAD = MAX_DATAGRAM - 10
OBFS_V1_PAYLOAD = MAX_DATAGRAM - 9
LEGACY_PAYLOAD = MAX_DATAGRAM - 8

HOLD = 3.0  # seconds in which a relay of any generation has sent its first heartbeat


@dataclass(frozen=True, slots=True)
class CodecTerms:
    """Seed and payload size that a relay asked for, and whether it agreed on obfs-v2.

    `max_payload` 0 leaves it to us. A relay that asked for 1442 bytes counts on the 10-byte header of
    obfs-v2, so that is the guess; one that asked for more cannot mean it.
    """

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
    def frames(self) -> FrameTerms:
        """The terms for the frames of the tunnel."""
        settled = CodecKind.OBFS_V2 if self.agreed else None
        roomy = self.max_payload > OBFS_V2_PAYLOAD
        return FrameTerms(
            seed=self.seed,
            settled=CodecKind.LEGACY if self.seed == 0 else settled,
            guess=CodecKind.OBFS_V2 if self.max_payload == OBFS_V2_PAYLOAD else None,
            fallback=CodecKind.OBFS_V1 if roomy else CodecKind.OBFS_V2,
            hold=HOLD,
        )
