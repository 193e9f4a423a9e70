"""One rule of the relay: its local port, its channels, and the flows that go from one to the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np

from rtun_core.bus import EventBus
from rtun_core.events import FlowClosed, FlowMoved, RuleChanged
from rtun_core.flow_rows import format_flow_id
from rtun_core.model import FlowId, RuleId, RuleState, TunnelId
from rtun_core.relay.agent_link import AgentLink
from rtun_core.relay.channel import Channel
from rtun_core.relay.channel_open import ChannelWish
from rtun_core.relay.channel_pool import ChannelPool, PoolHooks
from rtun_core.relay.config import RelayConfig
from rtun_core.relay.flow_table import NO_CHANNEL, FlowTable, Rows
from rtun_core.relay.local_port import LocalPort
from rtun_core.relay.pool import PoolPolicy
from rtun_core.relay.router import Move, best_channel, plan_moves
from rtun_core.wire.relay_rule import RelayRule

MOVE_INTERVAL = 5.0  # a flow is moved for balance at most this often; wire spec 10


class RuleRelay:
    """Carries one rule. Everything happens on the engine's loop."""

    def __init__(
        self,
        rule_id: RuleId,
        rule: RelayRule,
        config: RelayConfig,
        bus: EventBus,
        *,
        session_id: bytes,
        next_tunnel_id: Callable[[], TunnelId],
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_lost` is called when a channel was lost by itself."""
        self.id, self.rule = rule_id, rule
        self.port = LocalPort(rule_id, rule, bus, max_flows=config.max_flows, choose=self._choose)
        self.pool = ChannelPool(
            rule_id,
            _wish(rule, config, session_id),
            PoolPolicy(
                minimum=config.min_channels,
                maximum=config.max_channels,
                lifetime=config.channel_lifetime,
                retry_interval=config.open_retry_min_interval,
            ),
            PoolHooks(
                receiver=self.port,
                leave=self._leave,
                changed=self._channels_changed,
                spawn=spawn,
                next_id=next_tunnel_id,
            ),
            bus,
        )
        self._tell_lost = on_lost
        self._idle_timeout = config.idle_timeout
        self._bus = bus
        self._demand = False

    @property
    def table(self) -> FlowTable:
        """The rule's flows."""
        return self.port.table

    @property
    def state(self) -> RuleState:
        """Where the rule is in its life."""
        if not self.port.is_open:
            return RuleState.STOPPED
        if self.port.paused:
            return RuleState.PAUSED
        link = self.pool.link
        on_demand = self.pool.policy.min == 0 and link is not None and link.connected
        return RuleState.ACTIVE if self.pool.usable() or on_demand else RuleState.WAITING

    def bind(self) -> None:
        """Open the listening socket; datagrams wait in it until a channel is up. Raises BindError."""
        self.port.bind()
        self.port.hold(self._on_demand)

    def close(self) -> None:
        """Close the socket and every channel."""
        self.port.close()
        self.pool.close("relay stopped")

    def tick(self, now: float) -> None:
        """Once a second: channels, rates, idle flows, moves, pool."""
        self.pool.tick(now)
        self.table.sample_rates(now)
        self._count_flows()
        idle = self.table.idle(now - self._idle_timeout)
        self.close_flows(idle, f"idle for {self._idle_timeout:.0f} s")
        for move in plan_moves(self.pool.loads()):
            self._apply(move, now)
        self.step(now)

    def step(self, now: float) -> None:
        """Let the pool act on what is known now."""
        self.pool.step(now, total_flows=len(self.table), demand=self._demand)

    # ---- flows ----------------------------------------------------------------------------------

    def move_flows(self, rows: Rows, new: Channel, reason: str) -> None:
        """Give flows, all of one channel, to `new`, and say so."""
        if not len(rows):
            return
        old = self.port.channels.get(int(self.table.channel[rows[0]]))
        self.table.move(rows, new.number, time.monotonic())
        new.flows += len(rows)
        if old is not None:
            old.flows -= len(rows)
        self._bus.emit(
            FlowMoved(
                flow=self._only(rows),
                count=len(rows),
                old=None if old is None else old.id,
                new=new.id,
                reason=reason,
            )
        )

    def close_flows(self, rows: Rows, reason: str) -> None:
        """Forget flows, and say so."""
        if not len(rows):
            return
        flow = self._only(rows)
        for row in rows.tolist():
            self.table.close(row)
        self._bus.emit(FlowClosed(flow=flow, count=len(rows), reason=reason))

    def find_flows(self, flows: tuple[FlowId, ...] | None) -> Rows:
        """Rows of flows by id, unknown ones left out; all of them for None."""
        if flows is None:
            return self.table.rows()
        rows = [row for flow in flows if (row := self.table.row_of(flow)) is not None]
        return np.array(sorted(set(rows)), np.intp)

    def _only(self, rows: Rows) -> FlowId | None:
        return format_flow_id(int(self.table.ids[rows[0]])) if len(rows) == 1 else None

    def _choose(self) -> Channel | None:
        best = best_channel(self.pool.loads())
        return None if best is None else self.pool.channels[best.id]

    def _count_flows(self) -> None:
        numbers = self.port.channels
        loads = self.table.loads(max(numbers, default=0) + 1)
        for number, channel in numbers.items():
            channel.flows = int(loads[number])

    def _apply(self, move: Move, now: float) -> None:
        """Carry out a planned move; for mere balance, flows that moved a moment ago stay."""
        old, new = self.pool.channels[move.old], self.pool.channels[move.new]
        before = now - MOVE_INTERVAL if move.reason == "balance" else now
        self.move_flows(self.table.movable(old.number, before=before)[: move.flows], new, move.reason)

    def _leave(self, channel: Channel, reason: str) -> None:
        """Move every flow off a channel; without another one they wait for the next."""
        if channel.closed:
            self._tell_lost()
        rows = self.table.on_channel(channel.number)
        channel.flows = len(rows)
        loads = self.pool.loads()
        leaving = [each._replace(draining=True) for each in loads if each.id == channel.id]
        others = [each for each in loads if each.id != channel.id and not each.draining]
        for move in plan_moves([*leaving, *others]):
            if move.old == channel.id:
                rows, left = rows[: move.flows], rows[move.flows :]
                self.move_flows(rows, self.pool.channels[move.new], reason)
                rows = left

    # ---- channels -------------------------------------------------------------------------------

    def _channels_changed(self) -> None:
        """Bring what depends on the set of channels up to date; waiting flows take the best one."""
        self.port.channels = self.pool.by_number()
        gone = self.table.rows()
        gone = gone[~np.isin(self.table.channel[gone], list(self.port.channels))]
        self.table.channel[gone] = NO_CHANNEL
        usable = self.pool.usable()
        self.port.max_payload = min((channel.max_payload for channel in usable), default=0)
        if not usable:
            self.port.hold(self._on_demand)
            return
        waiting = self.table.on_channel(NO_CHANNEL)
        if len(waiting) and (channel := self._choose()) is not None:
            self.move_flows(waiting, channel, "tunnel up")
        self._demand = False
        self.port.read()

    def _on_demand(self) -> None:
        self._demand = True
        self.step(time.monotonic())

    # ---- agents ---------------------------------------------------------------------------------

    def use(self, link: AgentLink | None) -> None:
        """Open channels through this agent from now on."""
        self.pool.use(link)
        self._channels_changed()
        self.step(time.monotonic())

    def commit(self, link: AgentLink, channel: Channel | None) -> int:
        """Let all flows use the channel that was prepared with `pool.open`; returns how many moved."""
        self.pool.use(link)
        if channel is None or channel.closed:
            self._channels_changed()
            return 0
        self.pool.adopt(channel)
        moved = 0
        for number in list(self.port.channels):
            rows = self.table.on_channel(number)
            if number != channel.number and len(rows):
                self.move_flows(rows, channel, "agent switch")
                moved += len(rows)
        return moved

    # ---- commands -------------------------------------------------------------------------------

    def pause(self, *, paused: bool) -> None:
        """Stop or resume carrying; while paused, what arrives is dropped and counted."""
        self.port.paused = paused
        self._bus.emit(RuleChanged(rule=self.id, state="paused" if paused else "resumed"))

    def prefer(self, channel: Channel | None) -> None:
        """New flows go to this channel while it is healthy."""
        for each in self.pool.channels.values():
            each.preferred = each is channel


def _wish(rule: RelayRule, config: RelayConfig, session_id: bytes) -> ChannelWish:
    return ChannelWish(
        target=rule.target,
        ice=config.ice,
        idle_timeout=config.idle_timeout,
        session_id=session_id,
        max_payload=config.max_payload,
        codec=config.codec,
    )
