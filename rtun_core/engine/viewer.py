"""One remote viewer as the engine sees it: what it looks at, what it was told, what it is owed. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from rtun_core.engine.event_inbox import EventInbox
from rtun_core.engine.picture_delta import PictureWriter, Shot
from rtun_core.engine.view_messages import (
    MAX_EVENTS,
    Ask,
    SpecError,
    ViewRequest,
    answer_message,
    error_message,
    events_message,
    history_message,
)
from rtun_core.errors import RemoteProtocolError, UsageError
from rtun_core.event import Stamped
from rtun_core.model import Snapshot
from rtun_core.view.columns import TableId
from rtun_core.view.history import HistoryPicture
from rtun_core.view.history_tail import newest
from rtun_core.view.page import Page, ViewSpec
from rtun_core.view.project import cut_out, project

INTERVAL = 1.0  # seconds between two pictures unless the viewer says something else
MAX_OWED = 16  # pages that were asked for and not sent yet

# A look that changes between two pictures is answered from the picture before: where the cursor's row
# stands cannot change by that, so a viewer that follows a row asks twice, never for ever.


class Viewer:
    """Gives the messages that a viewer is owed at a time `now` (monotonic seconds).

    `snapshot(age)` is a picture at most `age` seconds old, `history()` the newest history.
    """

    def __init__(self, snapshot: Callable[[float], Snapshot], history: Callable[[], HistoryPicture]) -> None:
        self._take_snapshot = snapshot
        self._history = history
        self._interval = INTERVAL
        self._look_asked: tuple[ViewSpec, ...] | None = None
        self._specs: dict[TableId, ViewSpec] | None = None  # what is in force
        self._good: dict[TableId, ViewSpec] = {}
        self._turn = 0
        self._changed = False
        self._writer = PictureWriter("rows")
        self._asks: list[Ask] = []
        self._events = EventInbox()
        self._snapshot: Snapshot | None = None
        self._holds = False
        self._held: Snapshot | None = None
        self._samples = 0
        self._beat_at = 0.0

    @property
    def due_at(self) -> float:
        """When there is something to say even if nothing is asked."""
        return self._beat_at

    @property
    def backlog(self) -> int:
        """Events that are still to be told."""
        return len(self._events)

    def tell(self, events: Iterable[Stamped]) -> None:
        """Owe it these events; when it is owed too many, the oldest are lost and it is told how many."""
        for stamped in events:
            self._events.put(stamped)

    def take(self, request: ViewRequest) -> None:
        """What it wants from now on. Raises RemoteProtocolError when it asks for too much at once."""
        if request.interval is not None and request.interval != self._interval:
            self._beat_at += request.interval - self._interval
            self._interval = request.interval
        if request.form is not None:
            self._writer = PictureWriter(request.form)
        self._changed = self._changed or request.key
        if request.look is not None:
            self._look(request.look, request.turn)
        if request.hold is not None:
            self._hold(on=request.hold)
        self._asks += request.ask
        if len(self._asks) > MAX_OWED:
            raise RemoteProtocolError(f"more than {MAX_OWED} pages asked for at once", reason="view")

    def messages(self, now: float) -> list[str]:
        """Everything that it is owed, but of events only the next MAX_EVENTS."""
        beat = now >= self._beat_at
        if beat:
            self._beat_at = now + self._interval
        parts = [*self._next_events(), *self._next_samples(), *self._answers()]
        if self._specs is not None and (self._changed or (beat and not self._holds)):
            parts += self._picture(self._specs, fresh=beat)
        return parts

    def _look(self, asked: tuple[ViewSpec, ...], turn: int) -> None:
        if turn != self._turn or asked != self._look_asked:
            self._look_asked, self._turn, self._changed = asked, turn, True
            self._specs = {spec.table: spec for spec in asked}

    def _hold(self, *, on: bool) -> None:
        if on != self._holds:
            self._holds, self._held, self._changed = on, None, True

    def _next_events(self) -> Iterator[str]:
        if self._events:
            yield events_message(self._events.drain(MAX_EVENTS))

    def _next_samples(self) -> Iterator[str]:
        history = self._history()
        if self._specs is not None and history.count != self._samples:
            yield history_message(newest(history, history.count - self._samples))
            self._samples = history.count

    def _answers(self) -> Iterator[str]:
        asks, self._asks = self._asks, []
        for ask in asks:
            try:
                answer: Page | SpecError = project(self._current(fresh=False), ask.spec)
            except UsageError as error:
                answer = _spec_error(ask.spec, error)
            yield answer_message(ask.number, answer)

    def _picture(self, specs: dict[TableId, ViewSpec], *, fresh: bool) -> Iterator[str]:
        begin = time.thread_time()
        snapshot = self._current(fresh=fresh)
        pages: dict[TableId, Page] = {}
        for table, spec in tuple(specs.items()):
            try:
                pages[table] = cut_out(snapshot, spec)
            except UsageError as error:
                yield error_message(_spec_error(spec, error))
                specs[table] = self._good.get(table) or _plain(spec)
                pages[table] = cut_out(snapshot, specs[table])
            self._good[table] = specs[table]
        whole, self._changed = self._changed, False
        shot = Shot(snapshot, pages, self._turn, self._holds, time.thread_time() - begin)
        yield self._writer.write(shot, whole=whole)

    def _current(self, *, fresh: bool) -> Snapshot:
        if self._held is not None:
            return self._held
        if fresh or self._snapshot is None:
            # Viewers share a picture that is recent enough for each of them.
            self._snapshot = self._take_snapshot(self._interval / 2)
        self._held = self._snapshot if self._holds else None
        return self._snapshot


def _plain(spec: ViewSpec) -> ViewSpec:
    return ViewSpec(table=spec.table, offset=spec.offset, limit=spec.limit)


def _spec_error(spec: ViewSpec, error: UsageError) -> SpecError:
    return SpecError(table=spec.table, text=str(error), column=getattr(error, "column", None))
