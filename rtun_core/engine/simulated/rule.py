"""One simulated rule: its tunnels and who carries its flows.

How many tunnels there are, how each is graded and where flows go is decided by the relay's own policies
(`relay.pool`, `relay.health`, `relay.router`). Only here flows leave a tunnel little by little, so that
one can watch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from rtun_core.engine.simulated.flow_columns import NO_SLOT, Rows
from rtun_core.engine.simulated.ledger import Carried
from rtun_core.engine.simulated.scene import Scene
from rtun_core.engine.simulated.scenery import CODEC, LIFETIME, LOCAL_PORT, Sort
from rtun_core.engine.simulated.sources import source_text
from rtun_core.engine.simulated.tunnel import Phase, Tunnel, Way
from rtun_core.engine.simulated.weather import PathWeather
from rtun_core.errors import CommandRefused
from rtun_core.events import (
    FlowClosed,
    FlowMoved,
    FlowOpened,
    PoolScaled,
    RuleChanged,
    TunnelClosed,
    TunnelDegraded,
    TunnelDraining,
    TunnelOpening,
    TunnelReplaced,
    TunnelUp,
)
from rtun_core.flow_rows import format_flow_id
from rtun_core.model import FlowId, RuleId, RuleState, TunnelId, add_counts
from rtun_core.relay.health import Grade
from rtun_core.relay.pool import Action, Close, Drain, Open, PoolPolicy, PoolView
from rtun_core.relay.router import Move, best_channel, plan_moves

MOVE_SHARE = 0.06  # of the flows that should leave a tunnel, in a second
BALANCE_INTERVAL = 5.0  # seconds in which a flow is moved for balance at most once
LINGER = 5.0  # seconds that a former agent's tunnels live on
RETRY_INTERVAL = 2.0
OPENING_TIME = (0.6, 2.2)  # seconds from the first packet to a tunnel that is up


class SimulatedRule:
    """A rule with its pool of tunnels. Everything happens at the scene's time."""

    def __init__(self, scene: Scene, index: int, sort: Sort, *, tunnels: tuple[int, int]) -> None:
        """`index`: of the rule in the flow columns; `tunnels`: how many are kept without and with flows."""
        self.index, self.sort = index, sort
        self.id = RuleId(f"r{index + 1}")
        self.policy = PoolPolicy(
            minimum=tunnels[0], maximum=tunnels[1], lifetime=LIFETIME, retry_interval=RETRY_INTERVAL
        )
        self.tunnels: dict[TunnelId, Tunnel] = {}
        self.way: Way | None = None
        self.paused = False
        self.reason = "no agent yet"
        self.flows = 0  # as of the last tick
        self.gone = Carried()  # by tunnels that are gone
        self.drops: dict[str, int] = {}
        self.opening_time = OPENING_TIME
        self._scene = scene
        self._wanted = self.policy.wanted(1)
        self._told = RuleState.ACTIVE

    @property
    def state(self) -> RuleState:
        """Where the rule is in its life."""
        if self.paused:
            return RuleState.PAUSED
        on_demand = self.policy.min == 0 and self.way is not None
        return RuleState.ACTIVE if self.usable() or on_demand else RuleState.WAITING

    def usable(self) -> list[Tunnel]:
        """Tunnels of the agent in use, draining ones included."""
        return [each for each in self.tunnels.values() if each.usable]

    def total(self) -> Carried:
        """Bytes carried so far."""
        ledger = self._scene.ledger
        return Carried.total([self.gone, *(ledger.total(each.slot) for each in self.tunnels.values())])

    def rate(self) -> Carried:
        """Bytes carried a second."""
        return Carried.total(self._scene.ledger.rate(each.slot) for each in self.tunnels.values())

    def all_drops(self) -> dict[str, int]:
        """Drops by reason, those of its tunnels included."""
        drops = dict(self.drops)
        for tunnel in self.tunnels.values():
            add_counts(drops, tunnel.drops)
        return drops

    def choose(self) -> Tunnel | None:
        """The tunnel for one more flow."""
        best = best_channel(each.load() for each in self.tunnels.values() if each.usable)
        return None if best is None else self.tunnels[best.id]

    def find(self, tunnel: TunnelId) -> Tunnel:
        """The tunnel of that name that flows may use. Raises CommandRefused."""
        found = self.tunnels.get(tunnel)
        if found is None or not found.usable:
            raise CommandRefused(f"tunnel {tunnel} is not in use")
        return found

    # ---- time -----------------------------------------------------------------------------------

    def tick(self, *, wishes: bool, balance: bool) -> None:
        """Once a second: health, moves, pool.

        `wishes`: somebody wants to open a flow; `balance`: uneven loads are evened out.
        """
        scene = self._scene
        for tunnel in tuple(self.tunnels.values()):
            if tunnel.phase is Phase.RETIRING and scene.now >= tunnel.retire_at:
                self.remove(tunnel, "another agent is in use")
            elif tunnel.phase is not Phase.OPENING:
                tunnel.weather.step(scene.random, scene.now)
                up, down = scene.ledger.rate(tunnel.slot)
                packet_rate = up / self.sort.size_up + down / self.sort.size_down
                tunnel.measure(scene.now, packet_rate=packet_rate)
        self.regrade()
        moves = plan_moves([each.load() for each in self.tunnels.values() if each.usable])
        self._apply([move for move in moves if balance or move.reason != "balance"])
        self.step(wishes=wishes)
        self._tell_state()

    def step(self, *, wishes: bool = False) -> None:
        """Let the pool policy act on what is known now."""
        wanted = self.policy.wanted(self.flows)
        if wanted != self._wanted:
            self._wanted = wanted
            reason = "there are flows" if self.flows else "there are no flows"
            self._scene.emit(PoolScaled(rule=self.id, wanted=wanted, reason=reason))
        usable = self.usable()
        view = PoolView(
            flows={each.id: each.flows for each in usable},
            total_flows=self.flows,
            demand=wishes and not usable,
            can_open=self.way is not None,
        )
        self.perform(self.policy.step(self._scene.now, view))

    def perform(self, actions: list[Action]) -> None:
        """Carry out what the policy decided."""
        for action in actions:
            match action:
                case Open():
                    self._attempt(action)
                case Drain():
                    self._drain(self.tunnels[action.id], action.reason)
                case Close():
                    self.remove(self.tunnels[action.id], action.reason)

    def count(self, loads: list[int]) -> None:
        """Take in how many flows each slot has."""
        for tunnel in self.tunnels.values():
            tunnel.flows = loads[tunnel.slot]

    def regrade(self) -> None:
        """Judge every tunnel anew, and say what changed."""
        usable = self.usable()
        rtts = [each.health.rtt for each in usable if each.health.rtt is not None]
        for tunnel in usable:
            if tunnel.health.regrade(self._scene.now, min(rtts, default=None)):
                good = tunnel.health.grade is Grade.GOOD
                reason = "healthy again" if good else tunnel.health.reason
                self._scene.emit(TunnelDegraded(tunnel=tunnel.id, reason=reason, recovered=good))

    def _tell_state(self) -> None:
        before, self._told = self._told, self.state
        back = before is RuleState.WAITING and self._told is RuleState.ACTIVE
        if before is not self._told and (back or self._told is RuleState.WAITING):
            self._scene.emit(RuleChanged(rule=self.id, state=self._told.value, reason=self.reason))

    # ---- flows ----------------------------------------------------------------------------------

    def move_flows(self, rows: Rows, new: Tunnel, reason: str) -> None:
        """Give flows, all of one tunnel, to `new`, and say so."""
        if not len(rows):
            return
        scene = self._scene
        old = scene.slots[int(scene.flows.slot[rows[0]])]
        scene.flows.move(rows, new.slot, scene.now)
        new.flows += len(rows)
        if old is not None and old in self.tunnels:
            self.tunnels[old].flows -= len(rows)
        scene.emit(FlowMoved(flow=self._only(rows), count=len(rows), old=old, new=new.id, reason=reason))

    def tell_opened(self, rows: Rows, tunnel: Tunnel) -> None:
        """Say that new flows are on a tunnel."""
        flows = self._scene.flows
        tunnel.flows += len(rows)
        for row in rows.tolist():
            self._scene.emit(
                FlowOpened(
                    flow=format_flow_id(int(flows.ids[row])),
                    rule=self.id,
                    source=source_text(flows.sources[row]),
                    target=self.sort.target,
                    tunnel=tunnel.id,
                )
            )

    def tell_closed(self, rows: Rows, reason: str) -> None:
        """Say that flows end."""
        if len(rows):
            self._scene.emit(FlowClosed(flow=self._only(rows), count=len(rows), reason=reason))

    def _only(self, rows: Rows) -> FlowId | None:
        return format_flow_id(int(self._scene.flows.ids[rows[0]])) if len(rows) == 1 else None

    def _apply(self, moves: list[Move]) -> None:
        """Begin with planned moves: a share of a tunnel's flows goes now, the others later."""
        scene = self._scene
        limits = {
            name: math.ceil(self.tunnels[name].flows * MOVE_SHARE) for name in {move.old for move in moves}
        }
        for move in moves:
            rows = scene.flows.on_slot(self.tunnels[move.old].slot)
            if move.reason == "balance":
                rows = rows[scene.flows.moved_at[rows] <= scene.now - BALANCE_INTERVAL]
            rows = rows[: min(move.flows, limits[move.old])]
            limits[move.old] -= len(rows)
            self.move_flows(rows, self.tunnels[move.new], move.reason)

    def _leave(self, tunnel: Tunnel, reason: str) -> None:
        """Take every flow off a tunnel at once; without another one they wait."""
        scene = self._scene
        tunnel.flows = len(scene.flows.on_slot(tunnel.slot))
        others = [each.load() for each in self.usable() if each is not tunnel and not each.draining]
        for move in plan_moves([tunnel.load()._replace(draining=True), *others]):
            if move.old == tunnel.id:
                rows = scene.flows.on_slot(tunnel.slot)[: move.flows]
                self.move_flows(rows, self.tunnels[move.new], reason)
        scene.flows.slot[scene.flows.on_slot(tunnel.slot)] = NO_SLOT

    def _wake_waiting(self) -> None:
        """Flows that wait take the best tunnel."""
        waiting = self._scene.flows.on_slot(NO_SLOT, self.index)
        if len(waiting) and (tunnel := self.choose()) is not None:
            self.move_flows(waiting, tunnel, "tunnel up")

    # ---- tunnels --------------------------------------------------------------------------------

    def add(self, way: Way, source: str, *, local: int, remote: int, weather: PathWeather) -> Tunnel:
        """A tunnel that no flow uses yet; the ports are of its two ends."""
        name = self._scene.next_tunnel()
        tunnel = Tunnel(
            id=name,
            slot=self._scene.take_slot(name),
            rule=self.id,
            agent=way.agent,
            source=source,
            opened_at=self._scene.now,
            local=f"192.168.1.20:{local}",
            remote=f"{way.host}:{remote}",
            weather=weather,
        )
        self.tunnels[name] = tunnel
        return tunnel

    def open(self, way: Way, source: str, done: Callable[[Tunnel, str], None]) -> Tunnel:
        """Open a tunnel; `done(tunnel, fault)` is called when it is up, or could not be opened."""
        random = self._scene.random
        weather = PathWeather(usual_rtt=way.rtt * random.uniform(0.94, 1.12), usual_loss=random.choice(_LOSS))
        ports = LOCAL_PORT + random.randrange(20_000), random.randrange(32_768, 61_000)
        tunnel = self.add(way, source, local=ports[0], remote=ports[1], weather=weather)
        event = TunnelOpening(tunnel=tunnel.id, rule=self.id, agent=way.agent, source=source)
        self._scene.emit(event)
        wait = random.uniform(*self.opening_time)
        self._scene.later(wait, lambda: self._opened(tunnel, way.fault, done))
        return tunnel

    def accept(self, tunnel: Tunnel) -> None:
        """Flows may use this tunnel from now on."""
        tunnel.phase = Phase.ACTIVE
        tunnel.health.received(self._scene.now)
        tunnel.health.answered(self._scene.now)
        tunnel.measure_exactly()
        self.reason = ""
        self._scene.emit(
            TunnelUp(
                tunnel=tunnel.id,
                rule=self.id,
                agent=tunnel.agent,
                source=tunnel.source,
                remote=tunnel.remote,
                codec=CODEC,
                rtt_ms=tunnel.weather.rtt * 1e3,
            )
        )
        self._wake_waiting()

    def remove(self, tunnel: Tunnel, reason: str, *, lost: bool = False) -> None:
        """Close and forget a tunnel; its flows leave first."""
        self._leave(tunnel, "tunnel lost" if lost else "tunnel closed")
        del self.tunnels[tunnel.id]
        self.gone = Carried.total((self.gone, self._scene.ledger.clear(tunnel.slot)))
        self._scene.give_back(tunnel.slot)
        self.policy.lost(tunnel.id)
        add_counts(self.drops, tunnel.drops)
        opened = tunnel.phase is not Phase.OPENING
        self._scene.emit(TunnelClosed(tunnel=tunnel.id, reason=reason, opened=opened))

    def _opened(self, tunnel: Tunnel, fault: str, done: Callable[[Tunnel, str], None]) -> None:
        if tunnel.id not in self.tunnels:
            return
        if fault:
            self.remove(tunnel, fault)
        done(tunnel, fault)

    def _attempt(self, action: Open) -> None:
        way = self.way
        assert way is not None, "the policy opens only with an agent"
        source = "bootstrap" if not self.tunnels and action.source == "scale-up" else action.source
        tunnel = self.open(way, source, lambda tunnel, fault: self._attempted(tunnel, way, fault))
        tunnel.replaces = action.replaces

    def _attempted(self, tunnel: Tunnel, way: Way, fault: str) -> None:
        if way is not self.way:
            if not fault:
                self.remove(tunnel, "another agent is in use")
            return
        if fault:
            self.reason = fault
            self.policy.open_failed(self._scene.now)
            return
        actions = self.policy.opened(tunnel.id, self._scene.now)
        self.accept(tunnel)
        if actions and tunnel.replaces is not None:
            self._scene.emit(TunnelReplaced(tunnel=tunnel.replaces, by=tunnel.id))
        self.perform(actions)

    def _drain(self, tunnel: Tunnel, reason: str) -> None:
        tunnel.phase = Phase.DRAINING
        self._scene.emit(TunnelDraining(tunnel=tunnel.id, flows=tunnel.flows, reason=reason))

    # ---- agents ---------------------------------------------------------------------------------

    def use(self, way: Way | None) -> None:
        """Open tunnels to this agent from now on; those of another one retire."""
        if way is self.way:
            return
        self.way = way
        self.policy.start_over()
        if way is not None:
            self.reason = f"no tunnel to agent {way.agent} yet"
        for tunnel in self.usable():
            tunnel.phase = Phase.RETIRING
            tunnel.retire_at = self._scene.now + LINGER
            self.policy.lost(tunnel.id)

    def commit(self, way: Way, tunnel: Tunnel | None) -> int:
        """Let all flows use the tunnel that was prepared; returns how many moved."""
        self.use(way)
        if tunnel is None or tunnel.id not in self.tunnels:
            return 0
        self.policy.adopt(tunnel.id, self._scene.now)
        self.accept(tunnel)
        moved = 0
        for other in list(self.tunnels.values()):
            rows = self._scene.flows.on_slot(other.slot)
            if other is not tunnel and len(rows):
                self.move_flows(rows, tunnel, "agent switch")
                moved += len(rows)
        return moved

    def lose_all(self, reason: str) -> None:
        """Every tunnel is gone at once."""
        for tunnel in list(self.tunnels.values()):
            self.remove(tunnel, reason, lost=True)

    # ---- commands -------------------------------------------------------------------------------

    def pause(self, *, paused: bool) -> None:
        """Stop or resume carrying; while paused, what arrives is dropped and counted."""
        self.paused = paused
        self._scene.emit(RuleChanged(rule=self.id, state="paused" if paused else "resumed"))

    def prefer(self, tunnel: Tunnel | None) -> None:
        """New flows go to this tunnel while it is healthy."""
        for each in self.tunnels.values():
            each.preferred = each is tunnel


_LOSS = (0.0, 0.0, 0.0005, 0.001, 0.002)
