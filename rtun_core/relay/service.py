"""The relay as the engine runs it: rules, director, tick, snapshot and commands."""

from __future__ import annotations

import asyncio
import secrets
import time
from itertools import count

from rtun_core.bus import EventBus
from rtun_core.commands import Command, CommandResult
from rtun_core.errors import NoAgentError
from rtun_core.events import Notice, RuleChanged, ServiceListening
from rtun_core.model import RuleId, RuleState, ServiceSnapshot, TunnelId
from rtun_core.net.tasks import TaskOwner
from rtun_core.relay.agent_choice import AgentPolicy
from rtun_core.relay.command_handler import HANDLED, RelayCommands
from rtun_core.relay.config import RelayConfig
from rtun_core.relay.director import Director
from rtun_core.relay.relay_view import relay_counters, relay_snapshot
from rtun_core.relay.rule_relay import RuleRelay
from rtun_core.wire.token import PUBLIC_SECRET

TICK = 1.0
DRAIN_TIME = 1.0  # answers under way get this long when the relay stops
DRAIN_QUIET = 0.2  # ... or until none came for this long


class RelayService:
    """`rtun relay`: implements the engine's Service protocol."""

    name = "relay"

    def __init__(self, config: RelayConfig, bus: EventBus) -> None:
        self.config = config
        self._bus = bus
        self._ended: asyncio.Future[str] | None = None
        self._tasks = TaskOwner("relay", self._task_failed)
        tunnel_numbers = count(1)
        session_id = secrets.token_bytes(16)
        self.rules = [
            RuleRelay(
                RuleId(f"r{number}"),
                rule,
                config,
                bus,
                session_id=session_id,
                next_tunnel_id=lambda: TunnelId(f"t{next(tunnel_numbers)}"),
                spawn=self._tasks.spawn,
                on_lost=self._channel_lost,
            )
            for number, rule in enumerate(config.rules, 1)
        ]
        self.director = Director(config.endpoint, AgentPolicy(config.agent), self.rules, bus)
        self._commands = RelayCommands(self.rules, self.director)
        self._states: dict[RuleId, RuleState] = {}

    async def start(self) -> None:
        """Bind every rule, then look for an agent in the background. Raises BindError."""
        self._ended = asyncio.get_running_loop().create_future()
        try:
            for rule in self.rules:
                rule.bind()
        except Exception:
            for rule in self.rules:
                rule.close()
            raise
        self._announce()
        self._tasks.spawn(self._tick(), "tick")
        self._tasks.spawn(self.director.run(), "director")
        if self.config.wait_agent is not None:
            self._tasks.spawn(self._expect_agent(self.config.wait_agent), "wait for an agent")

    async def wait(self) -> str:
        """Ends only with NoAgentError, when no tunnel was up in the time given."""
        assert self._ended is not None, "started before waited for"
        return await self._ended

    async def stop(self, *, drain: bool) -> None:
        """Stop reading, let answers under way pass, close everything."""
        for rule in self.rules:
            rule.port.stop_reading()
        if drain:
            await self._drain()
        await self._tasks.close()
        for rule in self.rules:
            rule.close()
        await self.director.close()

    def snapshot(self, *, flows: bool = True) -> ServiceSnapshot:
        """The picture right now."""
        return relay_snapshot(self.rules, self.director, self.config, flows=flows)

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """Drops and faults by reason."""
        return relay_counters(self.rules)

    def handles(self, command: Command) -> bool:
        """Whether this is one of the relay's commands."""
        return isinstance(command, HANDLED)

    async def handle(self, command: Command) -> CommandResult:
        """Carry out a command. Raises CommandRefused."""
        return await self._commands.handle(command)

    def _announce(self) -> None:
        for rule in self.rules:
            detail = f"-> {rule.rule.target}"
            self._bus.emit(
                ServiceListening(service=f"relay {rule.id}", address=str(rule.port.local), detail=detail)
            )
        if self.config.endpoint.secret == PUBLIC_SECRET:
            message = (
                "NO SECRET IS SET: the public default of the original programs is used, so anyone can use "
                "these agents; set --secret-file or RTUN_SECRET on every side"
            )
            self._bus.emit(Notice(topic="secret", message=message))

    async def _tick(self) -> None:
        """The one-second tick of every rule, without drift."""
        due = time.monotonic()
        while True:
            due = max(due + TICK, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            for rule in self.rules:
                rule.tick(time.monotonic())
                self._tell_state(rule)

    def _tell_state(self, rule: RuleRelay) -> None:
        before = self._states.get(rule.id, RuleState.STARTING)
        self._states[rule.id] = rule.state
        news = rule.state is RuleState.WAITING or (
            before is RuleState.WAITING and rule.state is RuleState.ACTIVE
        )
        if before is not rule.state and news:
            self._bus.emit(RuleChanged(rule=rule.id, state=rule.state.value, reason=rule.pool.reason))

    def _channel_lost(self) -> None:
        self.director.nudge()

    async def _expect_agent(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(rule.pool.usable() for rule in self.rules):
                return
            await asyncio.sleep(0.05)
        reasons = (self.director.signal_reason, *(rule.pool.reason for rule in self.rules))
        reason = next(filter(None, reasons), "no agent answered")
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(NoAgentError(f"no tunnel was up within {seconds:g} s: {reason}"))

    async def _drain(self) -> None:
        deadline = time.monotonic() + DRAIN_TIME
        before = -1
        while time.monotonic() < deadline:
            answered = sum(rule.port.traffic.down_packets for rule in self.rules)
            if answered == before:
                return
            before = answered
            await asyncio.sleep(DRAIN_QUIET)

    def _task_failed(self, name: str, error: BaseException) -> None:
        """A task of ours must not fail; when one does, the relay ends loudly rather than half alive."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)
        self._bus.emit(Notice(topic="bug", message=f"{name} failed: {type(error).__name__}: {error}"))
