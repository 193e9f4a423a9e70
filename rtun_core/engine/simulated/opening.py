"""The opening scene: who is there, which tunnels are up, which flows they carry, and what is about to happen.

It can be set at the opening itself or some time before it. Then what leads to it (`scenery`) is played;
otherwise it has happened already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count, islice, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtun_core.commands import DrainTunnel, spell
from rtun_core.engine.simulated.chance import shares
from rtun_core.engine.simulated.command_handler import SimulatedCommands
from rtun_core.engine.simulated.director import SimulatedDirector
from rtun_core.engine.simulated.flow_columns import NO_SLOT
from rtun_core.engine.simulated.ledger import Carried
from rtun_core.engine.simulated.rule import SimulatedRule
from rtun_core.engine.simulated.scene import Scene
from rtun_core.engine.simulated.scenery import (
    ACTORS,
    DRAIN_AT,
    DRAINED,
    LOCAL_PORT,
    NEXT_PART,
    PARTS,
    TROUBLE_AT,
    TROUBLE_ENDS,
    TROUBLE_LOSS,
    TROUBLE_RTT,
    TROUBLED,
    Part,
)
from rtun_core.engine.simulated.tunnel import Phase, Tunnel, Way
from rtun_core.engine.simulated.weather import PathWeather
from rtun_core.events import CommandDone
from rtun_core.model import TunnelId

SUCCESSOR_OPENS = (8.5, 9.0)  # seconds until the drained tunnel's successor is up


class Cast(NamedTuple):
    """The parts of a world."""

    scene: Scene
    rules: Sequence[SimulatedRule]
    director: SimulatedDirector
    commands: SimulatedCommands


class Size(NamedTuple):
    """How much there is: flows, agents, and tunnels of the first rule."""

    flows: int
    agents: int
    tunnels: int


class Opening:
    """Sets the scene. `start` is when it opens, in Unix seconds."""

    def __init__(self, cast: Cast, size: Size, start: float) -> None:
        self._scene, self._rules, self._director, self._commands = cast
        self._size, self._start = size, start

    def set(self) -> None:
        """Everything, as it is at the scene's time."""
        self._enter_agents()
        way = self._director.way
        if way is not None:
            self._enter_tunnels(way)
        self._enter_flows()
        for when, act in ((TROUBLE_AT, self._trouble), (DRAIN_AT, self._drain)):
            self._at(self._start + when, act)

    def _enter_agents(self) -> None:
        for actor in ACTORS[: self._size.agents]:
            self._director.register(actor, self._start)
        for _ in range(self._size.agents - len(ACTORS)):
            self._director.appear()
        self._director.look()
        self._director.begin()

    # ---- tunnels --------------------------------------------------------------------------------

    def _enter_tunnels(self, way: Way) -> None:
        first, *others = self._rules
        parts = PARTS[: self._size.tunnels - 1]
        later = (number for number in count(1) if number > NEXT_PART or number < DRAINED)
        spare = list(islice(later, self._size.tunnels - 1 - len(parts) + len(others)))
        more, singles = spare[len(others) :], spare[: len(others)]
        self._scene.name_tunnels([*(part.number for part in parts), *more, *singles, NEXT_PART])
        for part in (*parts, *map(self._some_part, more)):
            self._enter(first, way, part)
        for rule, number in zip(others, singles, strict=True):
            self._enter(rule, way, self._some_part(number))

    def _some_part(self, number: int) -> Part:
        random = self._scene.random
        age = random.uniform(310.0, 850.0)
        rtt = random.uniform(17.5, 21.5)
        return Part(number, random.randrange(32_768, 61_000), rtt, random.choice((0.0, 0.001)), 0.2, age)

    def _enter(self, rule: SimulatedRule, way: Way, part: Part) -> None:
        """A tunnel that has been up for a while."""
        weather = PathWeather(usual_rtt=part.rtt / 1e3, usual_loss=part.loss)
        tunnel = rule.add(way, "bootstrap", local=LOCAL_PORT + part.number, remote=part.port, weather=weather)
        tunnel.opened_at = min(self._start - part.age, self._scene.now - 10.0)
        tunnel.phase = Phase.ACTIVE
        tunnel.measure_exactly()
        tunnel.health.received(self._scene.now)
        rule.policy.adopt(tunnel.id, tunnel.opened_at)
        rule.reason = ""

    # ---- flows ----------------------------------------------------------------------------------

    def _enter_flows(self) -> None:
        scene, noise = self._scene, self._scene.noise
        by_rule = _split(self._size.flows, shares(self._rules))
        rules = np.repeat(np.arange(len(self._rules), dtype=np.int32), by_rule)
        slots = np.concatenate(
            [self._slots(rule, number) for rule, number in zip(self._rules, by_rule, strict=True)]
        )
        order = noise.permutation(len(rules))
        scene.flows.calibrate(rules)
        scene.flows.open(rules[order], slots[order], scene.now)
        scene.flows.give_a_past(scene.now)
        self._fill_meters()
        for rule, number in zip(self._rules, by_rule, strict=True):
            rule.flows = number

    def _slots(self, rule: SimulatedRule, number: int) -> NDArray[np.intp]:
        """The slot of each of a rule's flows."""
        slots = [tunnel.slot for tunnel in rule.tunnels.values()]
        if not slots:
            return np.full(number, NO_SLOT, np.intp)
        weights = [part.share for part in PARTS[: len(slots)]]
        weights += [0.2] * (len(slots) - len(weights))
        return np.repeat(np.array(slots, np.intp), _split(number, weights))

    def _fill_meters(self) -> None:
        """Tunnels and rules have carried what their flows have, and more for what is gone."""
        flows, slots = self._scene.flows, len(self._scene.slots)
        down = np.bincount(flows.slot, 1.5 * flows.down_bytes, slots)
        up = np.bincount(flows.slot, 1.5 * flows.down_bytes * flows.ratio, slots)
        for rule in self._rules:
            for tunnel in rule.tunnels.values():
                carried = Carried(float(up[tunnel.slot]), float(down[tunnel.slot]))
                self._scene.ledger.add(tunnel.slot, carried)
                rule.gone = Carried(rule.gone.up + 3 * carried.up, rule.gone.down + 3 * carried.down)

    # ---- what is about to happen ----------------------------------------------------------------

    def _at(self, when: float, act: Callable[[], None]) -> None:
        wait = when - self._scene.now
        if wait > 0:
            self._scene.later(wait, act)
        else:
            act()

    def _find(self, number: int) -> Tunnel | None:
        return self._rules[0].tunnels.get(TunnelId(f"t{number}"))

    def _trouble(self) -> None:
        """A path gets worse, slowly, until it counts as degraded when the scene opens."""
        tunnel = self._find(TROUBLED)
        if tunnel is None:
            return
        tunnel.weather.trouble(TROUBLE_RTT, TROUBLE_LOSS, ramp=-TROUBLE_AT, until=self._start + TROUBLE_ENDS)
        if self._scene.now >= self._start:
            tunnel.weather.settle()
            tunnel.measure_exactly()
            self._rules[0].regrade()

    def _drain(self) -> None:
        """Somebody drains a tunnel; its successor still opens when the scene does."""
        tunnel, rule = self._find(DRAINED), self._rules[0]
        if tunnel is None or not tunnel.usable:
            return
        rule.count(self._scene.flows.loads(len(self._scene.slots)))
        usual, rule.opening_time = rule.opening_time, SUCCESSOR_OPENS
        command = DrainTunnel(tunnel=tunnel.id)
        result = self._commands.begin(command).result()
        rule.opening_time = usual
        self._scene.emit(CommandDone(who="console", command=spell(command), result=result.text))


def _split(number: int, weights: Sequence[float]) -> list[int]:
    """Whole parts of `number` in proportion to `weights`."""
    total = sum(weights)
    edges = [round(number * sum(weights[:index]) / total) for index in range(len(weights) + 1)]
    return [after - before for before, after in pairwise(edges)]
