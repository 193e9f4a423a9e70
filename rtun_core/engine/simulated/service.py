"""The simulated relay as a service of the engine, in real time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

from rtun_core.bus import EventBus
from rtun_core.commands import Command, CommandResult
from rtun_core.engine.simulated.world import STEP, SimulatedWorld
from rtun_core.model import ServiceSnapshot, Snapshot
from rtun_core.net.tasks import TaskOwner

MOST_STEPS = 8  # made up for at once; a world that is further behind catches up bit by bit


class SimulatedService:
    """Plays a world on the engine's loop; implements the engine's Service protocol.

    `seconds` None plays until stopped. `past` is how many seconds before its start are made up as well, for
    the plots; what happened then is not told.
    """

    name = "relay"

    def __init__(
        self,
        world: SimulatedWorld,
        bus: EventBus,
        *,
        seconds: float | None = None,
        past: float = 0.0,
        mono: Callable[[], float] = time.monotonic,
    ) -> None:
        self.world = world
        self._bus = bus
        self.seconds = seconds
        self._past = past
        self._mono = mono
        self._ended: asyncio.Future[str] | None = None
        self._tasks = TaskOwner("simulated relay", self._task_failed)

    def past(self) -> Iterator[Snapshot]:
        """The time that leads to the opening scene."""
        yield from self.world.run_up(self._past)
        self.world.take_events()

    async def start(self) -> None:
        """Begin to play."""
        self._ended = asyncio.get_running_loop().create_future()
        for event in self.world.listening():
            self._bus.emit(event)
        self._tasks.spawn(self._play(), "play")

    async def wait(self) -> str:
        """Ends when the time to play is over, else never."""
        assert self._ended is not None, "started before waited for"
        return await self._ended

    async def stop(self, *, drain: bool) -> None:
        """Stop playing; there is nothing to drain."""
        await self._tasks.close()

    def snapshot(self, *, flows: bool = True) -> ServiceSnapshot:
        """The picture right now, without the flows if they are not wanted."""
        return self.world.snapshot(flows=flows)

    def counters(self) -> tuple[dict[str, int], dict[str, int]]:
        """Drops and faults by reason."""
        return self.world.counters()

    def handles(self, command: Command) -> bool:
        """Whether this is one of the relay's commands."""
        return self.world.handles(command)

    async def handle(self, command: Command) -> CommandResult:
        """Carry out a command, for as long as it takes. Raises CommandRefused."""
        answer = self.world.begin(command)
        self._tell()
        known = asyncio.Event()
        answer.when_given(known.set)
        await known.wait()
        return answer.result()

    async def _play(self) -> None:
        begun, played = self._mono(), 0
        while self.seconds is None or played * STEP < self.seconds:
            await asyncio.sleep(max(0.0, begun + (played + 1) * STEP - self._mono()))
            due = int((self._mono() - begun) / STEP) - played
            for _ in range(min(due, MOST_STEPS)):
                self.world.advance(STEP)
                played += 1
            self._tell()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result("the simulation is over")

    def _tell(self) -> None:
        for event in self.world.take_events():
            self._bus.emit(event)

    def _task_failed(self, name: str, error: BaseException) -> None:
        """Playing must not fail; when it does, the run ends loudly."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)
