"""The columns of agents."""

from __future__ import annotations

from typing import Final

from rtun_core.model import AgentState, AgentView
from rtun_core.view.column import Column, Kind, seconds_left
from rtun_core.view.traffic_columns import REASON
from rtun_core.view.units import millis_text


def _state(row: AgentView) -> str:
    """An agent that could be taken is shown with how far away it is."""
    if row.state is AgentState.READY and row.rtt_ms is not None:
        return f"{row.state.value} {millis_text(row.rtt_ms)}"
    return row.state.value


AGENT_COLUMNS: Final = (
    Column(
        id="name",
        aliases=("agent",),
        title="NAME",
        help="Name that the agent is registered under.",
        kind=Kind.TEXT,
        value=lambda row, now: row.name,
        min_width=5,
        width=8,
        weight=1,
        priority=1,
    ),
    Column(
        id="inst",
        aliases=("instance",),
        title="INST",
        help="Tells agents of one name apart.",
        kind=Kind.TEXT,
        value=lambda row, now: row.instance,
        min_width=4,
        width=5,
        weight=1,
        priority=4,
    ),
    Column(
        id="signal",
        title="SIGNAL",
        help="Signalling server that it was found at.",
        kind=Kind.ADDRESS,
        value=lambda row, now: row.signal,
        min_width=10,
        width=18,
        weight=2,
        priority=6,
    ),
    Column(
        id="exp",
        aliases=("expires",),
        title="EXPIRES",
        help="Time until its registration ends.",
        kind=Kind.SECONDS,
        value=lambda row, now: seconds_left(row.expires_at, now),
        min_width=7,
        width=7,
        priority=3,
    ),
    Column(
        id="state",
        title="STATE",
        help="What it can be used for; ready ones with the round trip of the last probe.",
        kind=Kind.STATE,
        value=lambda row, now: row.state.value,
        text=_state,
        min_width=8,
        width=12,
        priority=2,
    ),
    Column(
        id="rtt",
        title="RTT",
        help="Round trip of the last probe.",
        kind=Kind.MILLIS,
        value=lambda row, now: row.rtt_ms,
        min_width=6,
        width=6,
        priority=7,
        shown=False,
    ),
    Column(
        id="tunnels",
        aliases=("tun",),
        title="TUN",
        help="Tunnels to it.",
        kind=Kind.COUNT,
        value=lambda row, now: row.tunnels,
        min_width=3,
        width=3,
        priority=7,
        shown=False,
    ),
    Column(
        id="address",
        title="ADDRESS",
        help="Address that the server sees it at.",
        kind=Kind.ADDRESS,
        value=lambda row, now: row.address,
        min_width=12,
        width=21,
        weight=1,
        priority=8,
        shown=False,
    ),
    Column(
        id="version",
        title="VERSION",
        help="Version that it tells.",
        kind=Kind.TEXT,
        value=lambda row, now: row.version,
        min_width=7,
        width=9,
        priority=9,
        shown=False,
    ),
    Column(
        id="pinned",
        title="PIN",
        help="Whether it is kept even when a better one is there.",
        kind=Kind.FLAG,
        value=lambda row, now: row.pinned,
        min_width=3,
        width=3,
        priority=8,
        shown=False,
    ),
    REASON,
    Column(
        id="id",
        title="ID",
        help="Name and instance, as commands take them.",
        kind=Kind.TEXT,
        value=lambda row, now: row.id,
        min_width=8,
        width=14,
        weight=1,
        priority=9,
        shown=False,
    ),
)
