"""Frames: every line has its width, and the focus shows without colours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.strip import Strip

from rtun_tui.draw.frame import Brush, bottom_line, cut, rule_line, top_line, with_sides
from rtun_tui.palette import MONO

PLAIN = Brush(MONO)
FOCUSED = Brush(MONO, focused=True)
ASCII = Brush(MONO, ascii=True)
ASCII_FOCUSED = Brush(MONO, focused=True, ascii=True)


def test_a_box_without_the_focus_is_light():
    assert top_line(24, "3 Flows", "by dn v", PLAIN).text == "┌─ 3 Flows ── by dn v ─┐"
    assert bottom_line(10, "", "", PLAIN).text == "└────────┘"


def test_a_box_with_the_focus_is_heavy_and_its_title_is_reversed():
    line = top_line(24, "3 Flows", "by dn v", FOCUSED)
    assert line.text == "┏━ 3 Flows ━━ by dn v ━┓"
    [title] = [segment for segment in line if "Flows" in segment.text]
    assert title.style.reverse
    assert bottom_line(10, "", "", FOCUSED).text == "┗━━━━━━━━┛"


def test_ascii_tells_the_focus_by_its_characters_too():
    assert top_line(16, "Flows", "", ASCII).text == "+- Flows ------+"
    assert top_line(16, "Flows", "", ASCII_FOCUSED).text == "#= Flows ======#"


def test_the_note_is_cut_before_the_heading():
    assert top_line(24, "3 Flows", "filter: src:10.0.", PLAIN).text == "┌─ 3 Flows ─ filter:… ─┐"
    assert top_line(18, "3 Flows 212", "by dn v", PLAIN).text == "┌─ 3 Flows 212 ──┐"
    assert top_line(12, "3 Flows 212", "by dn v", PLAIN).text == "┌─ 3 Flo… ─┐"


def test_a_note_alone_stands_right():
    assert top_line(16, "", "note", PLAIN).text == "┌─────── note ─┐"


def test_lower_edge_with_notes():
    assert bottom_line(34, "4 more columns", "1-9 of 20", PLAIN).text == "└─ 4 more columns ─── 1-9 of 20 ─┘"
    assert bottom_line(20, "4 more columns", "1-9 of 20", PLAIN).text == "└────── 1-9 of 20 ─┘"


def test_a_rule_has_no_corners():
    assert rule_line(12, "", "", PLAIN).text == "─" * 12
    assert rule_line(16, "Flows", "", FOCUSED).text == "━━ Flows ━━━━━━━"


def test_sides_stand_beside_the_content():
    assert with_sides(Strip.blank(3), PLAIN).text == "│   │"
    assert with_sides(Strip.blank(3), FOCUSED).text == "┃   ┃"
    assert with_sides(Strip.blank(3), ASCII).text == "|   |"


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("degraded", 8, "degraded"),
        ("degraded", 5, "degr…"),
        ("degraded", 1, "…"),
        ("degraded", 0, ""),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日 …"),
    ],
)
def test_cut_counts_cells(text, width, expected):
    assert cut(text, width) == expected
    assert cut(text, width, "~") == expected.replace("…", "~")


@given(
    width=st.integers(0, 60),
    heading=st.text(max_size=30).filter(str.isprintable),
    note=st.text(max_size=30).filter(str.isprintable),
    brush=st.sampled_from([PLAIN, FOCUSED, ASCII, ASCII_FOCUSED]),
)
def test_lines_have_their_width_whatever_they_say(width, heading, note, brush):
    for draw in (top_line, bottom_line, rule_line):
        line = draw(width, heading, note, brush)
        assert line.cell_length == width
        assert cell_len(line.text) == width
