"""A line of the event list: time, how loud, what about, the text, and how many there were like it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import Final

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from rtun_core.event import Level, rfc3339
from rtun_core.view.units import Look, count_text, masked_text
from rtun_tui.draw.frame import Brush, cut
from rtun_tui.draw.table import fit
from rtun_tui.event_log import WORDS, Entry

ROLES: Final = {
    Level.DEBUG: "event-debug",
    Level.INFO: "event-info",
    Level.WARNING: "event-warn",
    Level.ERROR: "event-error",
}

_WORD, _TOPIC = 5, 7  # cells
_TOPIC_FROM: Final = 90  # cells of a line from which on the topic has a column
_LONG_NOTE_FROM: Final = 70  # and from which on folding is told in words
_TEXT: Final = 12  # cells of text without which no note is drawn


def event_strip(
    entry: Entry,
    width: int,
    brush: Brush,
    look: Look,
    *,
    search: str = "",
    zone: tzinfo | None = None,
) -> Strip:
    """One line. The time is local unless a `zone` is given; `search` is marked where it is found."""
    palette = brush.palette
    style = palette.style(ROLES[entry.level])
    topic = f"{fit(entry.topic, _TOPIC, brush.ellipsis)} " if width >= _TOPIC_FROM else ""
    head = f"{WORDS[entry.level]:<{_WORD}} {topic}"
    clock = f"{clock_text(entry.first_ts, zone)} "  # of the first of them, so that times ascend
    room = width - len(clock) - cell_len(head)
    note = fold_note(entry, short=width < _LONG_NOTE_FROM)
    if room - len(note) - 2 < _TEXT:
        note = ""
    text = cut(event_text(entry, look), room - (len(note) + 1 if note else 0), brush.ellipsis)
    pieces = [Segment(clock, palette.style("event-time")), Segment(head, style)]
    pieces += _marked(text, search, style, style + palette.style("match"))
    if note:
        space = " " * (room - cell_len(text) - len(note))
        pieces.append(Segment(space + note, palette.style("muted")))
    return Strip(pieces).adjust_cell_length(max(0, width))


def event_text(entry: Entry, look: Look) -> str:
    """The text as it may be shown: in private without whole addresses."""
    return masked_text(entry.text) if look.private else entry.text


def event_line(entry: Entry, look: Look) -> str:
    """The whole line as plain text, for files and the clipboard: UTC, nothing cut."""
    note = fold_note(entry)
    text = f"{rfc3339(entry.first_ts)} {WORDS[entry.level]:<{_WORD}} {entry.topic} {event_text(entry, look)}"
    return f"{text} {note}" if note else text


def fold_note(entry: Entry, *, short: bool = False) -> str:
    """`[12 like this in 3 s]`, or `[x12]`; empty for a single event."""
    if entry.count == 1:
        return ""
    count = count_text(entry.count)
    return f"[x{count}]" if short else f"[{count} like this in {max(1, round(entry.span))} s]"


def clock_text(ts: float, zone: tzinfo | None = None) -> str:
    """`14:02:12`; dashes for a time that no clock shows."""
    try:
        return datetime.fromtimestamp(ts, zone).strftime("%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "--:--:--"


def _marked(text: str, search: str, style: Style, match: Style) -> Iterator[Segment]:
    """The text with what was searched for in another style."""
    if not search:
        yield Segment(text, style)
        return
    at = 0
    for found in re.finditer(re.escape(search), text, re.IGNORECASE):
        if found.start() > at:
            yield Segment(text[at : found.start()], style)
        yield Segment(found[0], match)
        at = found.end()
    if at < len(text):
        yield Segment(text[at:], style)
