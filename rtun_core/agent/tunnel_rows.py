"""The tunnels of an exit as rows of a snapshot."""

from __future__ import annotations

from collections.abc import Iterable

from rtun_core.agent.exit_flows import ExitFlows
from rtun_core.agent.exit_tunnel import ExitTunnel
from rtun_core.model import AgentId, TunnelState, TunnelView


def tunnel_rows(
    tunnels: Iterable[ExitTunnel], flows: ExitFlows, *, agent: AgentId | None, now: float, wall: float
) -> tuple[TunnelView, ...]:
    """One row per tunnel. `now` is the time of the tunnels' clock, `wall` the same moment in Unix seconds."""
    counts = flows.columns.per_path(len(flows.paths)).tolist()
    return tuple(
        TunnelView(
            id=tunnel.id,
            rule=None,
            agent=agent,
            state=TunnelState.DRAINING if tunnel.draining else TunnelState.UP,
            kind="p2p",
            opened_at=wall - (now - tunnel.opened_at),
            local=str(tunnel.frames.local),
            remote=str(tunnel.frames.remote),
            codec=tunnel.frames.codec_name,
            rtt_ms=None if tunnel.frames.rtt is None else tunnel.frames.rtt * 1000,
            quiet_s=tunnel.frames.quiet,
            flows=counts[tunnel.path_index],
            traffic=tunnel.traffic,
            drops=dict(tunnel.counters()[0]),
        )
        for tunnel in tunnels
    )
