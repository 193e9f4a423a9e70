"""Lines of the event list."""

from __future__ import annotations

from datetime import UTC

import pytest
from rich.cells import cell_len

from rtun_core.event import Stamped
from rtun_core.events import Notice, TunnelDegraded
from rtun_core.view.units import Look
from rtun_tui.draw.events import clock_text, event_line, event_strip, fold_note
from rtun_tui.draw.frame import Brush
from rtun_tui.event_log import EventLog
from rtun_tui.palette import MONO

BRUSH = Brush(MONO)
TS = 1_770_000_000.0  # 02:40:00 UTC


def entry(count=1, step=0.25, reason="loss 4.2%"):
    log = EventLog()
    event = TunnelDegraded(tunnel="t4", reason=reason)
    log.add(Stamped(1, TS + number * step, 0.0, event) for number in range(count))
    return log.shown()[0]


def text(each, width=100, look=None, **options):
    return event_strip(each, width, BRUSH, look or Look(), zone=UTC, **options).text


def test_a_line_says_when_how_loud_what_about_and_what():
    assert text(entry()).rstrip() == "02:40:00 WARN  tunnel  t4 degraded: loss 4.2%"


def test_folding_is_told_at_the_right_end():
    assert text(entry(12)).endswith(" [12 like this in 3 s]")
    assert text(entry(2, step=0.0)).endswith("[2 like this in 1 s]")
    assert text(entry(12), 60).endswith(" [x12]")
    assert "x12" not in text(entry(12), 30)


def test_a_narrow_line_has_no_topic():
    assert text(entry(), 80).rstrip() == "02:40:00 WARN  t4 degraded: loss 4.2%"


@pytest.mark.parametrize("width", [0, 1, 9, 15, 20, 40, 69, 70, 89, 90, 200])
@pytest.mark.parametrize("reason", ["loss", "x" * 300, "広い" * 100])
def test_a_line_has_its_width(width, reason):
    for count in (1, 3):
        strip = event_strip(entry(count, reason=reason), width, BRUSH, Look(), zone=UTC, search="x")
        assert strip.cell_length == cell_len(strip.text) == width


def test_ascii_stays_ascii():
    assert event_strip(entry(reason="x" * 300), 60, Brush(MONO, ascii=True), Look()).text.isascii()


def test_what_was_searched_for_is_marked():
    strip = event_strip(entry(reason="LOSS loss a.b"), 100, BRUSH, Look(), search="loss", zone=UTC)
    assert [segment.text for segment in strip if segment.style and segment.style.underline] == [
        "LOSS",
        "loss",
    ]
    plain = event_strip(entry(reason="axb"), 100, BRUSH, Look(), search="a.b", zone=UTC)
    assert not [segment for segment in plain if segment.style and segment.style.underline]


def test_levels_have_their_roles():
    strip = event_strip(entry(), 100, BRUSH, Look())
    word = next(segment for segment in strip if "WARN" in segment.text)
    assert word.style == MONO.style("event-warn")


def test_private_masks_addresses():
    log = EventLog()
    log.add([Stamped(1, TS, 0.0, Notice(topic="x", message="from 10.1.2.3:99"))])
    [each] = log.shown()
    assert "10.1.*.*:99" in text(each, look=Look(private=True))
    assert "10.1.2.3:99" in text(each)
    assert "10.1.*.*" in event_line(each, Look(private=True))


def test_a_line_for_a_file_is_whole_and_in_utc():
    assert event_line(entry(12), Look()) == (
        "2026-02-02T02:40:00.000Z WARN  tunnel t4 degraded: loss 4.2% [12 like this in 3 s]"
    )
    assert fold_note(entry()) == ""


def test_times_that_no_clock_shows():
    assert clock_text(1e300) == clock_text(float("nan")) == "--:--:--"
    assert clock_text(0, UTC) == "00:00:00"
