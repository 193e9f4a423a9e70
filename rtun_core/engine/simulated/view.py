"""The simulated relay's picture, in the form that a real one gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rtun_core.engine.simulated.chance import Chance
from rtun_core.engine.simulated.director import SimulatedDirector
from rtun_core.engine.simulated.flow_columns import NO_SLOT
from rtun_core.engine.simulated.rule import SimulatedRule
from rtun_core.engine.simulated.scene import Scene
from rtun_core.engine.simulated.scenery import SIGNAL
from rtun_core.engine.simulated.tunnel import Tunnel
from rtun_core.flow_rows import FlowRows, flow_states
from rtun_core.model import (
    RuleView,
    ServiceSnapshot,
    SignalView,
    Traffic,
    TunnelView,
    add_counts,
    add_traffic,
)


class WorldView:
    """Takes pictures of a world's parts."""

    def __init__(
        self,
        scene: Scene,
        rules: Sequence[SimulatedRule],
        director: SimulatedDirector,
        chance: Chance,
    ) -> None:
        self._scene, self._rules, self._director, self._chance = scene, rules, director, chance
        self._rule_names = tuple(rule.id for rule in rules)
        self._targets = tuple(rule.sort.target for rule in rules)
        self._static, self._static_version = scene.flows.static(), scene.flows.version

    def snapshot(self, *, flows: bool) -> ServiceSnapshot:
        """Everything right now, or all but the flows."""
        scene = self._scene
        loads = scene.flows.loads(len(scene.slots))
        tunnels = [each for rule in self._rules for each in rule.tunnels.values()]
        rules = self._rule_views(scene.flows.by_rule(len(self._rules)))
        traffic = Traffic()
        for rule in rules:
            traffic = add_traffic(traffic, rule.traffic)
        drops, faults = self.counters()
        return ServiceSnapshot(
            service="relay",
            signal=(self._signal(),),
            rules=rules,
            agents=self._director.views(Counter(each.agent for each in tunnels)),
            tunnels=tuple(
                self._tunnel(rule, each, loads) for rule in self._rules for each in rule.tunnels.values()
            ),
            flows=self._flows() if flows else (),
            traffic=traffic,
            drops=drops,
            faults=faults,
        )

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """Drops and faults by reason, tunnels that are gone included."""
        drops: dict[str, int] = {}
        for rule in self._rules:
            add_counts(drops, rule.all_drops())
        return drops, dict(self._chance.faults)

    def _signal(self) -> SignalView:
        director = self._director
        state = "no agent" if director.way is None else "connected"
        return SignalView(url=SIGNAL, state=state, since=director.signal_since)

    def _rule_views(self, loads: list[int]) -> tuple[RuleView, ...]:
        way = self._director.way
        return tuple(
            RuleView(
                id=rule.id,
                family="relay",
                listen=rule.sort.listen,
                target=rule.sort.target,
                state=rule.state,
                reason=rule.reason,
                agent=None if way is None else way.agent,
                tunnels_up=len(rule.usable()),
                tunnels_min=rule.policy.min,
                tunnels_max=rule.policy.max,
                flows=loads[rule.index],
                traffic=rule.total().traffic(rule.sort),
                rates=rule.rate().rates(rule.sort),
                drops=rule.all_drops(),
            )
            for rule in self._rules
        )

    def _tunnel(self, rule: SimulatedRule, tunnel: Tunnel, loads: list[int]) -> TunnelView:
        member = rule.policy.members.get(tunnel.id)
        expires_at = None if member is None else member.expires_at
        ledger = self._scene.ledger
        return tunnel.view(
            self._scene.now,
            flows=loads[tunnel.slot],
            expires_at=expires_at,
            traffic=ledger.total(tunnel.slot).traffic(rule.sort),
            rates=ledger.rate(tunnel.slot).rates(rule.sort),
        )

    def _flows(self) -> FlowRows:
        flows = self._scene.flows
        if flows.version != self._static_version:
            self._static, self._static_version = flows.static(), flows.version
        slot, idle = flows.slot.astype(np.int32), self._scene.now - flows.last_active
        up_bytes, static = flows.down_bytes * flows.ratio, self._static
        return FlowRows(
            ids=static.ids,
            sources=static.sources,
            rule=static.rule,
            target=static.rule,
            tunnel=slot,
            state=flow_states(idle, has_tunnel=slot != NO_SLOT),
            opened_at=static.opened_at,
            idle_s=idle,
            up_packets=(up_bytes * static.per_up).astype(np.int64),
            up_bytes=up_bytes.astype(np.int64),
            down_packets=flows.down_packets.copy(),
            down_bytes=flows.down_bytes.astype(np.int64),
            up_rate=flows.down_rate * flows.ratio,
            down_rate=flows.down_rate.copy(),
            moves=flows.moves.copy(),
            rules=self._rule_names,
            targets=self._targets,
            tunnels=tuple(self._scene.slots),
        )
