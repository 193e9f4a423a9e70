"""Which channel carries a flow: the choice for a new flow, and the moves that pay off.

Pure and vector-sized: it sees one `ChannelLoad` a channel, never single flows, so a tick costs the
same at ten flows and at fifty thousand. Moving is decided with hysteresis: a flow leaves only for a
channel of a better grade, or to even out a clearly uneven load.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rtun_core.model import TunnelId
from rtun_core.relay.health import Grade

PACKETS_PER_FLOW = 200.0  # packets a second that weigh as much as one more flow
BALANCE_SHARE = 0.2  # of its goal a channel must be off; RTTs that wobble by 30 % stay within that


class ChannelLoad(NamedTuple):
    """What the router knows of a channel. `cost` from `ChannelHealth.cost`, `rate` in packets a second."""

    id: TunnelId
    grade: Grade
    cost: float
    flows: int
    rate: float = 0.0
    draining: bool = False
    preferred: bool = False


class Move(NamedTuple):
    """Move `flows` flows from `old` to `new`."""

    old: TunnelId
    new: TunnelId
    flows: int
    reason: str


def best_channel(channels: Iterable[ChannelLoad]) -> ChannelLoad | None:
    """The channel for one more flow: not draining, best grade, preferred, then least loaded for its cost."""
    return min(channels, key=_rank, default=None)


def _rank(channel: ChannelLoad) -> tuple[bool, Grade, bool, float]:
    load = 1 + channel.flows + channel.rate / PACKETS_PER_FLOW
    return (channel.draining, channel.grade, not channel.preferred, load * channel.cost)


def plan_moves(channels: Sequence[ChannelLoad]) -> list[Move]:
    """The moves worth making now; channels that must be left first, then balance."""
    usable = [channel for channel in channels if not channel.draining]
    if not usable or len(channels) < 2:
        return []
    best_grade = min(channel.grade for channel in usable)
    takers = {channel.id: channel for channel in usable if channel.grade == best_grade}
    moves: list[Move] = []
    for channel in channels:
        if channel.flows and channel.id not in takers:
            moves += _leave(channel, takers)
    return moves or _balance(list(takers.values()))


def _leave(channel: ChannelLoad, takers: dict[TunnelId, ChannelLoad]) -> list[Move]:
    """Spread every flow of `channel` over `takers`, whose loads are updated in place."""
    reason = "draining" if channel.draining else "degraded" if channel.grade == Grade.DEGRADED else "stale"
    shares = _shares(channel.flows, list(takers.values()))
    for taker_id, count in shares.items():
        takers[taker_id] = takers[taker_id]._replace(flows=takers[taker_id].flows + count)
    return [Move(channel.id, taker_id, count, reason) for taker_id, count in shares.items()]


def _shares(flows: int, takers: list[ChannelLoad]) -> dict[TunnelId, int]:
    """Split `flows` so that loads end up in proportion to 1/cost; a preferred taker gets all."""
    preferred = [taker for taker in takers if taker.preferred]
    if preferred:
        return {preferred[0].id: flows}
    goal = _goals(flows + sum(taker.flows for taker in takers), takers)
    wants = {taker.id: max(0.0, goal[taker.id] - taker.flows) for taker in takers}
    total = sum(wants.values()) or 1.0
    shares = {taker_id: int(flows * want / total) for taker_id, want in wants.items()}
    rest = flows - sum(shares.values())
    for taker_id in sorted(wants, key=lambda each: -wants[each]):
        if rest <= 0:
            break
        shares[taker_id] += 1
        rest -= 1
    shares[takers[0].id] += rest
    return {taker_id: count for taker_id, count in shares.items() if count}


def _goals(flows: int, channels: list[ChannelLoad]) -> dict[TunnelId, float]:
    weight = {channel.id: 1.0 / channel.cost for channel in channels}
    total = sum(weight.values())
    return {channel_id: flows * each / total for channel_id, each in weight.items()}


def _balance(channels: list[ChannelLoad]) -> list[Move]:
    """One move from the most overloaded to the most underloaded channel, when the gap is clear.

    Clear means a whole flow too many here and too few there, which is the gap of two of wire spec 10,
    and a good part of what one of the two should have.
    """
    if len(channels) < 2 or any(channel.preferred for channel in channels):
        return []
    goal = _goals(sum(channel.flows for channel in channels), channels)
    excess = {channel.id: channel.flows - goal[channel.id] for channel in channels}
    over, under = max(excess, key=lambda each: excess[each]), min(excess, key=lambda each: excess[each])
    count = int(min(excess[over], -excess[under]))
    if count < 1 or max(excess[over] / goal[over], -excess[under] / goal[under]) < BALANCE_SHARE:
        return []
    return [Move(over, under, count, "balance")]
