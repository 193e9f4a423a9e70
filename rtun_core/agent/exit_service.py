"""The exit that is built into a signalling server, as a service of its own."""

from __future__ import annotations

import asyncio

from rtun_core.agent.control import AgentControl
from rtun_core.agent.exit_commands import carry_out, is_known
from rtun_core.commands import Command, CommandResult
from rtun_core.model import ServiceSnapshot


class ExitService:
    """Keeps an `AgentControl` that somebody else gives requests to, and shows what it does."""

    name: str = "exit"

    def __init__(self, control: AgentControl) -> None:
        self._control = control

    async def start(self) -> None:
        """Begin to tick."""
        self._control.start()

    async def wait(self) -> str:
        """Wait for ever: an exit does not end by itself."""
        await asyncio.Event().wait()
        raise AssertionError("nobody sets the event")

    async def stop(self, *, drain: bool) -> None:
        """Close tunnels and flows; relays see silence either way, so there is nothing to drain."""
        await self._control.close()

    def snapshot(self, *, flows: bool = True) -> ServiceSnapshot:
        """The picture right now."""
        drops, faults = self.counters()
        return ServiceSnapshot(
            service=self.name,
            tunnels=self._control.tunnels(),
            flows=self._control.flows() if flows else (),
            traffic=self._control.traffic(),
            drops=drops,
            faults=faults,
        )

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """Drops and faults by reason since the start."""
        return self._control.counters()

    def handles(self, command: Command) -> bool:
        """Whether `handle` knows this kind of command."""
        return is_known(command)

    async def handle(self, command: Command) -> CommandResult:
        """Carry out a command. Raises CommandRefused."""
        return carry_out(self._control, command)
