"""The line of keys."""

from __future__ import annotations

import pytest

from rtun_tui.draw.footer import fitting, hints_strip, message_strip
from rtun_tui.draw.frame import Brush
from rtun_tui.palette import MONO, Palette

BRUSH = Brush(MONO)
HINTS = [("?", "help", True), ("/", "filter", True), ("x", "drain", False), ("q", "quit", True)]


def test_hints_in_their_order():
    assert hints_strip(HINTS, 50, BRUSH).text.rstrip() == " ? help  / filter  (x drain)  q quit"


def test_where_there_is_no_room_the_last_hint_stays():
    assert [key for key, _, _ in fitting(HINTS, 30)] == ["?", "/", "q"]
    assert [key for key, _, _ in fitting(HINTS, 16)] == ["?", "q"]
    assert [key for key, _, _ in fitting(HINTS, 8)] == ["q"]
    assert fitting(HINTS, 6) == []
    assert fitting([], 80) == []


@pytest.mark.parametrize("width", range(0, 60, 3))
def test_a_line_has_its_width(width):
    assert hints_strip(HINTS, width, BRUSH).cell_length == width
    assert message_strip("it cannot be done " * 9, "error", width, BRUSH).cell_length == width


def test_with_colours_a_key_that_is_off_needs_no_brackets():
    colours = Palette("test", dark=True, colour=True, styles=MONO.styles)
    strip = hints_strip(HINTS, 60, Brush(colours))
    assert "(" not in strip.text
    assert next(segment for segment in strip if segment.text == "x").style == MONO.style("key-off")


def test_a_message_is_visible_and_cut():
    assert message_strip("no\x1b[2J rows", "error", 9, BRUSH).text == " no[2J r…"
    assert message_strip("no rows", "error", 9, BRUSH)._segments[0].style == MONO.style("error")
