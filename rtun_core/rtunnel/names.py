"""What a session is called."""

from __future__ import annotations

from dataclasses import dataclass

from rtun_core.model import AgentId, FlowId, TunnelId


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
