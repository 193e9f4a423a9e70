"""What a session is called, and who is told what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rtun_core.model import AgentId, FlowId, TunnelId

if TYPE_CHECKING:
    from rtun_core.rtunnel.carrier import Carrier


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a session is called in tables and events. `source` and `target` are those of the flow."""

    number: int
    tunnel: TunnelId
    flow: FlowId
    agent: AgentId
    source: str
    target: str
    opened_at: float  # Unix seconds


class Watcher(Protocol):
    """Who is told what becomes of a carrier."""

    def attached(self, carrier: Carrier) -> None:
        """A WebSocket carries the session from now on."""

    def detached(self, carrier: Carrier, reason: str) -> None:
        """The session is without a WebSocket."""

    def fault(self, reason: str) -> None:
        """The peer did something wrong."""

    def finished(self, carrier: Carrier) -> None:
        """The session is over and its local TCP is gone; told once."""
