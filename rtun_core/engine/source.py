"""What a console looks at: the engine in this process, one behind a control socket, or a recording."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from rtun_core.commands import Command, CommandResult
from rtun_core.event import Stamped
from rtun_core.model import Snapshot
from rtun_core.view.columns import TableId
from rtun_core.view.history import HistoryPicture
from rtun_core.view.page import Page, ViewSpec


class Parting(enum.Enum):
    """Why a console looks no more, as far as the engine is told. The value is how it says so."""

    CLOSED = "closed by its user"
    LOST = "the terminal is gone"
    FAILED = "the console failed"


class SourceStatus(NamedTuple):
    """How the source is: `word` is LIVE, LOST, REPLAY or ENDED; `since` Unix seconds."""

    word: str
    detail: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Picture:
    """One look: the snapshot without its flows, the page of every table that was asked for, the history.

    `costs` are how many seconds of CPU each page took, where it was made here.
    """

    snapshot: Snapshot
    pages: Mapping[TableId, Page]
    history: HistoryPicture
    costs: Mapping[TableId, float] = field(default_factory=dict)


def looked_up(
    specs: Sequence[ViewSpec], page: Callable[[ViewSpec], Page]
) -> tuple[dict[TableId, Page], dict[TableId, float]]:
    """The page of each spec, and the seconds of CPU that it took."""
    pages, costs = {}, {}
    for spec in specs:
        begin = time.thread_time()
        pages[spec.table] = page(spec)
        costs[spec.table] = time.thread_time() - begin
    return pages, costs


class Source(Protocol):
    """Everything that the console needs of the engine. All methods are called on the console's thread."""

    @property
    def title(self) -> str:
        """What is looked at, for the header: `relay`, `attached 4711`, a file's name."""

    @property
    def status(self) -> SourceStatus:
        """How the source is right now."""

    @property
    def refusal(self) -> str:
        """Why no command can be executed here; empty when they can."""

    @property
    def waiting(self) -> bool:
        """Whether the pages of the last look are still those of specs before."""

    def look(self, specs: Sequence[ViewSpec]) -> Picture | None:
        """The newest picture with these pages; None before the first. Never blocks.

        Where the engine is elsewhere, the pages are those of the specs before until the new ones are here.
        Raises UsageError (FilterError) for a spec that cannot be answered.
        """

    async def page(self, spec: ViewSpec) -> Page:
        """One page of the picture that is looked at, for other uses than the screen: an export.

        Raises UsageError for a spec that cannot be answered, RtunError when there is no answer.
        """

    def hold(self, *, on: bool) -> None:
        """While on, looks are answered from the picture of this moment; collection goes on behind it."""

    def select(self, spec: ViewSpec) -> list[str] | None:
        """Keys of all rows that pass the filter of `spec`; None where only the engine can tell."""

    def events(self) -> list[Stamped]:
        """What happened since the last call, oldest first. Never blocks."""

    async def execute(self, command: Command) -> CommandResult:
        """Have a command carried out. Raises CommandRefused or another RtunError with the reason."""

    def watch(self, call: Callable[[], None]) -> None:
        """Have `call` made, on the console's loop, when something that a look waited for is there."""

    def pace(self, seconds: float) -> None:
        """How often looks come: more pictures than that are not wanted."""

    async def start(self) -> None:
        """Begin, on the console's loop. Raises RtunError when there is nothing to look at."""

    async def close(self, parting: Parting = Parting.CLOSED) -> None:
        """Let go of it; the engine behind it goes on, and an engine elsewhere is told why."""


@runtime_checkable
class Playable(Protocol):
    """A source that can be moved in time: a recording."""

    def step(self, by: int) -> str:
        """Go some pictures forward, or back when negative; playing stops. What to tell the user."""

    def seek(self, where: str) -> str:
        """Go to `HH:MM:SS`, `+SECONDS`, `-SECONDS`, `start` or `end`. Raises UsageError."""

    def seek_event(self, by: int, text: str) -> str:
        """Go to the next or the previous event that passes a filter. Raises UsageError."""

    def play_at(self, factor: float) -> str:
        """Play that many times as fast as it happened. Raises UsageError."""
