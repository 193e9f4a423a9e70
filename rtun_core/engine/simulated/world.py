"""A relay that does not exist: thousands of flows, agents that expire, tunnels that get worse.

It drives the console's tests, its screenshots, benchmarks and `rtun demo --simulate`. It has a clock and
dice of its own: the same seed and the same calls give the same story, whenever and wherever it is played.
Policies, states, events and the words of commands are the relay's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from rtun_core import __version__
from rtun_core.commands import Command, CommandResult
from rtun_core.engine.simulated.answer import Answer
from rtun_core.engine.simulated.chance import Chance
from rtun_core.engine.simulated.command_handler import HANDLED, SimulatedCommands
from rtun_core.engine.simulated.director import SimulatedDirector
from rtun_core.engine.simulated.opening import Cast, Opening, Size
from rtun_core.engine.simulated.rule import SimulatedRule
from rtun_core.engine.simulated.scene import Scene
from rtun_core.engine.simulated.scenery import UPTIME, sort_of
from rtun_core.engine.simulated.view import WorldView
from rtun_core.errors import LocalProtocolError
from rtun_core.event import Event
from rtun_core.events import ServiceListening
from rtun_core.model import Rates, ServiceSnapshot, Snapshot

STEP = 0.25  # seconds
STEPS_PER_TICK = 4
PID = 4242
_SLACK = 1e-6  # seconds by which sums of steps may be off


class SimulatedWorld:
    """A relay's world from the opening scene on.

    `start` is the moment of that scene in Unix seconds. The first rule has the tunnels of the story,
    `tunnels` of them; every other rule has one. Agents named in `failing` give no tunnel.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        flows: int = 1284,
        agents: int = 5,
        tunnels: int = 5,
        rules: int = 6,
        start: float,
        failing: Collection[str] = ("delta",),
    ) -> None:
        if min(seed, flows, agents) < 0 or tunnels < 2 or rules < 1:
            raise ValueError("accepted: seed, flows and agents from 0, at least 2 tunnels and 1 rule")
        self._seed, self._start, self._failing = seed, start, tuple(failing)
        self._size, self._rule_count = Size(flows, agents, tunnels), rules
        self._fresh = True
        self._build(start)

    @property
    def now(self) -> float:
        """The world's time in Unix seconds."""
        return self._scene.now

    # ---- time -----------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass, in steps of STEP; what is left of a step is made up for next time."""
        self._fresh = False
        self._due += seconds
        while self._due >= STEP - _SLACK:
            self._due -= STEP
            self._step()

    def run_up(self, seconds: float) -> Iterator[Snapshot]:
        """Play the time that leads to the opening scene; gives a picture without flows once a second.

        When it is exhausted, the world stands at `start`. Raises LocalProtocolError when time has passed
        already.
        """
        if not self._fresh:
            raise LocalProtocolError("a world can be run up only before it advances")
        whole = int(seconds)
        self._build(self._start - whole)
        for _ in range(whole):
            self.advance(1.0)
            yield self.picture(flows=False)

    def _step(self) -> None:
        scene = self._scene
        scene.advance(STEP)
        scene.ledger.carry(scene.flows.step(scene.now, STEP, self._strengths()), STEP)
        self._steps += 1
        if self._steps % STEPS_PER_TICK == 0:
            self._tick()

    def _tick(self) -> None:
        eventful = self.now > self._start
        self._chance.tick(eventful=eventful)
        self._count()
        for rule in self._rules:
            rule.tick(wishes=self._chance.wishes(rule), balance=eventful)
        self._director.tick()

    def _strengths(self) -> NDArray[np.float64]:
        strengths = np.zeros(len(self._scene.slots))
        for rule in self._rules:
            strength = self._chance.strength(rule)
            for tunnel in rule.tunnels.values():
                strengths[tunnel.slot] = strength
        return strengths

    def _count(self) -> None:
        flows = self._scene.flows
        loads, by_rule = flows.loads(len(self._scene.slots)), flows.by_rule(len(self._rules))
        for rule in self._rules:
            rule.flows = by_rule[rule.index]
            rule.count(loads)

    # ---- pictures -------------------------------------------------------------------------------

    def snapshot(self, *, flows: bool = True) -> ServiceSnapshot:
        """The picture of the simulated relay; its flows are FlowRows."""
        return self._view.snapshot(flows=flows)

    def picture(self, *, flows: bool = True) -> Snapshot:
        """The picture of an engine that runs this relay and nothing else."""
        part = self.snapshot(flows=flows)
        return Snapshot(
            seq=0,
            ts=self.now,
            uptime_s=self.now - self._start + UPTIME,
            pid=PID,
            version=__version__,
            services=(part.service,),
            signal=part.signal,
            rules=part.rules,
            agents=part.agents,
            tunnels=part.tunnels,
            flows=part.flows,
            traffic=part.traffic,
            rates=_total(rule.rates for rule in part.rules),
            drops=part.drops,
            faults=part.faults,
        )

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """Total drops and faults by reason."""
        return self._view.counters()

    def take_events(self) -> list[Event]:
        """What happened since the last call, in order; counters, as ever, are not events."""
        return self._scene.take_events()

    def listening(self) -> list[Event]:
        """What a relay says of its rules when it starts."""
        return [
            ServiceListening(
                service=f"relay {rule.id}", address=rule.sort.listen, detail=f"-> {rule.sort.target}"
            )
            for rule in self._rules
        ]

    # ---- commands -------------------------------------------------------------------------------

    def handles(self, command: Command) -> bool:
        """Whether this is one of the relay's commands."""
        return isinstance(command, HANDLED)

    def begin(self, command: Command) -> Answer:
        """Begin a command; its answer may need time to pass. Raises CommandRefused."""
        return self._commands.begin(command)

    def handle(self, command: Command) -> CommandResult:
        """Carry out a command and let time pass until it is done. Raises CommandRefused."""
        answer = self.begin(command)
        while not answer.given:
            self.advance(STEP)
        return answer.result()

    # ---- the opening scene ----------------------------------------------------------------------

    def _build(self, now: float) -> None:
        """Set the scene as it is at `now`, the opening or before it."""
        sorts = [sort_of(index) for index in range(self._rule_count)]
        self._scene = scene = Scene(seed=self._seed, now=now, sorts=sorts)
        most = self._size.tunnels - 1
        limits = [(min(2, most), most), *[(1, 1)] * (len(sorts) - 1)]
        self._rules = [
            SimulatedRule(scene, index, sort, tunnels=limits[index]) for index, sort in enumerate(sorts)
        ]
        self._director = SimulatedDirector(scene, self._rules, failing=self._failing)
        self._chance = Chance(
            scene, self._rules, self._director, flows=self._size.flows, agents=_registered(self._size.agents)
        )
        self._commands = SimulatedCommands(scene, self._rules, self._director)
        self._view = WorldView(scene, self._rules, self._director, self._chance)
        self._steps, self._due = 0, 0.0
        cast = Cast(scene, self._rules, self._director, self._commands)
        Opening(cast, self._size, self._start).set()
        self._count()
        scene.take_events()


def _total(rates: Iterable[Rates]) -> Rates:
    """The sum of rates."""
    columns = zip(*(msgspec.structs.astuple(each) for each in rates), strict=True)
    return Rates(*map(sum, columns))


def _registered(agents: int) -> int:
    """How many of them are registered as a rule; one of several was lost."""
    return agents - 1 if agents > 1 else agents
