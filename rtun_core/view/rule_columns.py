"""The columns of rules."""

from __future__ import annotations

from typing import Final

from rtun_core.model import RuleView
from rtun_core.view.column import Column, Kind
from rtun_core.view.traffic_columns import DROP, REASON, TRAFFIC
from rtun_core.view.units import narrow_count_text


def _tunnels(row: RuleView) -> str:
    return f"{row.tunnels_up}/{row.tunnels_max}"


RULE_COLUMNS: Final = (
    Column(
        id="rule",
        aliases=("id",),
        title="RULE",
        help="The rule's id.",
        kind=Kind.TEXT,
        value=lambda row, now: row.id,
        min_width=4,
        width=4,
        priority=1,
    ),
    Column(
        id="family",
        title="FAMILY",
        help="Kind of forwarding.",
        kind=Kind.TEXT,
        value=lambda row, now: row.family,
        min_width=6,
        width=7,
        priority=9,
        shown=False,
    ),
    Column(
        id="listen",
        title="LISTEN",
        help="Local address that it listens on.",
        kind=Kind.ADDRESS,
        value=lambda row, now: row.listen,
        min_width=12,
        width=21,
        weight=2,
        priority=2,
    ),
    Column(
        id="dst",
        aliases=("target",),
        title="TARGET",
        help="Where the agent sends what arrives.",
        kind=Kind.ADDRESS,
        value=lambda row, now: row.target,
        min_width=12,
        width=21,
        weight=2,
        priority=2,
    ),
    Column(
        id="state",
        title="STATE",
        help="Where it is in its life.",
        kind=Kind.STATE,
        value=lambda row, now: row.state.value,
        min_width=8,
        width=8,
        priority=2,
    ),
    Column(
        id="agent",
        title="AGENT",
        help="Agent that new tunnels go to.",
        kind=Kind.TEXT,
        value=lambda row, now: row.agent,
        min_width=6,
        width=12,
        weight=1,
        priority=5,
    ),
    Column(
        id="tunnels",
        aliases=("tun",),
        title="TUN",
        help="Tunnels that are up, and how many there may be.",
        kind=Kind.COUNT,
        value=lambda row, now: row.tunnels_up,
        text=_tunnels,
        min_width=3,
        width=5,
        priority=4,
    ),
    Column(
        id="flows",
        aliases=("fl",),
        title="FL",
        help="Flows that it carries.",
        kind=Kind.COUNT,
        value=lambda row, now: row.flows,
        text=lambda row: narrow_count_text(row.flows),
        min_width=4,
        width=6,
        priority=3,
    ),
    *TRAFFIC,
    DROP,
    REASON,
)
