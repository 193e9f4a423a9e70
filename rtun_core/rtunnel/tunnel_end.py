"""What both ends of an RTunnel have in common as services of the engine."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from rtun_core.bus import EventBus
from rtun_core.commands import Command, CommandResult
from rtun_core.events import Notice
from rtun_core.model import ServiceSnapshot, SignalView
from rtun_core.net.tasks import TaskOwner
from rtun_core.rtunnel.book import Book
from rtun_core.rtunnel.carrier import Carrier
from rtun_core.rtunnel.command_handler import HANDLED, Commands
from rtun_core.rtunnel.view import View
from rtun_core.wire.address import Address
from rtun_core.wire.rtunnel_terms import Role, SessionConfig


class TunnelEnd(ABC):
    """The sessions of one end, and the part of the engine's Service protocol that is the same for both.

    An end adds `start`, `stop`, and `probe` for the command of that name. `on_finished` gets each session
    that is over, `target` is what the table of rules shows.
    """

    name: str

    def __init__(
        self,
        role: Role,
        bus: EventBus,
        *,
        target: str,
        idle_timeout: float | None,
        settings: SessionConfig | None,
        on_finished: Callable[[Carrier], None],
    ) -> None:
        self.paused = False
        self._bus = bus
        self._tasks = TaskOwner(self.name, self._task_failed)
        self.book = Book(
            role,
            bus,
            self._tasks,
            idle_timeout=idle_timeout,
            settings=settings or SessionConfig(),
            on_finished=on_finished,
        )
        self._commands = Commands(self.book, self)
        self._view = View(self.book, service=self.name, listen="", target=target)
        self._signal: SignalView | None = None
        self._address: Address | None = None
        self._ended: asyncio.Future[str] | None = None

    @property
    def address(self) -> Address:
        """Where it listens, with the real port; after `start`."""
        assert self._address is not None, "started before it is asked"
        return self._address

    async def wait(self) -> str:
        """Never ends by itself."""
        assert self._ended is not None, "started before waited for"
        return await asyncio.shield(self._ended)

    def snapshot(self, *, flows: bool = True) -> ServiceSnapshot:
        """The picture right now."""
        return self._view.snapshot(paused=self.paused, flows=flows, signal=self._signal)

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """Drops and faults by reason."""
        return dict(self.book.drops), self.book.faults()

    def handles(self, command: Command) -> bool:
        """Whether this is one of the tunnel's commands."""
        return isinstance(command, HANDLED)

    async def handle(self, command: Command) -> CommandResult:
        """Carry out a command. Raises CommandRefused."""
        return await self._commands.handle(command)

    def pause(self, *, paused: bool) -> None:
        """Turn new sessions away, or take them again."""
        self.paused = paused

    @abstractmethod
    async def probe(self, carrier: Carrier | None, timeout: float) -> float:
        """Seconds of a round trip to the other end. Raises OSError or RtunError."""

    def _task_failed(self, name: str, error: BaseException) -> None:
        """A bug of ours: it ends one session, not the service."""
        self._bus.emit(Notice(topic="bug", message=f"{name} failed: {type(error).__name__}: {error}"))
