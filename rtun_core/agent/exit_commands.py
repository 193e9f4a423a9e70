"""The commands that an exit can carry out: closing what it has. Moving flows is the relay's business."""

from __future__ import annotations

from typing import assert_never

from rtun_core.agent.control import AgentControl
from rtun_core.commands import ALL, CloseFlow, CloseTunnel, Command, CommandResult, DrainTunnel
from rtun_core.errors import CommandRefused
from rtun_core.model import FlowId

Known = DrainTunnel | CloseTunnel | CloseFlow


def is_known(command: Command) -> bool:
    """Whether `carry_out` knows this kind of command."""
    return isinstance(command, Known)


def carry_out(control: AgentControl, command: Command) -> CommandResult:
    """Carry out a command. Raises CommandRefused with the reason."""
    if not isinstance(command, Known):
        raise CommandRefused(f"an agent cannot carry out {' '.join(command.words)}")
    return CommandResult(text=_text(control, command))


def _text(control: AgentControl, command: Known) -> str:
    if isinstance(command, DrainTunnel):
        return control.drain_tunnel(command.tunnel)
    if isinstance(command, CloseTunnel):
        return control.close_tunnel(command.tunnel)
    if isinstance(command, CloseFlow):
        return control.close_flows(None if ALL in command.flows else frozenset(map(_plain_id, command.flows)))
    assert_never(command)


def _plain_id(text: FlowId) -> FlowId:
    """A flow id in the spelling of the tables, however the user wrote it."""
    try:
        return FlowId(f"{int(text, 16):08x}")
    except ValueError:
        raise CommandRefused(f"{text!r} is not a flow id; accepted: hexadecimal digits, or {ALL}") from None
