"""A source without threads or a clock of its own: for pictures of the console and for its tests.

A simulated relay is moved forward by whoever holds it, so that the same seed and the same steps give the
same screen, cell by cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rtun_core.bus import EventBus
from rtun_core.commands import Command, CommandResult, told
from rtun_core.engine.simulated import SimulatedWorld
from rtun_core.engine.source import Parting, Picture, SourceStatus
from rtun_core.errors import CommandRefused
from rtun_core.event import Event, Stamped
from rtun_core.events import CommandDone, CommandWasRefused
from rtun_core.model import Snapshot
from rtun_core.view.history import History
from rtun_core.view.page import Page, ViewSpec
from rtun_core.view.project import project, select_keys

STEP = 0.25  # seconds


class StillSource:
    """Looks at a world that stands still between two calls of `advance`."""

    title = "relay"
    waiting = False

    def __init__(self, world: SimulatedWorld, *, past: float = 300.0) -> None:
        """`past`: seconds that are played first, so that plots and events have something to show."""
        self.world = world
        self.status = SourceStatus("LIVE")
        self.refusal = ""
        self.executed: list[Command] = []
        self._bus = EventBus(wall=lambda: world.now, mono=lambda: world.now)
        self._events = self._bus.subscribe(4096)
        self._history = History()
        self._held: Snapshot | None = None
        for snapshot in world.run_up(past):
            self._history.observe(snapshot)
            self._tell(world.take_events())
        self._snapshot = world.picture()

    def advance(self, seconds: float) -> None:
        """Let time go on."""
        for step in range(1, round(seconds / STEP) + 1):
            self.world.advance(STEP)
            self._tell(self.world.take_events())
            if step % round(1 / STEP) == 0:
                self._history.observe(self.world.picture(flows=False))
        self._snapshot = self.world.picture()

    def look(self, specs: Sequence[ViewSpec]) -> Picture | None:
        """The picture of this moment."""
        snapshot = self._held or self._snapshot
        return Picture(
            snapshot=snapshot,
            pages={spec.table: project(snapshot, spec) for spec in specs},
            history=self._history.picture(),
        )

    async def page(self, spec: ViewSpec) -> Page:
        """One page of the picture that is looked at."""
        return project(self._held or self._snapshot, spec)

    def hold(self, *, on: bool) -> None:
        """Freeze the view; the world may go on."""
        self._held = self._snapshot if on else None

    def select(self, spec: ViewSpec) -> list[str] | None:
        """Keys of all rows that pass."""
        return select_keys(
            self._held or self._snapshot, spec.table, spec.filter, spec.marks, dict(spec.named)
        )

    def events(self) -> list[Stamped]:
        """What happened since the last call."""
        return self._events.drain()

    async def start(self) -> None:
        """There is nothing to begin."""

    async def execute(self, command: Command) -> CommandResult:
        """Play the world until the command is answered."""
        self.executed.append(command)
        try:
            result = self.world.handle(command)
        except CommandRefused as refused:
            self._tell([CommandWasRefused(who="console", command=told(command), reason=str(refused))])
            raise
        finally:
            self._tell(self.world.take_events())
            self._snapshot = self.world.picture()
        self._tell([CommandDone(who="console", command=told(command), result=result.text)])
        return result

    def watch(self, call: Callable[[], None]) -> None:
        """A look is answered at once: nothing is waited for."""

    def pace(self, seconds: float) -> None:
        """A picture is made when it is looked at."""

    async def close(self, parting: Parting = Parting.CLOSED) -> None:
        """There is nothing to let go of."""

    def _tell(self, events: Sequence[Event]) -> None:
        for event in events:
            self._bus.emit(event)
