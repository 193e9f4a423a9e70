"""The relay's commands, carried out or refused with a reason."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import get_args

import numpy as np

from rtun_core import commands as cmd
from rtun_core.commands import Command, CommandResult
from rtun_core.errors import CommandRefused, RtunError
from rtun_core.event import counted
from rtun_core.model import FlowId, RuleId, TunnelId
from rtun_core.relay.channel import Channel
from rtun_core.relay.director import Director
from rtun_core.relay.flow_table import Rows
from rtun_core.relay.rule_relay import RuleRelay

RelayCommand = (
    cmd.SwitchAgent
    | cmd.PinAgent
    | cmd.UnpinAgent
    | cmd.ProbeAgent
    | cmd.OpenTunnel
    | cmd.DrainTunnel
    | cmd.CloseTunnel
    | cmd.RecycleTunnel
    | cmd.PreferTunnel
    | cmd.SetLimits
    | cmd.MoveFlow
    | cmd.CloseFlow
    | cmd.PauseRule
    | cmd.ResumeRule
)
HANDLED: tuple[type[Command], ...] = get_args(RelayCommand)


class RelayCommands:
    """Translates commands into what rules and director offer."""

    def __init__(self, rules: Sequence[RuleRelay], director: Director) -> None:
        self._rules = rules
        self._director = director

    async def handle(self, command: Command) -> CommandResult:
        """Carry out one of `HANDLED`. Raises CommandRefused."""
        match command:
            case cmd.SwitchAgent():
                return await self._switch(command)
            case cmd.ProbeAgent():
                return await self._probe(command)
            case cmd.PinAgent() | cmd.UnpinAgent():
                return self._pin(pinned=isinstance(command, cmd.PinAgent))
            case cmd.SetLimits():
                return self._limits(command)
            case cmd.MoveFlow():
                return self._move(command)
            case cmd.CloseFlow():
                return self._close_flows(command)
            case cmd.PauseRule() | cmd.ResumeRule():
                return self._pause(command)
            case _:
                return self._tunnel(command)

    # ---- agents ---------------------------------------------------------------------------------

    async def _switch(self, command: cmd.SwitchAgent) -> CommandResult:
        entry = self._director.find(command.name, command.instance)
        flows = await self._director.switch(entry, force=command.force)
        text = f"agent {entry.name} in use, {counted(flows, 'flow')} moved"
        return CommandResult(text=text, data={"flows": flows})

    async def _probe(self, command: cmd.ProbeAgent) -> CommandResult:
        entry = self._director.find(command.name, command.instance)
        try:
            rtt = await self._director.probe(entry)
        except RtunError as error:
            raise CommandRefused(f"the probe of {command.name} failed: {error}") from None
        text = f"agent {command.name} answers in {rtt * 1e3:.1f} ms"
        return CommandResult(text=text, data={"rtt_ms": rtt * 1e3})

    def _pin(self, *, pinned: bool) -> CommandResult:
        if pinned and self._director.link is None:
            raise CommandRefused("no agent is in use that could be pinned")
        self._director.policy.pinned = pinned
        return CommandResult(
            text="pinned: no automatic switch" if pinned else "automatic switches are allowed"
        )

    # ---- tunnels --------------------------------------------------------------------------------

    def _tunnel(self, command: Command) -> CommandResult:
        match command:
            case cmd.OpenTunnel():
                return self._open(command.rule)
            case cmd.PreferTunnel():
                return self._prefer(command.tunnel)
            case cmd.DrainTunnel():
                rule, channel = self._find(command.tunnel)
                if not channel.draining:
                    rule.pool.policy.take_one_back()
                # What follows is left to the next tick: closed at once, it would lose answers under way.
                rule.pool.perform(rule.pool.policy.drain(channel.id, "requested"))
                left = counted(channel.flows, "flow")
                return CommandResult(text=f"tunnel {channel.id} draining, {left} left")
            case cmd.RecycleTunnel():
                rule, channel = self._find(command.tunnel)
                rule.pool.policy.recycle(channel.id)
                rule.step(time.monotonic())
                return CommandResult(text=f"tunnel {channel.id} is being replaced")
            case cmd.CloseTunnel():
                rule, channel = self._find(command.tunnel)
                if not channel.draining:
                    rule.pool.policy.take_one_back()
                rule.pool.remove(channel, "closed on request")
                rule.step(time.monotonic())
                return CommandResult(text=f"tunnel {channel.id} closed")
        raise CommandRefused(f"{' '.join(command.words)} is not for the relay")

    def _open(self, rule_id: RuleId | None) -> CommandResult:
        """Keep one tunnel more, until one is drained or closed on request or limits are set."""
        rules = self._rules_named(rule_id)
        for rule in rules:
            policy = rule.pool.policy
            if rule.pool.link is None or not rule.pool.link.connected:
                raise CommandRefused("there is no signalling session to open a tunnel with")
            if len(policy.active()) >= policy.max:
                raise CommandRefused(f"rule {rule.id} has its {policy.max} tunnels; see tunnel limits --max")
        for rule in rules:
            rule.pool.policy.ask_for_one()
            rule.step(time.monotonic())
        return CommandResult(text=f"opening a tunnel for {', '.join(rule.id for rule in rules)}")

    def _prefer(self, tunnel: TunnelId) -> CommandResult:
        if tunnel == "none":
            for rule in self._rules:
                rule.prefer(None)
            return CommandResult(text="no tunnel is preferred")
        rule, channel = self._find_taker(tunnel)
        rule.prefer(channel)
        return CommandResult(text=f"new flows prefer tunnel {channel.id}")

    def _limits(self, command: cmd.SetLimits) -> CommandResult:
        rules = self._rules_named(command.rule)
        limits = [_limits_of(rule, command) for rule in rules]
        for rule, (low, high) in zip(rules, limits, strict=True):
            rule.pool.policy.set_limits(low, high)
            rule.step(time.monotonic())
        text = ", ".join(f"{low}..{high}" for low, high in dict.fromkeys(limits))
        return CommandResult(text=f"tunnels {text}")

    def _find(self, tunnel: TunnelId) -> tuple[RuleRelay, Channel]:
        for rule in self._rules:
            if tunnel in rule.pool.channels:
                return rule, rule.pool.find(tunnel)
        raise CommandRefused(f"there is no tunnel {tunnel}")

    def _find_taker(self, tunnel: TunnelId) -> tuple[RuleRelay, Channel]:
        rule, channel = self._find(tunnel)
        if channel.draining:
            raise CommandRefused(f"tunnel {tunnel} is draining and takes no flows")
        return rule, channel

    # ---- flows ----------------------------------------------------------------------------------

    def _move(self, command: cmd.MoveFlow) -> CommandResult:
        """Move flows; all of them, given a tunnel, means those of its rule."""
        selected = self._select(command.flows)
        if command.to is not None and cmd.ALL in command.flows:
            owner = self._find_taker(command.to)[0]
            selected = [(rule, rows) for rule, rows in selected if rule is owner]
        moves = [move for rule, rows in selected for move in self._plan(rule, rows, command.to)]
        for rule, rows, channel in moves:
            rule.move_flows(rows, channel, "requested")
        moved = sum(len(rows) for _, rows, _ in moves)
        return CommandResult(text=f"{counted(moved, 'flow')} moved", data={"flows": moved})

    def _plan(
        self, rule: RuleRelay, rows: Rows, to: TunnelId | None
    ) -> list[tuple[RuleRelay, Rows, Channel]]:
        numbers = rule.table.channel[rows]
        targets = {number: self._destination(rule, number, to) for number in np.unique(numbers).tolist()}
        return [
            (rule, rows[numbers == number], target)
            for number, target in targets.items()
            if target.number != number
        ]

    def _destination(self, rule: RuleRelay, number: int, to: TunnelId | None) -> Channel:
        if to is not None:
            owner, channel = self._find_taker(to)
            if owner is not rule:
                raise CommandRefused(f"tunnel {to} belongs to rule {owner.id}, the flow to rule {rule.id}")
            return channel
        others = [each for each in rule.pool.usable() if each.number != number and not each.draining]
        if not others:
            raise CommandRefused(f"rule {rule.id} has no other tunnel to move flows to")
        return min(others, key=lambda channel: (channel.health.grade, channel.flows))

    def _close_flows(self, command: cmd.CloseFlow) -> CommandResult:
        closed = 0
        for rule, rows in self._select(command.flows):
            rule.close_flows(rows, "closed on request")
            closed += len(rows)
        return CommandResult(text=f"{counted(closed, 'flow')} closed", data={"flows": closed})

    def _select(self, flows: tuple[FlowId, ...]) -> list[tuple[RuleRelay, Rows]]:
        """Rules with the rows meant; refuses when none exists."""
        wanted = None if cmd.ALL in flows else flows
        selected = [(rule, rule.find_flows(wanted)) for rule in self._rules]
        selected = [(rule, rows) for rule, rows in selected if len(rows)]
        if not selected:
            raise CommandRefused(
                "there are no flows" if wanted is None else f"there is no flow {', '.join(flows)}"
            )
        return selected

    # ---- rules ----------------------------------------------------------------------------------

    def _pause(self, command: cmd.PauseRule | cmd.ResumeRule) -> CommandResult:
        paused = isinstance(command, cmd.PauseRule)
        (rule,) = self._rules_named(command.rule)
        if rule.port.paused is paused:
            raise CommandRefused(f"rule {rule.id} is {'paused already' if paused else 'not paused'}")
        rule.pause(paused=paused)
        return CommandResult(text=f"rule {rule.id} {'paused' if paused else 'resumed'}")

    def _rules_named(self, rule_id: RuleId | None) -> list[RuleRelay]:
        rules = [rule for rule in self._rules if rule_id in (None, rule.id)]
        if not rules:
            known = ", ".join(rule.id for rule in self._rules)
            raise CommandRefused(f"there is no rule {rule_id}; known: {known}")
        return rules


def _limits_of(rule: RuleRelay, command: cmd.SetLimits) -> tuple[int, int]:
    """The limits of a rule as the command wants them. Raises CommandRefused."""
    policy = rule.pool.policy
    low = policy.min if command.min is None else command.min
    high = policy.max if command.max is None else command.max
    if not 0 <= low <= high or high < 1:
        raise CommandRefused(f"limits {low}..{high} cannot be; accepted: 0 <= min <= max, max >= 1")
    return low, high
