"""The relay's commands, carried out on a simulated world with the relay's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from rtun_core import commands as cmd
from rtun_core.commands import Command, CommandResult
from rtun_core.engine.simulated.answer import Answer
from rtun_core.engine.simulated.director import SimulatedDirector
from rtun_core.engine.simulated.flow_columns import Rows
from rtun_core.engine.simulated.rule import SimulatedRule
from rtun_core.engine.simulated.scene import Scene
from rtun_core.engine.simulated.tunnel import Tunnel
from rtun_core.errors import CommandRefused
from rtun_core.event import counted
from rtun_core.model import FlowId, RuleId, TunnelId

SimulatedCommand = (
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
_FLOW_ID = re.compile("[0-9a-fA-F]{1,8}")
HANDLED: tuple[type[Command], ...] = get_args(SimulatedCommand)


class SimulatedCommands:
    """Translates commands into what rules and director offer."""

    def __init__(self, scene: Scene, rules: Sequence[SimulatedRule], director: SimulatedDirector) -> None:
        self._scene, self._rules, self._director = scene, rules, director

    def begin(self, command: Command) -> Answer:
        """Begin to carry out one of `HANDLED`. Raises CommandRefused."""
        match command:
            case cmd.SwitchAgent():
                return self._director.switch(command.name, command.instance)
            case cmd.ProbeAgent():
                return self._director.probe(command.name, command.instance)
        answer = Answer()
        answer.give(self._at_once(command))
        return answer

    def _at_once(self, command: Command) -> CommandResult:
        match command:
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

    def _pin(self, *, pinned: bool) -> CommandResult:
        if pinned and self._director.way is None:
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
                rule, tunnel = self._find(command.tunnel)
                if not tunnel.draining:
                    rule.policy.take_one_back()
                rule.perform(rule.policy.drain(tunnel.id, "requested"))
                rule.step()
                return CommandResult(
                    text=f"tunnel {tunnel.id} draining, {counted(tunnel.flows, 'flow')} left"
                )
            case cmd.RecycleTunnel():
                rule, tunnel = self._find(command.tunnel)
                rule.policy.recycle(tunnel.id)
                rule.step()
                return CommandResult(text=f"tunnel {tunnel.id} is being replaced")
            case cmd.CloseTunnel():
                rule, tunnel = self._find(command.tunnel)
                if not tunnel.draining:
                    rule.policy.take_one_back()
                rule.remove(tunnel, "closed on request")
                rule.step()
                return CommandResult(text=f"tunnel {tunnel.id} closed")
        raise CommandRefused(f"{' '.join(command.words)} is not for the relay")

    def _open(self, rule_id: RuleId | None) -> CommandResult:
        rules = self._rules_named(rule_id)
        for rule in rules:
            if rule.way is None:
                raise CommandRefused("there is no signalling session to open a tunnel with")
            if len(rule.policy.active()) >= rule.policy.max:
                raise CommandRefused(
                    f"rule {rule.id} has its {rule.policy.max} tunnels; see tunnel limits --max"
                )
        for rule in rules:
            rule.policy.ask_for_one()
            rule.step()
        return CommandResult(text=f"opening a tunnel for {', '.join(rule.id for rule in rules)}")

    def _prefer(self, name: TunnelId) -> CommandResult:
        if name == "none":
            for rule in self._rules:
                rule.prefer(None)
            return CommandResult(text="no tunnel is preferred")
        rule, tunnel = self._find_taker(name)
        rule.prefer(tunnel)
        return CommandResult(text=f"new flows prefer tunnel {tunnel.id}")

    def _limits(self, command: cmd.SetLimits) -> CommandResult:
        rules = self._rules_named(command.rule)
        limits = [_limits_of(rule, command) for rule in rules]
        for rule, (low, high) in zip(rules, limits, strict=True):
            rule.policy.set_limits(low, high)
            rule.step()
        text = ", ".join(f"{low}..{high}" for low, high in dict.fromkeys(limits))
        return CommandResult(text=f"tunnels {text}")

    def _find(self, name: TunnelId) -> tuple[SimulatedRule, Tunnel]:
        for rule in self._rules:
            if name in rule.tunnels:
                return rule, rule.find(name)
        raise CommandRefused(f"there is no tunnel {name}")

    def _find_taker(self, name: TunnelId) -> tuple[SimulatedRule, Tunnel]:
        rule, tunnel = self._find(name)
        if tunnel.draining:
            raise CommandRefused(f"tunnel {name} is draining and takes no flows")
        return rule, tunnel

    # ---- flows ----------------------------------------------------------------------------------

    def _move(self, command: cmd.MoveFlow) -> CommandResult:
        """Move flows; all of them, given a tunnel, means those of its rule."""
        selected = self._select(command.flows)
        if command.to is not None and cmd.ALL in command.flows:
            owner = self._find_taker(command.to)[0]
            selected = [(rule, rows) for rule, rows in selected if rule is owner]
        moves = [move for rule, rows in selected for move in self._plan(rule, rows, command.to)]
        for rule, rows, tunnel in moves:
            rule.move_flows(rows, tunnel, "requested")
        moved = sum(len(rows) for _, rows, _ in moves)
        return CommandResult(text=f"{counted(moved, 'flow')} moved", data={"flows": moved})

    def _plan(
        self, rule: SimulatedRule, rows: Rows, to: TunnelId | None
    ) -> list[tuple[SimulatedRule, Rows, Tunnel]]:
        slots = self._scene.flows.slot[rows]
        targets = {slot: self._destination(rule, slot, to) for slot in np.unique(slots).tolist()}
        return [
            (rule, rows[slots == slot], target) for slot, target in targets.items() if target.slot != slot
        ]

    def _destination(self, rule: SimulatedRule, slot: int, to: TunnelId | None) -> Tunnel:
        if to is not None:
            owner, tunnel = self._find_taker(to)
            if owner is not rule:
                raise CommandRefused(f"tunnel {to} belongs to rule {owner.id}, the flow to rule {rule.id}")
            return tunnel
        others = [each for each in rule.usable() if each.slot != slot and not each.draining]
        if not others:
            raise CommandRefused(f"rule {rule.id} has no other tunnel to move flows to")
        return min(others, key=lambda tunnel: (tunnel.health.grade, tunnel.flows))

    def _close_flows(self, command: cmd.CloseFlow) -> CommandResult:
        selected = self._select(command.flows)
        for rule, rows in selected:
            rule.tell_closed(rows, "closed on request")
        self._scene.flows.close(np.concatenate([rows for _, rows in selected]))
        closed = sum(len(rows) for _, rows in selected)
        return CommandResult(text=f"{counted(closed, 'flow')} closed", data={"flows": closed})

    def _select(self, wanted: tuple[FlowId, ...]) -> list[tuple[SimulatedRule, Rows]]:
        """Rules with the rows meant; refuses when none exists."""
        flows = self._scene.flows
        everything = cmd.ALL in wanted
        rows = np.arange(len(flows)) if everything else flows.rows_of(_numbers(wanted))
        if not len(rows):
            raise CommandRefused(
                "there are no flows" if everything else f"there is no flow {', '.join(wanted)}"
            )
        selected = [(rule, rows[flows.rule[rows] == rule.index]) for rule in self._rules]
        return [(rule, mine) for rule, mine in selected if len(mine)]

    # ---- rules ----------------------------------------------------------------------------------

    def _pause(self, command: cmd.PauseRule | cmd.ResumeRule) -> CommandResult:
        paused = isinstance(command, cmd.PauseRule)
        (rule,) = self._rules_named(command.rule)
        if rule.paused is paused:
            raise CommandRefused(f"rule {rule.id} is {'paused already' if paused else 'not paused'}")
        rule.pause(paused=paused)
        return CommandResult(text=f"rule {rule.id} {'paused' if paused else 'resumed'}")

    def _rules_named(self, rule_id: RuleId | None) -> list[SimulatedRule]:
        rules = [rule for rule in self._rules if rule_id in (None, rule.id)]
        if not rules:
            known = ", ".join(rule.id for rule in self._rules)
            raise CommandRefused(f"there is no rule {rule_id}; known: {known}")
        return rules


def _numbers(ids: tuple[FlowId, ...]) -> NDArray[np.uint64]:
    return np.array([int(each, 16) for each in ids if _FLOW_ID.fullmatch(each)], np.uint64)


def _limits_of(rule: SimulatedRule, command: cmd.SetLimits) -> tuple[int, int]:
    """The limits of a rule as the command wants them. Raises CommandRefused."""
    low = rule.policy.min if command.min is None else command.min
    high = rule.policy.max if command.max is None else command.max
    if not 0 <= low <= high or high < 1:
        raise CommandRefused(f"limits {low}..{high} cannot be; accepted: 0 <= min <= max, max >= 1")
    return low, high
