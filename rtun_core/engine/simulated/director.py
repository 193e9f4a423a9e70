"""The agents of a simulated world: who is registered, which one is in use, and changes of it.

The choice is the relay's own (`relay.agent_choice`). A switch is make-before-break and plays over a few
seconds: probe, a tunnel for every rule, then rule after rule goes over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from rtun_core.commands import CommandResult
from rtun_core.engine.simulated.agent_switch import AgentSwitch
from rtun_core.engine.simulated.answer import Answer
from rtun_core.engine.simulated.rule import SimulatedRule
from rtun_core.engine.simulated.scene import Scene
from rtun_core.engine.simulated.scenery import HOSTS, NAMES, SIGNAL, SIGNALS, VERSION, Actor
from rtun_core.engine.simulated.tunnel import Way
from rtun_core.errors import CommandRefused
from rtun_core.event import counted
from rtun_core.events import (
    AgentExpiring,
    AgentLost,
    AgentSeen,
    AgentSelected,
    AgentSwitchDone,
    AgentSwitchFailed,
    AgentSwitchProbed,
    AgentSwitchStarted,
    SignalConnected,
)
from rtun_core.model import AgentId, AgentState, AgentView
from rtun_core.relay.agent_choice import REPLACEMENT_WINDOW_MS, AgentPolicy, entry_id
from rtun_core.wire.signal_json import AgentEntry

LOST_SHOWN = 600.0  # seconds that a lost agent is still listed


class Known(NamedTuple):
    """What is shown of an agent besides its registration; times are Unix seconds."""

    entry: AgentEntry
    signal: str
    rtt: float  # seconds
    lost_at: float | None = None


class SimulatedDirector:
    """Keeps one agent in use for all rules. `failing` are names of agents that give no tunnel."""

    def __init__(self, scene: Scene, rules: Sequence[SimulatedRule], *, failing: Collection[str]) -> None:
        self.policy = AgentPolicy(re.compile(""))
        self.known: dict[AgentId, Known] = {}
        self.way: Way | None = None
        self.switching: AgentId | None = None
        self.signal_since = scene.now
        self.probes: dict[AgentId, tuple[float, float]] = {}  # round trip in seconds, when
        self._scene, self._rules, self._failing = scene, rules, frozenset(failing)
        self._told_expiring = False
        self._next_look = scene.now  # nobody comes or goes before

    # ---- the registry ---------------------------------------------------------------------------

    def register(self, actor: Actor, opening: float) -> None:
        """An agent is there from now on; its times count from `opening`, in Unix seconds."""
        expire_at = int((opening + actor.left) * 1e3)
        entry = AgentEntry(
            name=actor.name,
            addr=f"{actor.host}:{33_000 + len(self.known)}",
            expire_at=expire_at,
            instance_id=actor.instance,
            ver=VERSION,
        )
        lost_at = opening + actor.left if actor.left <= 0 else None
        lost = lost_at is not None and lost_at <= self._scene.now
        self.known[entry_id(entry)] = Known(entry, actor.signal, actor.rtt / 1e3, lost_at if lost else None)
        self._next_look = self._scene.now
        if actor.probed is not None:
            self.probes[entry_id(entry)] = (actor.rtt / 1e3, opening - actor.probed)

    def appear(self) -> None:
        """Another agent registers."""
        random = self._scene.random
        rtt = random.uniform(15.0, 90.0)
        left = random.uniform(900.0, 4500.0)
        names = (random.choice(NAMES), f"{random.randrange(65536):04x}")
        place = random.choice(SIGNALS), random.choice(HOSTS)
        self.register(Actor(*names, *place, left, rtt, None), self._scene.now)

    def registered(self) -> list[AgentEntry]:
        """The agents that the server lists now."""
        return [known.entry for known in self.known.values() if known.lost_at is None]

    def look(self) -> None:
        """Take in what the server lists."""
        now = self._scene.now
        if now < self._next_look:
            return
        for key, known in list(self.known.items()):
            if known.lost_at is None and known.entry.expire_at <= now * 1e3:
                self.known[key] = known._replace(lost_at=now)
            elif known.lost_at is not None and now - known.lost_at >= LOST_SHOWN:
                del self.known[key]
        self._next_look = self._next_change()
        appeared, vanished = self.policy.listed(self.registered())
        for entry in appeared:
            self._scene.emit(AgentSeen(agent=entry_id(entry), address=entry.addr))
        for entry in vanished:
            self.probes.pop(entry_id(entry), None)
            self._scene.emit(AgentLost(agent=entry_id(entry), reason="no longer registered"))

    def _next_change(self) -> float:
        ends = [each.entry.expire_at / 1e3 for each in self.known.values() if each.lost_at is None]
        gone = [each.lost_at + LOST_SHOWN for each in self.known.values() if each.lost_at is not None]
        return min((*ends, *gone), default=math.inf)

    def way_to(self, entry: AgentEntry) -> Way:
        """How tunnels reach an agent."""
        key = entry_id(entry)
        fault = f"agent {key} refused the channel: it is stopping" if entry.name in self._failing else ""
        return Way(key, entry.addr.rpartition(":")[0], self.known[key].rtt, fault)

    # ---- time -----------------------------------------------------------------------------------

    def tick(self) -> None:
        """Once a second: who came and went, and what follows for the agent in use."""
        self.look()
        if self.switching is not None:
            return
        if self.way is not None and not self.policy.is_listed(self.known[self.way.agent].entry):
            self._give_up()
        if self.way is None:
            self.begin()
        else:
            self._replace_in_time()

    def begin(self) -> None:
        """Take the best agent there is."""
        entry = self.policy.choose(int(self._scene.now * 1e3))
        if entry is None:
            for rule in self._rules:
                rule.reason = "no agent that matches is registered"
            return
        way = self.way_to(entry)
        self.adopt(entry, way)
        for rule in self._rules:
            rule.use(way)

    def _give_up(self) -> None:
        """The agent in use is gone, and its tunnels with it."""
        self.way = self.policy.current = None
        for rule in self._rules:
            rule.use(None)
            rule.lose_all("the peer's port is closed")

    def _replace_in_time(self) -> None:
        current, now_ms = self.policy.current, int(self._scene.now * 1e3)
        if current is None or not self.policy.in_replacement_window(now_ms):
            return
        if not self._told_expiring:
            self._told_expiring = True
            left = max(0.0, (current.expire_at - now_ms) / 1e3)
            self._scene.emit(AgentExpiring(agent=entry_id(current), seconds_left=left))
        entry = self.policy.replacement(now_ms)
        if entry is not None:
            self._start(entry, "the agent in use expires soon")

    # ---- commands -------------------------------------------------------------------------------

    def find(self, name: str, instance: str | None) -> AgentEntry:
        """The registered agent of that name. Raises CommandRefused."""
        entry = self.policy.find(name, instance)
        if entry is None:
            known = ", ".join(sorted({each.name for each in self.policy.known})) or "none"
            what = f"{name}/{instance}" if instance else name
            raise CommandRefused(f"agent {what} is not registered or does not match; known: {known}")
        return entry

    def switch(self, name: str, instance: str | None) -> Answer:
        """Switch on request. Raises CommandRefused."""
        entry = self.find(name, instance)
        if self.switching is not None:
            raise CommandRefused("another agent switch is under way")
        if self.way is not None and entry_id(entry) == self.way.agent:
            raise CommandRefused(f"agent {self.way.agent} is in use already")
        answer = Answer()
        self._start(entry, "requested", answer)
        return answer

    def probe(self, name: str, instance: str | None) -> Answer:
        """Measure the way to an agent. Raises CommandRefused."""
        way = self.way_to(self.find(name, instance))
        answer = Answer()
        self._scene.later(0.4 + 4 * way.rtt, lambda: self._probed(name, way, answer))
        return answer

    def _probed(self, name: str, way: Way, answer: Answer) -> None:
        if way.fault:
            answer.refuse(f"the probe of {name} failed: {way.fault}")
            return
        rtt = way.rtt * self._scene.random.uniform(0.95, 1.1)
        self.measured(way.agent, rtt)
        text = f"agent {name} answers in {rtt * 1e3:.1f} ms"
        answer.give(CommandResult(text=text, data={"rtt_ms": rtt * 1e3}))

    # ---- switching ------------------------------------------------------------------------------

    def _start(self, entry: AgentEntry, reason: str, answer: Answer | None = None) -> None:
        way = self.way_to(entry)
        self.switching = way.agent
        old = None if self.way is None else self.way.agent
        self._scene.emit(AgentSwitchStarted(old=old, new=way.agent, reason=reason))
        AgentSwitch(self._scene, self._rules, way, _Going(self, entry, way, old, answer))

    def adopt(self, entry: AgentEntry, way: Way) -> None:
        """This agent is in use from now on."""
        self.way, self.policy.current = way, entry
        self._told_expiring = False
        self.signal_since = self._scene.now
        self._scene.emit(SignalConnected(url=SIGNAL, agent=way.agent))
        self._scene.emit(AgentSelected(agent=way.agent, expires_at=entry.expire_at / 1e3))

    def measured(self, agent: AgentId, rtt: float) -> None:
        """A probe took `rtt` seconds."""
        self.probes[agent] = (rtt, self._scene.now)

    def ended(self, event: AgentSwitchDone | AgentSwitchFailed) -> None:
        """The switch is over."""
        self.switching = None
        self._scene.emit(event)

    def block(self, entry: AgentEntry) -> None:
        """Leave an agent out of our own choices for a while."""
        self.policy.failed(entry, int(self._scene.now * 1e3))

    def tell_probed(self, agent: AgentId, rtt: float) -> None:
        """Server and new agent answered."""
        self.measured(agent, rtt)
        self._scene.emit(AgentSwitchProbed(new=agent, rtt_ms=rtt * 1e3))

    # ---- pictures -------------------------------------------------------------------------------

    def views(self, tunnels: dict[AgentId, int]) -> tuple[AgentView, ...]:
        """Their rows of the snapshot, best first; `tunnels` to each of them."""
        listed = [entry_id(entry) for entry in self.policy.known]
        keys = [*listed, *(key for key in self.known if key not in listed)]
        return tuple(self._view(key, tunnels.get(key, 0)) for key in keys)

    def _view(self, key: AgentId, tunnels: int) -> AgentView:
        entry, signal, _, lost_at = self.known[key]
        rtt, probed_at = self.probes.get(key, (None, None))
        in_use = self.way is not None and self.way.agent == key
        return AgentView(
            id=key,
            name=entry.name,
            instance=entry.instance_id or "",
            state=self._state(key, entry, in_use=in_use),
            signal=signal,
            address=entry.addr,
            version=entry.ver or "",
            expires_at=None if lost_at is not None else entry.expire_at / 1e3,
            rtt_ms=None if rtt is None else rtt * 1e3,
            probed_at=probed_at if lost_at is None else lost_at,
            pinned=in_use and self.policy.pinned,
            tunnels=tunnels,
            reason="" if lost_at is None else "no longer registered",
        )

    def _state(self, key: AgentId, entry: AgentEntry, *, in_use: bool) -> AgentState:
        if self.switching == key and not in_use:
            return AgentState.PROBING
        if not self.policy.is_listed(entry):
            return AgentState.LOST
        if in_use:
            return AgentState.IN_USE
        left = entry.expire_at - self._scene.now * 1e3
        return AgentState.EXPIRING if left <= REPLACEMENT_WINDOW_MS else AgentState.READY


class _Going:
    """Tells director and asker how a switch goes; without an asker it was our own idea."""

    def __init__(
        self,
        director: SimulatedDirector,
        entry: AgentEntry,
        way: Way,
        old: AgentId | None,
        answer: Answer | None,
    ) -> None:
        self._director, self._entry, self._way, self._old, self._answer = director, entry, way, old, answer

    def prepared(self, rtt: float) -> None:
        self._director.tell_probed(self._way.agent, rtt)
        self._director.adopt(self._entry, self._way)

    def done(self, flows: int) -> None:
        self._director.policy.works(self._entry)
        self._director.ended(AgentSwitchDone(old=self._old, new=self._way.agent, flows=flows))
        if self._answer is not None:
            text = f"agent {self._entry.name} in use, {counted(flows, 'flow')} moved"
            self._answer.give(CommandResult(text=text, data={"flows": flows}))

    def failed(self, fault: str) -> None:
        self._director.ended(AgentSwitchFailed(old=self._old, new=self._way.agent, reason=fault))
        if self._answer is not None:
            self._answer.refuse(fault)
        else:
            self._director.block(self._entry)
