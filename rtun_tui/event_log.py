"""What happened, as lines to read: similar events folded, some hidden, and a window on the newest. Pure.

Folding is what keeps a flood readable. Events of flows, which come in thousands, fold with the last
one of their kind within seconds, whatever came between. All others fold only with their predecessor:
of `degraded`, `recovered`, `degraded` the order is the message.

Adding costs the same for each event however many are kept, and reading costs the lines that are seen.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from itertools import islice

from rtun_core.event import Event, Level, Stamped
from rtun_core.events import FlowClosed, FlowMoved, FlowOpened, Notice
from rtun_core.view.cells import visible

LIMIT = 5_000  # lines, and events behind them
FOLD_GAP = 10.0  # seconds between two events that fold
FOLD_SPAN = 60.0  # seconds that a line may grow
FLOW_SPAN = 5.0  # the same for events of flows, whose lines grow while others come below
WORDS = {Level.DEBUG: "DEBUG", Level.INFO: "INFO", Level.WARNING: "WARN", Level.ERROR: "ERROR"}

_FLOW_KEYS = 64  # kinds of flow events that can fold at the same time
_LONGEST = 2_000  # characters of an event's text that are kept
_NUMBER = re.compile(r"(?<![\w.:/])\d[\d.,]*")


class Entry:
    """A line: one event or several that are alike. `newest` is the one that is told."""

    __slots__ = ("_text", "count", "first_ts", "key", "level", "newest", "serial", "shown")

    def __init__(self, stamped: Stamped, key: Hashable, level: Level, serial: int, *, shown: bool) -> None:
        self.newest = stamped
        self.key = key
        self.level = level
        self.serial = serial
        self.shown = shown  # whether it passes the level and the search
        self.first_ts = stamped.ts
        self.count = 1
        self._text: str | None = None

    def fold(self, stamped: Stamped) -> None:
        """One more like this."""
        self.newest = stamped
        self.count += 1
        self._text = None

    @property
    def span(self) -> float:
        """Seconds from the first to the newest."""
        return max(0.0, self.newest.ts - self.first_ts)

    @property
    def topic(self) -> str:
        """What it is about: the first word of the event's type."""
        return topic_of(self.newest.event)

    @property
    def text(self) -> str:
        """One line that is safe to draw, without the topic in front."""
        if self._text is None:
            self._text = told(self.newest.event)
        return self._text


class EventLog:
    """The newest events. `rows` is the height of the window, which follows the newest while `tailing`."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.rows = 0
        self.level = Level.DEBUG
        self.search = ""
        self.tailing = True
        self.stamped: deque[Stamped] = deque(maxlen=limit)
        self._limit = limit
        self._entries: deque[Entry] = deque()
        self._shown: deque[Entry] = deque()
        self._gone = 0  # shown entries that left at the old end: the number of the first one that is there
        self._bottom = 0  # number after the last shown entry in the window, unless tailing
        self._serial = 0
        self._last: Entry | None = None
        self._flows: dict[Hashable, Entry] = {}

    def __len__(self) -> int:
        """Entries that pass the level and the search."""
        return len(self._shown)

    @property
    def total(self) -> int:
        """Entries, whether shown or not."""
        return len(self._entries)

    @property
    def newer(self) -> int:
        """Shown entries below the window."""
        return 0 if self.tailing else max(0, self._end - self._place())

    def add(self, events: Iterable[Stamped]) -> None:
        """Take what happened, oldest first."""
        for stamped in events:
            self.stamped.append(stamped)
            self._add(stamped)

    def narrow(self, *, level: Level, search: str) -> None:
        """Show only events from a level on that contain a text, case ignored; the window stays."""
        if (level, search) == (self.level, self.search):
            return
        at = self._serial_at_bottom()
        self.level, self.search = level, search
        for entry in self._entries:
            entry.shown = self._passes(entry.newest.event, entry.level)
        self._shown = deque(entry for entry in self._entries if entry.shown)
        self._gone = 0
        self._bottom = sum(entry.serial <= at for entry in self._shown)

    def window(self) -> list[Entry]:
        """The entries to be seen, oldest first, at most `rows`."""
        bottom = self._place() - self._gone
        return list(islice(self._shown, max(0, bottom - self.rows), bottom))

    def shown(self) -> Sequence[Entry]:
        """All entries that pass, oldest first."""
        return list(self._shown)

    def passing(self) -> list[Stamped]:
        """All single events that pass, oldest first, as far back as they are kept."""
        return [each for each in self.stamped if self._passes(each.event, each.event.severity)]

    def move(self, by: int) -> None:
        """The window down, or up when negative. At the newest it follows again."""
        self._bottom = self._place() + by
        self.tailing = False
        self._bottom = self._place()
        self.tailing = self._bottom >= self._end

    def home(self) -> None:
        """The oldest."""
        self.move(-len(self._shown))

    def end(self) -> None:
        """Follow the newest."""
        self.tailing = True

    # -- inside --------------------------------------------------------------------------------

    @property
    def _end(self) -> int:
        return self._gone + len(self._shown)

    def _place(self) -> int:
        """Number after the last entry in the window, which is full when there are enough entries."""
        if self.tailing:
            return self._end
        least = self._gone + min(self.rows, len(self._shown))
        return min(max(self._bottom, least), self._end)

    def _serial_at_bottom(self) -> int:
        bottom = self._place() - self._gone
        return self._shown[bottom - 1].serial if bottom > 0 else 0

    def _add(self, stamped: Stamped) -> None:
        event = stamped.event
        level = event.severity
        shown = self._passes(event, level)
        flow_key = _flow_key(event)
        if flow_key is None:
            key: Hashable = (type(event), level, _shape(event.text()))
            candidate, span = self._last, FOLD_SPAN
        else:
            key, candidate, span = flow_key, self._flows.get(flow_key), FLOW_SPAN
        if candidate is not None and candidate.shown == shown and self._alike(candidate, key, stamped, span):
            candidate.fold(stamped)
            return
        entry = self._append(Entry(stamped, key, level, self._serial + 1, shown=shown))
        if flow_key is None:
            self._last = entry
        else:
            self._remember(key, entry)

    def _alike(self, entry: Entry, key: Hashable, stamped: Stamped, span: float) -> bool:
        return (
            entry.key == key
            and abs(stamped.ts - entry.newest.ts) <= FOLD_GAP
            and abs(stamped.ts - entry.first_ts) <= span
            and entry.serial > self._serial - len(self._entries)
        )

    def _append(self, entry: Entry) -> Entry:
        self._serial = entry.serial
        self._entries.append(entry)
        if entry.shown:
            self._shown.append(entry)
        if len(self._entries) > self._limit and self._entries.popleft().shown:
            self._shown.popleft()
            self._gone += 1
        return entry

    def _remember(self, key: Hashable, entry: Entry) -> None:
        self._flows.pop(key, None)
        self._flows[key] = entry
        if len(self._flows) > _FLOW_KEYS:
            del self._flows[next(iter(self._flows))]

    def _passes(self, event: Event, level: Level) -> bool:
        if level < self.level:
            return False
        if not self.search:
            return True
        return self.search.casefold() in f"{WORDS[level]} {topic_of(event)} {told(event)}".casefold()


def topic_of(event: Event) -> str:
    """The first word of an event's type; a notice names its own."""
    if isinstance(event, Notice):
        return visible(event.topic[:_LONGEST])
    return _topic(type(event))


def told(event: Event) -> str:
    """An event's text in one line, without control characters and without the topic in front."""
    text = visible(event.text()[:_LONGEST])
    topic = topic_of(event)
    return text[len(topic) + 1 :] if topic and text.startswith(f"{topic} ") else text


@lru_cache(maxsize=128)
def _topic(kind: type[Event]) -> str:
    return str(kind.__struct_config__.tag).partition(".")[0]


def _flow_key(event: Event) -> Hashable | None:
    """What events of flows have in common; None for all others."""
    if isinstance(event, FlowOpened):
        return FlowOpened, event.rule
    if isinstance(event, FlowClosed):
        return FlowClosed, event.reason
    if isinstance(event, FlowMoved):
        return FlowMoved, event.old, event.new, event.reason
    return None


@lru_cache(maxsize=256)
def _shape(text: str) -> str:
    """A text without its numbers; `t4` and addresses are names, not numbers.

    >>> _shape("tunnel t4 degraded: loss 4.2%, rtt 96 ms")
    'tunnel t4 degraded: loss #%, rtt # ms'
    """
    return _NUMBER.sub("#", text[:_LONGEST])
