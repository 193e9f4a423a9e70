"""Events as a file: single events as NDJSON, the lines of the list as CSV or plain text. Pure."""

from __future__ import annotations

import csv
import io

from rtun_core.event import event_json, rfc3339
from rtun_core.view.units import Look, masked_text
from rtun_tui.draw.events import event_line, event_text
from rtun_tui.event_log import WORDS, EventLog

COLUMNS = ("ts", "level", "topic", "text", "count", "first_ts")
_FORMULA = ("=", "+", "-", "@", "\t")  # what a spreadsheet would compute


def export_events(form: str, log: EventLog, look: Look) -> str:
    """What passes the level and the search, oldest first; `form` is csv, ndjson or txt."""
    if form == "ndjson":
        records = "".join(event_json(each).decode() + "\n" for each in log.passing())
        return masked_text(records) if look.private else records
    if form == "csv":
        return _csv(log, look)
    return "".join(event_line(entry, look) + "\n" for entry in log.shown())


def _csv(log: EventLog, look: Look) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in log.shown():
        told = (WORDS[entry.level], _harmless(entry.topic), _harmless(event_text(entry, look)))
        writer.writerow((rfc3339(entry.newest.ts), *told, entry.count, rfc3339(entry.first_ts)))
    return out.getvalue()


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
