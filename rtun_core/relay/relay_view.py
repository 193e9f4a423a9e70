"""The relay's part of the snapshot, read off its live objects."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rtun_core.flow_rows import FlowRows
from rtun_core.model import (
    AgentState,
    AgentView,
    RuleView,
    ServiceSnapshot,
    SignalView,
    Traffic,
    TunnelState,
    TunnelView,
    add_counts,
    add_traffic,
    agent_id,
)
from rtun_core.relay.agent_choice import REPLACEMENT_WINDOW_MS, entry_id
from rtun_core.relay.channel import Channel, Stage
from rtun_core.relay.config import RelayConfig
from rtun_core.relay.director import Director
from rtun_core.relay.flow_table import flow_rows
from rtun_core.relay.health import Grade
from rtun_core.relay.rule_relay import RuleRelay
from rtun_core.wire.signal_json import NEVER, AgentEntry


def relay_snapshot(
    rules: Sequence[RuleRelay], director: Director, config: RelayConfig, *, flows: bool = True
) -> ServiceSnapshot:
    """Rules, agents, tunnels, flows (if wanted) and totals right now."""
    drops, faults = relay_counters(rules)
    traffic = Traffic()
    for rule in rules:
        traffic = add_traffic(traffic, rule.port.traffic)
    return ServiceSnapshot(
        service="relay",
        signal=(_signal(director, config),),
        rules=tuple(_rule(rule, director) for rule in rules),
        agents=_agents(director, rules, config),
        tunnels=tuple(_tunnel(channel, rule) for rule in rules for channel in rule.pool.channels.values()),
        flows=_flows(rules) if flows else (),
        traffic=traffic,
        drops=drops,
        faults=faults,
    )


def relay_counters(rules: Sequence[RuleRelay]) -> tuple[dict[str, int], dict[str, int]]:
    """Drops and faults by reason over all rules, channels that are gone included."""
    drops: dict[str, int] = {}
    faults: dict[str, int] = {}
    for rule in rules:
        add_counts(drops, _rule_drops(rule))
        add_counts(faults, rule.pool.lost_faults)
        for channel in rule.pool.channels.values():
            add_counts(faults, channel.faults())
    return drops, faults


def _rule_drops(rule: RuleRelay) -> dict[str, int]:
    drops = rule.port.all_drops()
    add_counts(drops, rule.pool.lost_drops)
    for channel in rule.pool.channels.values():
        add_counts(drops, channel.drops())
    return drops


def _signal(director: Director, config: RelayConfig) -> SignalView:
    return SignalView(
        url=str(config.endpoint.url),
        state=_signal_state(director),
        since=director.signal_since,
        reason=director.signal_reason,
    )


def _signal_state(director: Director) -> str:
    if director.signal_connected:
        return "connected"
    if director.signal_reason:
        return "lost"
    return "no agent" if director.registry_answers and director.link is None else "connecting"


def _rule(rule: RuleRelay, director: Director) -> RuleView:
    policy = rule.pool.policy
    return RuleView(
        id=rule.id,
        family="relay",
        listen=str(rule.port.local),
        target=str(rule.rule.target),
        state=rule.state,
        reason=rule.pool.reason,
        agent=None if director.link is None else director.link.id,
        tunnels_up=len(rule.pool.usable()),
        tunnels_min=policy.min,
        tunnels_max=policy.max,
        flows=len(rule.table),
        traffic=rule.port.traffic,
        drops=_rule_drops(rule),
    )


def _agents(director: Director, rules: Sequence[RuleRelay], config: RelayConfig) -> tuple[AgentView, ...]:
    entries = {entry_id(entry): entry for entry in director.policy.known}
    if director.link is not None:
        entries.setdefault(director.link.id, director.link.entry)
    return tuple(_agent(entry, director, rules, config) for entry in entries.values())


def _agent(
    entry: AgentEntry, director: Director, rules: Sequence[RuleRelay], config: RelayConfig
) -> AgentView:
    name = agent_id(entry.name, entry.instance_id or entry.addr)
    rtt, probed_at = director.probes.get(name, (None, None))
    in_use = director.link is not None and director.link.id == name
    return AgentView(
        id=name,
        name=entry.name,
        instance=entry.instance_id or "",
        state=_agent_state(entry, director, in_use=in_use),
        signal=str(config.endpoint.url),
        address=entry.addr,
        version=entry.ver or "",
        expires_at=None if entry.expire_at >= NEVER else entry.expire_at / 1e3,
        rtt_ms=None if rtt is None else rtt * 1e3,
        probed_at=probed_at,
        pinned=in_use and director.policy.pinned,
        tunnels=sum(each.agent == name for rule in rules for each in rule.pool.channels.values()),
    )


def _agent_state(entry: AgentEntry, director: Director, *, in_use: bool) -> AgentState:
    if director.switching == entry_id(entry):
        return AgentState.PROBING
    if not director.policy.is_listed(entry):
        return AgentState.LOST
    if in_use:
        return AgentState.IN_USE
    left = entry.expire_at - time.time() * 1000
    return AgentState.EXPIRING if left <= REPLACEMENT_WINDOW_MS else AgentState.READY


def _tunnel(channel: Channel, rule: RuleRelay) -> TunnelView:
    health = channel.health
    member = rule.pool.policy.members.get(channel.id)
    now = time.monotonic()
    return TunnelView(
        id=channel.id,
        rule=channel.rule,
        agent=channel.agent,
        state=_tunnel_state(channel),
        kind="p2p",
        opened_at=channel.opened_at,
        local=str(channel.frames.local),
        remote=str(channel.frames.remote),
        codec=channel.frames.codec_name,
        rtt_ms=None if health.rtt is None else health.rtt * 1e3,
        loss_up=health.loss_up,
        loss_down=health.loss_down,
        quiet_s=channel.frames.quiet,
        expires_at=None if member is None else time.time() + member.expires_at - now,
        preferred=channel.preferred,
        flows=channel.flows,
        traffic=channel.traffic,
        drops=channel.drops(),
        reason=health.reason,
    )


def _tunnel_state(channel: Channel) -> TunnelState:
    if channel.stage is Stage.PREPARED:
        return TunnelState.OPENING
    if channel.draining:
        return TunnelState.DRAINING
    return TunnelState.UP if channel.health.grade is Grade.GOOD else TunnelState.DEGRADED


def _flows(rules: Sequence[RuleRelay]) -> FlowRows:
    parts = [_flow_rows(rule) for rule in rules if len(rule.table)]
    return parts[0] if len(parts) == 1 else FlowRows.join(parts)


def _flow_rows(rule: RuleRelay) -> FlowRows:
    return flow_rows(
        rule.table,
        now=time.monotonic(),
        rule=rule.id,
        target=str(rule.rule.target),
        tunnels={number: channel.id for number, channel in rule.port.channels.items()},
    )
