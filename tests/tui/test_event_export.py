"""Events in files."""

from __future__ import annotations

import csv
import json

from rtun_core.event import Level, Stamped
from rtun_core.events import FlowOpened, Notice
from rtun_core.view.units import Look
from rtun_tui.event_export import COLUMNS, export_events
from rtun_tui.event_log import EventLog


def log():
    made = EventLog()
    made.add(
        [
            Stamped(1, 1000.0, 0.0, Notice(topic="=cmd", message="=1+1, from 10.1.2.3")),
            Stamped(2, 1001.0, 1.0, FlowOpened(flow="1", rule="r", source="s", target="t", tunnel=None)),
            Stamped(3, 1002.0, 2.0, FlowOpened(flow="2", rule="r", source="s", target="t", tunnel=None)),
        ]
    )
    return made


def test_csv_has_the_lines_and_no_formula():
    head, first, second = csv.reader(export_events("csv", log(), Look()).splitlines())
    assert tuple(head) == COLUMNS
    assert first[1:5] == ["WARN", "'=cmd", "'=1+1, from 10.1.2.3", "1"]
    assert second[4:] == ["2", "1970-01-01T00:16:41.000Z"]


def test_ndjson_has_the_single_events():
    records = [json.loads(line) for line in export_events("ndjson", log(), Look()).splitlines()]
    assert [record["seq"] for record in records] == [1, 2, 3]
    assert records[1]["type"] == "flow.opened"


def test_text_has_whole_lines():
    lines = export_events("txt", log(), Look()).splitlines()
    assert lines[0].endswith("WARN  =cmd =1+1, from 10.1.2.3")
    assert lines[1].endswith("[2 like this in 1 s]")


def test_only_what_passes_is_written_and_private_stays_private():
    narrow = log()
    narrow.narrow(level=Level.WARNING, search="")
    for form in ("csv", "ndjson", "txt"):
        text = export_events(form, narrow, Look(private=True))
        assert "flow" not in text
        assert "10.1.*.*" in text
        assert "10.1.2.3" not in text
