"""The receiving half of an RTunnel session: packets in any order in, one stream out.

`received` counts what has arrived without a gap; `accepted` what the local TCP has taken, which is what an
acknowledgement means (rtunnel spec 5.3 and 15, rule 4). A slow local TCP therefore stops the peer after one
window, and that window bounds what is stored here.
"""

from __future__ import annotations

from collections import deque

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire.rtunnel_packet import EOF, MAX_PAYLOAD, Packet
from rtun_core.wire.rtunnel_terms import MAX_STORED, ORIGINAL_SHAPE


class ReceiveQueue:
    """Memory: at most `MAX_STORED` packets, and `limit` bytes plus one packet."""

    def __init__(self, limit: int = ORIGINAL_SHAPE.window) -> None:
        self.received = 0
        self.accepted = 0
        self.stored_bytes = 0
        self.limit = limit
        self.eof = False
        self._ready: deque[tuple[int, memoryview]] = deque()
        self._early: dict[int, tuple[int, memoryview]] = {}
        self._handed = 0

    @property
    def gap(self) -> bool:
        """Whether packets wait for one that has not come."""
        return bool(self._early)

    @property
    def readable(self) -> bool:
        """Whether `read` has bytes."""
        return bool(self._ready)

    @property
    def unread(self) -> int:
        """Bytes that arrived and that the local TCP has not confirmed."""
        return self.stored_bytes + self._handed

    @property
    def drained(self) -> bool:
        """Whether the local TCP has taken all that can be handed to it."""
        return not self._ready and not self._handed

    def push(self, flag: int, seq: int, payload: memoryview) -> bool:
        """Take packet `seq` (1 or more). False if it was here before.

        Raises RemoteProtocolError with the reason `overflow` when the peer sends beyond any window, or
        `after-eof` when it goes on after its end.
        """
        if seq <= self.received or seq in self._early:
            return False
        self._check_room(len(payload))
        self.stored_bytes += len(payload)
        if seq == self.received + 1:
            self._append(flag, payload)
            while self._early and (waiting := self._early.pop(self.received + 1, None)) is not None:
                self._append(*waiting)
        else:
            self._early[seq] = (flag, payload)
        self._catch_up()
        return True

    def _check_room(self, size: int) -> None:
        if (
            len(self._ready) + len(self._early) >= MAX_STORED
            or self.stored_bytes + size > self.limit + MAX_PAYLOAD
        ):
            raise RemoteProtocolError(
                f"the peer sent {self.stored_bytes + size} bytes ahead of its acknowledgements",
                reason="overflow",
            )

    def _append(self, flag: int, payload: memoryview) -> None:
        if self.eof:
            raise RemoteProtocolError("the peer sent data after the end of its stream", reason="after-eof")
        self.received += 1
        if flag == EOF:
            self.eof = True
        elif payload:
            self._ready.append((self.received, payload))

    def read(self, limit: int) -> list[memoryview]:
        """Hand out the payload of packets, about `limit` bytes, at least one packet if there is one."""
        parts: list[memoryview] = []
        size = 0
        while self._ready and (not parts or size + len(self._ready[0][1]) <= limit):
            payload = self._ready.popleft()[1]
            parts.append(payload)
            size += len(payload)
        self.stored_bytes -= size
        self._handed += size
        return parts

    def delivered(self) -> None:
        """The local TCP has taken all that `read` handed out."""
        self._handed = 0
        self._catch_up()

    def _catch_up(self) -> None:
        if not self._handed:
            self.accepted = self._ready[0][0] - 1 if self._ready else self.received

    def discard(self) -> None:
        """Let go of everything: the stream is not worth finishing."""
        self._ready.clear()
        self._early.clear()
        self.stored_bytes = self._handed = 0


class HeldPackets:
    """Data of a peer that may not be the one we knew: set aside, each number once, until that is clear."""

    def __init__(self) -> None:
        self._packets: dict[int, Packet] = {}
        self._bytes = 0

    def hold(self, packet: Packet, limit: int) -> bool:
        """Set a packet aside; False if it is there already.

        Raises RemoteProtocolError with the reason `overflow` beyond `MAX_STORED` packets, or `limit` bytes
        and one packet.
        """
        if packet.seq in self._packets:
            return False
        self._bytes += len(packet.payload)
        if len(self._packets) >= MAX_STORED or self._bytes > limit + MAX_PAYLOAD:
            raise RemoteProtocolError("the peer sends data and does not tell its position", reason="overflow")
        self._packets[packet.seq] = packet
        return True

    def release(self) -> list[Packet]:
        """All that was set aside; nothing is any more."""
        packets = list(self._packets.values())
        self._packets.clear()
        self._bytes = 0
        return packets
