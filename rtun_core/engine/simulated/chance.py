"""What happens by itself: paths get worse, packets get lost, flows come and go, agents appear."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rtun_core.engine.simulated.director import SimulatedDirector
from rtun_core.engine.simulated.rule import SimulatedRule
from rtun_core.engine.simulated.scene import Scene
from rtun_core.engine.simulated.scenery import IDLE_TIMEOUT
from rtun_core.engine.simulated.tunnel import Phase, Tunnel
from rtun_core.model import TunnelState

# Mean seconds between two of a kind.
EVERY_BURST, EVERY_DROP = 20.0, 25.0
EVERY_TROUBLE, EVERY_LOSS, EVERY_AGENT = 80.0, 500.0, 150.0
CHURN = 0.0015  # of all flows that end in a second ...
MOST_CHURN = 40  # ... but no more than that
_PERIODS = ((173.0, 0.24), (61.0, 0.12), (23.0, 0.05))  # seconds and height of the waves of traffic


class Chance:
    """Throws the dice once a second. `flows` is how many there are meant to be, `agents` likewise."""

    def __init__(
        self,
        scene: Scene,
        rules: Sequence[SimulatedRule],
        director: SimulatedDirector,
        *,
        flows: int,
        agents: int,
    ) -> None:
        self._scene, self._rules, self._director = scene, rules, director
        self._flows, self._agents = flows, agents
        self._phases = [scene.random.uniform(0.0, math.tau) for _ in _PERIODS]
        self._shares = shares(rules)
        self.faults: dict[str, int] = {}
        self._strengths: list[float] = []
        self._rise_and_fall()

    def strength(self, rule: SimulatedRule) -> float:
        """How strong the traffic of a rule is now, about 1; set once a second, smooth in time."""
        return 0.0 if rule.paused else self._strengths[rule.index]

    def tick(self, *, eventful: bool) -> None:
        """One second passes; unless `eventful`, nothing out of the ordinary happens."""
        self._rise_and_fall()
        self._end_flows()
        self._open_flows(eventful=eventful)
        self._lose_packets()
        if eventful:
            self._disturb()
        if eventful and len(self._director.policy.known) < self._agents and self._happens(EVERY_AGENT):
            self._director.appear()

    def _rise_and_fall(self) -> None:
        self._strengths = [self._wave(self._scene.now + 7.0 * rule.index) for rule in self._rules]

    def _wave(self, now: float) -> float:
        waves = zip(_PERIODS, self._phases, strict=True)
        return 1.0 + sum(
            height * math.sin(math.tau * now / period + phase) for (period, height), phase in waves
        )

    def wishes(self, rule: SimulatedRule) -> bool:
        """Whether somebody would open a flow of that rule now."""
        return not rule.paused and self._missing(rule) > 0

    # ---- flows ----------------------------------------------------------------------------------

    def _end_flows(self) -> None:
        """Close flows that were silent for long, and choose some that will be."""
        flows = self._scene.flows
        rows = flows.idle(self._scene.now - IDLE_TIMEOUT)
        if len(rows):
            for rule in self._rules:
                mine = rows[flows.rule[rows] == rule.index]
                rule.tell_closed(mine, f"idle for {IDLE_TIMEOUT:.0f} s")
            flows.close(rows)
        flows.end_some(self._some(min(CHURN * self._flows, MOST_CHURN)))

    def _open_flows(self, *, eventful: bool) -> None:
        """New sources speak, where there is a tunnel for them."""
        budget, new = MOST_CHURN, []
        for rule in self._rules:
            missing = self._missing(rule)
            number = min(budget, math.ceil(missing * 0.05) if missing > 0 else 0)
            tunnel = None if rule.paused or not number else self._taker(rule, eventful=eventful)
            if tunnel is not None:
                budget -= number
                new.append((rule, tunnel, number))
        if new:
            self._open(new)

    def _taker(self, rule: SimulatedRule, *, eventful: bool) -> Tunnel | None:
        """The tunnel for new flows; before anything happens, loads stay as they are."""
        usual = [each for each in rule.tunnels.values() if each.state() is TunnelState.UP and each.flows]
        if eventful or not usual:
            return rule.choose()
        return self._scene.random.choices(usual, [each.flows for each in usual])[0]

    def _open(self, new: list[tuple[SimulatedRule, Tunnel, int]]) -> None:
        scene, numbers = self._scene, [number for _, _, number in new]
        rules = np.repeat(np.array([rule.index for rule, _, _ in new], np.int32), numbers)
        slots = np.repeat(np.array([tunnel.slot for _, tunnel, _ in new], np.intp), numbers)
        rows = scene.flows.open(rules, slots, scene.now)
        for rule, tunnel, number in new:
            rule.tell_opened(rows[:number], tunnel)
            rows = rows[number:]

    def _missing(self, rule: SimulatedRule) -> int:
        return round(self._flows * self._shares[rule.index]) - rule.flows

    # ---- trouble --------------------------------------------------------------------------------

    def _lose_packets(self) -> None:
        """Bursts of loss on paths, drops of a busy kernel, what arrives for a paused rule."""
        random, flows = self._scene.random, self._scene.flows
        tunnels = self._carrying()
        if tunnels and self._happens(EVERY_BURST):
            random.choice(tunnels).weather.burst(random.uniform(0.01, 0.035))
        for rule in self._rules:
            if rule.paused:
                _add(rule.drops, "paused", self._some(flows.spoken_up(rule.index)))
        if self._happens(EVERY_DROP):
            busiest = max(self._rules, key=lambda each: each.rate().down)
            packets = busiest.rate().rates(busiest.sort).down_packets
            _add(busiest.drops, "kernel", self._some(random.uniform(0.001, 0.02) * packets))
        if tunnels and self._happens(4 * EVERY_DROP):
            _add(self.faults, "unsolicited", 1)

    def _disturb(self) -> None:
        """Now and then a path gets worse for a while, or is lost."""
        random, now = self._scene.random, self._scene.now
        tunnels = self._carrying()
        if tunnels and self._happens(EVERY_TROUBLE):
            weather = random.choice(tunnels).weather
            rtt, loss = random.uniform(0.05, 0.16), random.choice((0.0, 0.02, 0.05, 0.09))
            weather.trouble(
                rtt, loss, ramp=random.uniform(8.0, 30.0), until=now + random.uniform(40.0, 100.0)
            )
        if tunnels and self._happens(EVERY_LOSS):
            tunnel = random.choice(tunnels)
            rule = next(rule for rule in self._rules if rule.id == tunnel.rule)
            rule.remove(tunnel, "the peer's port is closed", lost=True)

    def _carrying(self) -> list[Tunnel]:
        phase = Phase.ACTIVE
        return [each for rule in self._rules for each in rule.tunnels.values() if each.phase is phase]

    def _happens(self, every: float) -> bool:
        return self._scene.random.random() < 1.0 / every

    def _some(self, mean: float) -> int:
        """A whole number near `mean`, right on average."""
        return int(mean + self._scene.random.random())


def shares(rules: Sequence[SimulatedRule]) -> list[float]:
    """The share of all flows that each rule has."""
    total = sum(rule.sort.share for rule in rules)
    return [rule.sort.share / total for rule in rules]


def _add(counts: dict[str, int], reason: str, number: int) -> None:
    if number:
        counts[reason] = counts.get(reason, 0) + number
