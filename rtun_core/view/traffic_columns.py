"""The columns that rules and tunnels have in common: what they carry and what they drop."""

from __future__ import annotations

from typing import Final

from rtun_core.view.column import Column, Kind
from rtun_core.view.units import narrow_count_text

TRAFFIC: Final = (
    Column(
        id="up",
        title="UP",
        help="Carried towards the target, per second.",
        kind=Kind.RATE,
        value=lambda row, now: row.rates.up_bytes,
        min_width=6,
        width=6,
        priority=4,
        twin="up_total",
    ),
    Column(
        id="dn",
        aliases=("down",),
        title="DN",
        help="Carried back from the target, per second.",
        kind=Kind.RATE,
        value=lambda row, now: row.rates.down_bytes,
        min_width=6,
        width=6,
        priority=3,
        twin="dn_total",
    ),
    Column(
        id="up_total",
        title="UP SUM",
        help="Carried towards the target since the start.",
        kind=Kind.BYTES,
        value=lambda row, now: row.traffic.up_bytes,
        min_width=6,
        width=7,
        priority=7,
        shown=False,
        twin="up",
    ),
    Column(
        id="dn_total",
        aliases=("down_total",),
        title="DN SUM",
        help="Carried back from the target since the start.",
        kind=Kind.BYTES,
        value=lambda row, now: row.traffic.down_bytes,
        min_width=6,
        width=7,
        priority=7,
        shown=False,
        twin="dn",
    ),
)

DROP: Final = Column(
    id="drop",
    aliases=("drops",),
    title="DROP",
    help="Datagrams that could not be carried, for any reason.",
    kind=Kind.COUNT,
    value=lambda row, now: sum(row.drops.values()),
    text=lambda row: narrow_count_text(sum(row.drops.values())),
    min_width=4,
    width=6,
    priority=8,
    shown=False,
)

REASON: Final = Column(
    id="reason",
    title="REASON",
    help="Why it is in its state.",
    kind=Kind.TEXT,
    value=lambda row, now: row.reason,
    min_width=8,
    width=20,
    weight=2,
    priority=9,
    shown=False,
)
