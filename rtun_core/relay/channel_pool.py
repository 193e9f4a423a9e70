"""The channels of one rule: opens, accepts, retires and closes them as `pool.PoolPolicy` decides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from rtun_core.bus import EventBus
from rtun_core.errors import CommandRefused, RtunError, SignalingError
from rtun_core.events import (
    PoolScaled,
    TunnelClosed,
    TunnelDegraded,
    TunnelDraining,
    TunnelOpening,
    TunnelReplaced,
    TunnelUp,
)
from rtun_core.model import RuleId, TunnelId, add_counts
from rtun_core.relay.agent_link import AgentLink
from rtun_core.relay.channel import Channel, ChannelIdentity, Receiver, Stage
from rtun_core.relay.channel_open import DETECT_TIMEOUT, ChannelWish, OpenedPath, open_channel
from rtun_core.relay.health import Grade
from rtun_core.relay.pool import Action, Close, Drain, Open, PoolPolicy, PoolView
from rtun_core.relay.router import ChannelLoad

LINGER = 5.0  # a former agent's channels still deliver answers for this long


@dataclass(slots=True, kw_only=True)
class PoolHooks:
    """What the owner of a pool does for it.

    `receiver` gets answers. `leave(channel, reason)`: move its flows elsewhere, or let them wait.
    `changed`: the set of usable channels is another one. `spawn` runs a coroutine in the background.
    `next_id` numbers tunnels over all rules.
    """

    receiver: Receiver
    leave: Callable[[Channel, str], None]
    changed: Callable[[], None]
    spawn: Callable[[Coroutine[Any, Any, None], str], object]
    next_id: Callable[[], TunnelId]


class ChannelPool:
    """All channels of a rule, of the agent in use and of a former one that still lingers."""

    def __init__(
        self, rule: RuleId, wish: ChannelWish, policy: PoolPolicy, hooks: PoolHooks, bus: EventBus
    ) -> None:
        self.channels: dict[TunnelId, Channel] = {}
        self.policy = policy
        self.link: AgentLink | None = None
        self.failures = 0  # attempts that failed since a channel came up
        self.reason = "no agent yet"
        self.lost_drops: dict[str, int] = {}  # counted by channels that are gone
        self.lost_faults: dict[str, int] = {}
        self._rule, self._wish, self._hooks, self._bus = rule, wish, hooks, bus
        self._wanted = policy.wanted(0)
        self._retire_at: dict[TunnelId, float] = {}
        self._opening: set[TunnelId] = set()  # `open` tells their end itself
        self._closed = False

    def usable(self) -> list[Channel]:
        """Channels of the agent in use, draining ones included."""
        return [each for each in self.channels.values() if each.stage in (Stage.ACTIVE, Stage.DRAINING)]

    def by_number(self) -> dict[int, Channel]:
        """Channels by their number in the flow table."""
        return {channel.number: channel for channel in self.channels.values()}

    def loads(self) -> list[ChannelLoad]:
        """What the router must know, of every channel that may have flows."""
        return [
            ChannelLoad(
                id=channel.id,
                grade=channel.health.grade,
                cost=channel.health.cost,
                flows=channel.flows,
                rate=channel.rate,
                draining=channel.draining,
                preferred=channel.preferred,
            )
            for channel in self.channels.values()
            if channel.stage is not Stage.PREPARED
        ]

    def tick(self, now: float) -> None:
        """Heartbeats and watchdogs, grades, and the end of channels that lingered long enough."""
        for channel in list(self.channels.values()):
            channel.tick(now)
        usable = self.usable()
        heard = [each.health for each in usable if each.health.grade is not Grade.STALE]
        best = min((health.rtt for health in heard if health.rtt is not None), default=None)
        for channel in usable:
            if channel.health.regrade(now, best):
                self._tell_grade(channel)
        for tunnel in [tunnel for tunnel, deadline in self._retire_at.items() if now >= deadline]:
            self.remove(self.channels[tunnel], "another agent is in use")

    def step(self, now: float, *, total_flows: int, demand: bool) -> None:
        """Let the policy decide, and do what it says."""
        self._tell_wanted(total_flows)
        usable = self.usable()
        view = PoolView(
            flows={channel.id: channel.flows for channel in usable},
            total_flows=total_flows,
            silent=frozenset(each.id for each in usable if each.health.grade is Grade.STALE),
            demand=demand and not usable,
            can_open=self.link is not None and self.link.connected,
        )
        self.perform(self.policy.step(now, view))

    def perform(self, actions: list[Action]) -> None:
        """Carry out what the policy decided."""
        for action in actions:
            match action:
                case Open():
                    self._start_open(action)
                case Drain():
                    self._drain(self.channels[action.id], action.reason)
                case Close():
                    self.remove(self.channels[action.id], action.reason)

    def use(self, link: AgentLink | None) -> None:
        """Open channels through this agent from now on; channels of another agent retire."""
        if link is self.link:
            return
        self.link, self.failures = link, 0
        self.policy.start_over()
        if link is not None:
            self.reason = f"no tunnel to agent {link.id} yet"
        deadline = time.monotonic() + LINGER
        for channel in self.usable():
            channel.stage = Stage.RETIRING
            self._retire_at[channel.id] = deadline
            self.policy.lost(channel.id)

    async def open(self, link: AgentLink, source: str, *, timeout: float) -> Channel:
        """Open a channel that no flow uses yet. Raises RtunError, which is also an event."""
        tunnel = self._hooks.next_id()
        self._bus.emit(TunnelOpening(tunnel=tunnel, rule=self._rule, agent=link.id, source=source))
        self._opening.add(tunnel)
        try:
            opened = await open_channel(link, self._wish, timeout=timeout)
            channel = self._start(tunnel, link, opened)
            await self._until_ready(channel)
        except BaseException as error:
            reason = str(error) or "no longer wanted"
            self._bus.emit(TunnelClosed(tunnel=tunnel, reason=reason, opened=False))
            raise
        finally:
            self._opening.discard(tunnel)
        return channel

    def accept(self, channel: Channel, source: str) -> None:
        """Flows may use this channel from now on."""
        channel.stage = Stage.ACTIVE
        self.failures, self.reason = 0, ""
        rtt = channel.health.rtt
        self._bus.emit(
            TunnelUp(
                tunnel=channel.id,
                rule=self._rule,
                agent=channel.agent,
                source=source,
                remote=str(channel.frames.remote),
                codec=channel.frames.codec_name,
                rtt_ms=None if rtt is None else rtt * 1e3,
            )
        )
        self._hooks.changed()

    def adopt(self, channel: Channel) -> None:
        """Accept a channel that was prepared for an agent switch."""
        self.policy.adopt(channel.id, time.monotonic())
        self.accept(channel, "switch")

    def remove(self, channel: Channel, reason: str) -> None:
        """Close and forget a channel; its flows leave first."""
        if channel.id not in self.channels:
            return
        self._hooks.leave(channel, "tunnel lost" if channel.closed else "tunnel closed")
        del self.channels[channel.id]
        self._retire_at.pop(channel.id, None)
        self.policy.lost(channel.id)
        channel.close()
        add_counts(self.lost_drops, channel.drops())
        add_counts(self.lost_faults, channel.faults())
        if channel.id not in self._opening:
            self._bus.emit(TunnelClosed(tunnel=channel.id, reason=reason))
        self._hooks.changed()

    def close(self, reason: str) -> None:
        """Close every channel; an attempt that still runs will give none."""
        self._closed = True
        for channel in list(self.channels.values()):
            self.remove(channel, reason)

    def find(self, tunnel: TunnelId) -> Channel:
        """The channel of that name that flows may use. Raises CommandRefused."""
        channel = self.channels.get(tunnel)
        if channel is None or channel.stage not in (Stage.ACTIVE, Stage.DRAINING):
            raise CommandRefused(f"tunnel {tunnel} is not in use")
        return channel

    def _start_open(self, action: Open) -> None:
        link = self.link
        assert link is not None, "the policy opens only with a link"
        source = "bootstrap" if not self.channels and action.source == "scale-up" else action.source
        self._hooks.spawn(self._attempt(link, action, source), f"open {source}")

    async def _attempt(self, link: AgentLink, action: Open, source: str) -> None:
        """One attempt for the policy, which hears of the result unless another agent is in use by then."""
        try:
            channel = await self.open(link, source, timeout=action.timeout)
        except RtunError as error:
            if link is self.link:
                self.failures += 1
                self.reason = str(error)
                self.policy.open_failed(time.monotonic())
            return
        if link is not self.link:
            self.remove(channel, "another agent is in use")
            return
        actions = self.policy.opened(channel.id, time.monotonic())
        self.accept(channel, source)
        if actions and action.replaces is not None:
            self._bus.emit(TunnelReplaced(tunnel=action.replaces, by=channel.id))
        self.perform(actions)

    def _start(self, tunnel: TunnelId, link: AgentLink, opened: OpenedPath) -> Channel:
        if self._closed:
            opened.path.socket.close()
            raise SignalingError("the relay stops")
        taken = self.by_number()
        number = next(each for each in range(len(taken) + 1) if each not in taken)
        channel = Channel(
            ChannelIdentity(tunnel, number, self._rule, link.id),
            opened.path,
            opened.terms,
            reports=opened.reports,
            max_payload=opened.max_payload,
            receiver=self._hooks.receiver,
            on_lost=self.remove,
        )
        self.channels[tunnel] = channel
        channel.frames.start()
        return channel

    async def _until_ready(self, channel: Channel) -> None:
        """Wait until the frame form is known, where it is not agreed. Raises RtunError."""
        try:
            async with asyncio.timeout(DETECT_TIMEOUT + 2):
                await channel.frames.ready.wait()
        except BaseException as error:
            self.remove(channel, "it never came up")
            if isinstance(error, TimeoutError):
                raise SignalingError(f"no frame came from agent {channel.agent}") from None
            raise
        if channel.closed:
            raise SignalingError(f"the path to agent {channel.agent} was lost at once")

    def _drain(self, channel: Channel, reason: str) -> None:
        channel.stage = Stage.DRAINING
        self._bus.emit(TunnelDraining(tunnel=channel.id, flows=channel.flows, reason=reason))
        self._hooks.leave(channel, "draining")
        self._hooks.changed()

    def _tell_wanted(self, total_flows: int) -> None:
        wanted = self.policy.wanted(total_flows)
        if wanted != self._wanted:
            self._wanted = wanted
            reason = "there are flows" if total_flows else "there are no flows"
            self._bus.emit(PoolScaled(rule=self._rule, wanted=wanted, reason=reason))

    def _tell_grade(self, channel: Channel) -> None:
        good = channel.health.grade is Grade.GOOD
        reason = "healthy again" if good else channel.health.reason
        self._bus.emit(TunnelDegraded(tunnel=channel.id, reason=reason, recovered=good))
