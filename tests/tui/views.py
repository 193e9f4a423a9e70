"""One of everything, to be changed where a test needs it otherwise."""

from __future__ import annotations

import msgspec

from rtun_core.model import (
    AgentState,
    AgentView,
    FlowState,
    FlowView,
    Rates,
    RuleState,
    RuleView,
    Snapshot,
    Traffic,
    TunnelState,
    TunnelView,
)
from rtun_core.view.page import Page

NOW = 1_700_000_000.0

AGENT = AgentView(
    id="beta/7f3c",
    name="beta",
    instance="7f3c",
    state=AgentState.IN_USE,
    signal="quic://a.example:8888",
    address="198.51.100.7:443",
    version="1.2",
    expires_at=NOW + 2460,
    rtt_ms=21.0,
    probed_at=NOW - 3,
    tunnels=4,
)
OTHER = msgspec.structs.replace(
    AGENT, id="alpha/19d0", name="alpha", instance="19d0", state=AgentState.READY, expires_at=None
)
TUNNEL = TunnelView(
    id="t1",
    rule="r1",
    agent="beta/7f3c",
    state=TunnelState.UP,
    kind="p2p",
    codec="batch",
    opened_at=NOW - 60,
    local="10.0.0.2:5000",
    remote="203.0.113.9:41822",
    rtt_ms=18.4,
    loss_up=0.0,
    loss_down=0.042,
    flows=3,
    traffic=Traffic(10, 1_000, 20, 2_000_000),
    rates=Rates(1.0, 1_000.0, 2.0, 2_000.0),
)
SECOND = msgspec.structs.replace(TUNNEL, id="t2", remote="203.0.113.10:1", rtt_ms=None, flows=1)
RULE = RuleView(
    id="r1",
    family="relay",
    listen="0.0.0.0:15353",
    target="192.0.2.1:53",
    state=RuleState.ACTIVE,
    agent="beta/7f3c",
    tunnels_up=2,
    tunnels_min=2,
    tunnels_max=8,
    flows=4,
    drops={"oversize": 3, "kernel": 0},
)
FLOW = FlowView(
    id="00a1f3e1",
    rule="r1",
    source="10.0.4.17:60001",
    target="192.0.2.1:53",
    tunnel="t1",
    state=FlowState.ACTIVE,
    opened_at=NOW - 2520,
    idle_s=0.4,
    up_bytes=31_000_000,
    down_bytes=176_200_000,
    up_packets=28_114,
    down_packets=151_870,
    up_rate=50_000.0,
    down_rate=250_000.0,
    moves=1,
)


def but(view, **changes):
    """The same view with other values."""
    return msgspec.structs.replace(view, **changes)


def snapshot(**changes):
    whole = Snapshot(
        seq=1,
        ts=NOW,
        uptime_s=60.0,
        pid=7,
        version="0",
        services=("relay",),
        rules=(RULE,),
        agents=(AGENT, OTHER),
        tunnels=(TUNNEL, SECOND),
        flows=(FLOW,),
        rates=Rates(up_bytes=10_525_000.0, down_bytes=26_575_000.0),
    )
    return but(whole, **changes)


def page(table, *rows, total=None, shown=None):
    return Page(
        table=table,
        total=len(rows) if total is None else total,
        shown=len(rows) if shown is None else shown,
        first=0,
        rows=rows,
        now=NOW,
    )
