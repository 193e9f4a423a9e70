"""The picture of a running rtun that everyone shares: rules, agents, tunnels, flows, and their counters.

All structs are immutable. `up` is from the user's side towards the target, `down` the way back, on
every side of a tunnel. Times named `*_at` are Unix seconds, `*_ms` are milliseconds, `idle_s` and
`uptime_s` are seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NewType

import msgspec

RuleId = NewType("RuleId", str)  # "r1"
AgentId = NewType("AgentId", str)  # "name/instance"
TunnelId = NewType("TunnelId", str)  # "t5"
FlowId = NewType("FlowId", str)  # "00a1f3c2", hexadecimal, as on the wire

SCHEMA_VERSION = 1  # of events, snapshot, status file and control protocol; see CHANGELOG


class RuleState(enum.StrEnum):
    """Where a rule is in its life."""

    STARTING = "starting"
    ACTIVE = "active"
    WAITING = "waiting"  # no agent or no tunnel yet; datagrams wait in the socket
    PAUSED = "paused"
    STOPPED = "stopped"


class AgentState(enum.StrEnum):
    """What this process can do with a remote end."""

    READY = "ready"
    PROBING = "probing"
    IN_USE = "in use"
    EXPIRING = "expiring"
    LOST = "lost"


class TunnelState(enum.StrEnum):
    """Lifecycle of one path: opening -> up <-> degraded -> draining -> closed."""

    OPENING = "opening"
    UP = "up"
    DEGRADED = "degraded"
    DRAINING = "draining"
    CLOSED = "closed"


class FlowState(enum.StrEnum):
    """Lifecycle of one conversation."""

    ACTIVE = "active"
    IDLE = "idle"
    WAITING = "waiting"  # its tunnel is gone and no other is up yet


class Traffic(msgspec.Struct, frozen=True, gc=False):
    """Packets and bytes carried, payload only."""

    up_packets: int = 0
    up_bytes: int = 0
    down_packets: int = 0
    down_bytes: int = 0


class Rates(msgspec.Struct, frozen=True, gc=False):
    """Packets and bytes per second, over the last second."""

    up_packets: float = 0.0
    up_bytes: float = 0.0
    down_packets: float = 0.0
    down_bytes: float = 0.0


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for: a listening address and its target."""

    id: RuleId
    family: str
    listen: str
    target: str
    state: RuleState
    reason: str = ""
    agent: AgentId | None = None
    tunnels_up: int = 0
    tunnels_min: int = 0
    tunnels_max: int = 0
    flows: int = 0
    traffic: Traffic = Traffic()
    rates: Rates = Rates()
    drops: dict[str, int] = {}


class AgentView(msgspec.Struct, frozen=True, kw_only=True):
    """A remote end that this process can use or serves."""

    id: AgentId
    name: str
    instance: str
    state: AgentState
    signal: str = ""  # URL of the server it was found at
    address: str = ""
    version: str = ""
    expires_at: float | None = None
    rtt_ms: float | None = None  # of the last probe
    probed_at: float | None = None
    pinned: bool = False
    tunnels: int = 0
    reason: str = ""


class TunnelView(msgspec.Struct, frozen=True, kw_only=True):
    """One path to an agent. Loss is a share of 1, None where the peer lets nothing be measured."""

    id: TunnelId
    rule: RuleId | None
    agent: AgentId | None
    state: TunnelState
    kind: str  # "p2p", "websocket", "quic", ...
    opened_at: float
    local: str = ""
    remote: str = ""
    codec: str = ""
    rtt_ms: float | None = None
    loss_up: float | None = None
    loss_down: float | None = None
    quiet_s: float = 0.0  # since something valid was last received
    expires_at: float | None = None
    preferred: bool = False
    flows: int = 0
    traffic: Traffic = Traffic()
    rates: Rates = Rates()
    drops: dict[str, int] = {}
    reason: str = ""


class FlowView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One conversation carried on a tunnel."""

    id: FlowId
    rule: RuleId | None
    source: str
    target: str
    tunnel: TunnelId | None
    state: FlowState
    opened_at: float
    idle_s: float
    up_packets: int = 0
    up_bytes: int = 0
    down_packets: int = 0
    down_bytes: int = 0
    up_rate: float = 0.0  # bytes per second, over the last second
    down_rate: float = 0.0
    moves: int = 0


class SignalView(msgspec.Struct, frozen=True, kw_only=True):
    """A signalling connection: of a client to its server, or a listener of the server itself."""

    url: str
    state: str  # "connected", "connecting", "no agent", "lost", "listening"
    since: float
    reason: str = ""
    requests_pending: int = 0


class ServiceSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The picture of one service. `drops` counts datagrams by reason, `faults` what peers did wrong."""

    service: str
    signal: tuple[SignalView, ...] = ()
    rules: tuple[RuleView, ...] = ()
    agents: tuple[AgentView, ...] = ()
    tunnels: tuple[TunnelView, ...] = ()
    flows: Sequence[FlowView] = ()
    traffic: Traffic = Traffic()
    drops: dict[str, int] = {}
    faults: dict[str, int] = {}


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable picture of the whole engine; enough to draw every screen.

    `console_frames_dropped` counts what a terminal was too slow to take.
    """

    v: int = SCHEMA_VERSION
    seq: int  # of the newest event already contained
    ts: float
    uptime_s: float
    pid: int
    version: str
    services: tuple[str, ...]
    signal: tuple[SignalView, ...] = ()
    rules: tuple[RuleView, ...] = ()
    agents: tuple[AgentView, ...] = ()
    tunnels: tuple[TunnelView, ...] = ()
    flows: Sequence[FlowView] = ()
    flows_total: int | None = None  # how many there are, where `flows` are only some of them
    traffic: Traffic = Traffic()
    rates: Rates = Rates()
    drops: dict[str, int] = {}
    faults: dict[str, int] = {}
    console_frames_dropped: int = 0
    recording: str = ""  # the file that all this is being recorded into


def agent_id(name: str, instance: str | None) -> AgentId:
    """The one spelling of an agent's identity."""
    return AgentId(f"{name}/{instance}" if instance else name)


def add_counts(into: dict[str, int], more: dict[str, int]) -> None:
    """Add counters by reason in place."""
    for reason, count in more.items():
        into[reason] = into.get(reason, 0) + count


def add_traffic(first: Traffic, second: Traffic) -> Traffic:
    """Sum of two traffic counters."""
    return Traffic(
        first.up_packets + second.up_packets,
        first.up_bytes + second.up_bytes,
        first.down_packets + second.down_packets,
        first.down_bytes + second.down_bytes,
    )
