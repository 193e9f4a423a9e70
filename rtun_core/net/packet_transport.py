"""What carries the packets of a switch session: a WebSocket or a QUIC stream (wire spec 4 and 5.2)."""

from __future__ import annotations

from typing import Protocol


class PacketTransport(Protocol):
    """An ordered, reliable carrier of packets of up to 16 MiB; an empty packet is legal."""

    peer: str
    """The other end as `ip:port`."""

    async def send(self, packet: bytes) -> None:
        """Send one packet; waits while the peer is slow. Raises SignalingError once the transport ended."""

    async def recv(self) -> bytes:
        """Return the next packet. Raises SignalingError with the reason when there are no more."""

    async def close(self) -> None:
        """End the transport in a bounded time; may be called again."""
