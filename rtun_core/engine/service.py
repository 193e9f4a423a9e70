"""The small protocol between the engine and a service; a new tunnel family implements this."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from rtun_core.commands import Command, CommandResult
from rtun_core.model import ServiceSnapshot, Snapshot


class CommandHandler(Protocol):
    """Something that carries out commands, on the engine's loop."""

    def handles(self, command: Command) -> bool:
        """Whether `handle` knows this kind of command."""

    async def handle(self, command: Command) -> CommandResult:
        """Carry out a command. Raises CommandRefused with the reason."""


class Service(CommandHandler, Protocol):
    """Something the engine runs: relay, agent, signalling server, another tunnel family.

    Every method is called on the engine's loop. Events go to the bus that the service was built with.
    """

    name: str

    async def start(self) -> None:
        """Open sockets and begin. Raises BindError, UsageError or RtunError; then nothing is left open."""

    async def wait(self) -> str:
        """Return the reason when the service ended by itself; services that never do wait for ever."""

    async def stop(self, *, drain: bool) -> None:
        """Close everything; with `drain`, first give what is on its way a short, bounded time."""

    def snapshot(self, *, flows: bool = True) -> ServiceSnapshot:
        """The picture right now, without the flows if they are not wanted."""

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """Total drops and faults by reason: the cheap part of a snapshot, asked once a second."""


@runtime_checkable
class HasPast(Service, Protocol):
    """A service that knows what came before its start: one that is made up."""

    def past(self) -> Iterable[Snapshot]:
        """Pictures without flows, one a second, that lead to its start. Asked once, before that."""
