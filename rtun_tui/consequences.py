"""What an operation does to the traffic of a tunnel, a rule or flows, in one sentence each. Pure.

A relay carries datagrams, whose flows move between tunnels; over WebSocket each tunnel carries one TCP
connection, which stays with it.
"""

from __future__ import annotations

from rtun_core.event import counted
from rtun_core.model import FlowView, RuleId, RuleView, Snapshot, TunnelState, TunnelView

_STREAMS = "rtunnel"  # the family whose flows are TCP connections
_WEBSOCKET = "websocket"


def of_drain(tunnel: TunnelView, snapshot: Snapshot) -> str:
    """Where the flows of a tunnel go when it takes no more of them."""
    if not tunnel.flows or tunnel.kind != _WEBSOCKET:
        return _moved(tunnel, snapshot)
    return f"{counted(tunnel.flows, 'flow')}, given half a minute to end by itself, then reset"


def of_close(tunnel: TunnelView, snapshot: Snapshot) -> str:
    """Where the flows of a tunnel go when it ends at once."""
    if not tunnel.flows or tunnel.kind != _WEBSOCKET:
        return _moved(tunnel, snapshot)
    return f"{counted(tunnel.flows, 'flow')}, reset at both ends"


def of_recycle(tunnel: TunnelView) -> str:
    """What the flows of a tunnel see of its replacement."""
    if not tunnel.flows:
        return "none uses it"
    flows = counted(tunnel.flows, "flow")
    if tunnel.kind == _WEBSOCKET:
        return f"{flows}, going on over a new WebSocket; nothing is lost"
    return f"{flows}, moved when a new tunnel is up (make before break)"


def of_closed_flows(flow: FlowView | None, snapshot: Snapshot) -> str:
    """What becomes of flows that are closed; `flow` is one of them."""
    if flow is not None and _is_stream(flow.rule, snapshot):
        return "their TCP connections are reset at both ends"
    return "their next datagram opens a new flow, with a new source port at the target"


def of_pause(rule: RuleView) -> str:
    """What becomes of the traffic of a rule while it is paused."""
    if rule.family == _STREAMS:
        return "new connections are turned away and counted, open ones go on"
    return "its datagrams are dropped and counted"


def _is_stream(rule: RuleId | None, snapshot: Snapshot) -> bool:
    return any(each.id == rule and each.family == _STREAMS for each in snapshot.rules)


def _moved(tunnel: TunnelView, snapshot: Snapshot) -> str:
    if not tunnel.flows:
        return "none uses it"
    others = [
        each.id
        for each in snapshot.tunnels
        if each.rule == tunnel.rule and each.id != tunnel.id and each.state is TunnelState.UP
    ]
    flows = counted(tunnel.flows, "flow")
    if not others:
        return f"{flows}, waiting until another tunnel is up"
    return f"{flows}, moved to {', '.join(others[:3])}{', ...' if len(others) > 3 else ''}"
