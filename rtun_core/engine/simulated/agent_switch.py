"""One change of the agent: tunnels to the new one first, then rule after rule goes over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rtun_core.engine.simulated.rule import SimulatedRule
from rtun_core.engine.simulated.scene import Scene
from rtun_core.engine.simulated.tunnel import Tunnel, Way

COMMIT_INTERVAL, COMMIT_TIME = 0.5, 3.0  # seconds between two rules, and for all of them


class SwitchHooks(Protocol):
    """Who is told how the switch goes: `prepared` and then `done`, or `failed`."""

    def prepared(self, rtt: float) -> None:
        """Every rule has a tunnel; the best round trip is `rtt` seconds."""

    def done(self, flows: int) -> None:
        """Every rule uses its tunnel; that many flows went over."""

    def failed(self, fault: str) -> None:
        """Some rule got no tunnel; nothing has changed."""


class AgentSwitch:
    """A switch on its way."""

    def __init__(self, scene: Scene, rules: Sequence[SimulatedRule], way: Way, hooks: SwitchHooks) -> None:
        self._scene, self._rules, self._way, self._hooks = scene, rules, way, hooks
        self._opened: dict[str, Tunnel] = {}
        self._faults: list[str] = []
        self._flows = 0
        scene.later(0.5 + 2 * way.rtt, self._prepare)

    def _prepare(self) -> None:
        for rule in self._rules:
            rule.open(self._way, "switch", self._one)

    def _one(self, tunnel: Tunnel, fault: str) -> None:
        if fault:
            self._faults.append(fault)
        else:
            self._opened[tunnel.rule] = tunnel
        if len(self._opened) + len(self._faults) == len(self._rules):
            self._decide()

    def _decide(self) -> None:
        if self._faults:
            for rule in self._rules:
                if rule.id in self._opened:
                    rule.remove(self._opened[rule.id], "agent switch failed")
            self._hooks.failed(self._faults[0])
            return
        self._hooks.prepared(min(tunnel.weather.rtt for tunnel in self._opened.values()))
        self._commit(0)

    def _commit(self, place: int) -> None:
        """One rule goes over, the next a moment later."""
        if place == len(self._rules):
            self._hooks.done(self._flows)
            return
        rule = self._rules[place]
        self._flows += rule.commit(self._way, self._opened[rule.id])
        pause = min(COMMIT_INTERVAL, COMMIT_TIME / len(self._rules))
        self._scene.later(pause, lambda: self._commit(place + 1))
