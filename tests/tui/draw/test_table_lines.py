"""Lines of a table as values: what they say, and that equal ones need no drawing."""

from __future__ import annotations

import pytest

from rtun_core.model import FlowState, FlowView
from rtun_core.view.page import Page, Sort
from rtun_core.view.units import Look
from rtun_tui.draw.frame import Brush
from rtun_tui.draw.table_lines import ABOVE, Blank, Edge, Row, TableLines, Titles
from rtun_tui.palette import MONO
from rtun_tui.table_state import TableState


def flow(number, down=0.0):
    return FlowView(
        id=f"{number:08x}",
        rule="r1",
        source=f"10.0.0.{number}:5353",
        target="192.0.2.1:53",
        tunnel="t1",
        state=FlowState.ACTIVE,
        opened_at=0.0,
        idle_s=0.0,
        down_rate=down,
    )


def page(rows, *, shown=None, total=None, first=0):
    shown = len(rows) if shown is None else shown
    return Page(
        table="flows",
        total=shown if total is None else total,
        shown=shown,
        first=first,
        rows=tuple(rows),
        now=0.0,
    )


def lines_of(rows, *, width=40, height=8, framed=True, **counts):
    state = TableState(table="flows", columns=("flow", "tunnel", "dn"), sort=(Sort("dn", descending=True),))
    lines = TableLines(state, width=width, height=height, framed=framed)
    lines.arrange()
    state.show(page(rows, **counts))
    return lines


def text_of(lines, *, heading="3 Flows", note="by dn v", empty="no flows yet", brush=None):
    said = lines.say(heading, note, empty)
    drawn = [lines.draw(line, y, brush or Brush(MONO)) for y, line in enumerate(said)]
    assert all(strip.cell_length == lines.width for strip in drawn)
    return [strip.text for strip in drawn]


def test_a_framed_table():
    assert text_of(lines_of([flow(1, 1e6), flow(2)], width=32, height=6)) == [
        "┌─ 3 Flows ────────── by dn v ─┐",
        "│   FLOW     TUN    ▾DN/s      │",
        "│ > 00000001 t1     8.0Mb      │",
        "│   00000002 t1         0      │",
        "│                              │",
        "└──────────────────────────────┘",
    ]


def test_a_table_without_a_frame_has_a_rule_and_a_row_more():
    lines = lines_of([flow(1), flow(2)], width=30, height=5, framed=False)
    assert text_of(lines) == [
        "── 3 Flows ──────── by dn v ──",
        "   FLOW     TUN    ▾DN/s      ",
        " > 00000001 t1         0      ",
        "   00000002 t1         0      ",
        "                              ",
    ]


def test_the_lower_edge_says_where_in_the_rows_this_is():
    lines = lines_of([flow(n) for n in range(20)], shown=1284, height=8)
    lines.state.move(7)
    assert "─ 4-8 of 1,284 ─┘" in text_of(lines)[-1]
    assert "of" not in text_of(lines_of([flow(1)]))[-1]


def test_the_lower_edge_counts_columns_without_room():
    lines = lines_of([flow(1)], width=24)
    assert lines.hidden == 1
    assert "1 more column " in text_of(lines)[-1]
    lines.width = 16
    lines.arrange()
    assert lines.hidden == 2
    assert text_of(lines)[-1] == "└─ 2 more co… ─┘"


def test_columns_scrolled_out_on_the_left_are_not_missing_on_the_right():
    lines = lines_of([flow(1)], width=24)
    lines.state.scroll_columns(1)
    lines.arrange()
    assert [slot.column.id for slot in lines.layout] == ["flow", "dn"]
    assert lines.hidden == 0


def test_an_empty_table_is_calm():
    text = text_of(lines_of([], height=8))
    assert text[ABOVE + 2].strip("│ ") == "no flows yet"
    assert [line.strip("│ ") for line in text[ABOVE:-1]].count("") == 4
    assert ">" not in "".join(text)


def test_a_filter_that_lets_nothing_pass_says_so():
    text = text_of(lines_of([], total=1284, width=60))
    assert "none of 1,284 rows passes the filter" in text[ABOVE + 2]


def test_before_the_first_page_there_is_nothing():
    lines = TableLines(TableState(table="flows"), width=40, height=6)
    lines.arrange()
    assert lines.say("", "", "no flows yet")[ABOVE:-1] == [Blank("")] * 3


def test_rows_that_have_not_come_are_not_blank():
    lines = lines_of([flow(n) for n in range(10)], shown=100)
    lines.state.end()
    assert text_of(lines)[ABOVE].strip("│ ") == "…"


def test_equal_lines_for_equal_rows():
    lines = lines_of([flow(1, 1e6), flow(2, 2e6)])
    before = lines.say("a", "b", "c")
    lines.forget()
    lines.state.show(page([flow(1, 1e6), flow(2, 3e6)]))
    after = lines.say("a", "b", "c")
    assert [y for y, (old, new) in enumerate(zip(before, after, strict=True)) if old != new] == [ABOVE + 1]


def test_texts_are_made_once_a_page(monkeypatch):
    lines = lines_of([flow(n) for n in range(5)])
    lines.say("", "", "")
    monkeypatch.setattr("rtun_tui.draw.table_lines.row_cells", None)
    lines.state.move(1)
    rows = [line for line in lines.say("", "", "") if isinstance(line, Row)]
    assert [row.cursor for row in rows] == [False, True, False, False, False]


def test_another_look_once_it_is_arranged():
    lines = lines_of([flow(1, 1e6)])
    assert "8.0Mb" in text_of(lines)[ABOVE]
    lines.look = Look(bits=False)
    lines.arrange()
    assert "1.0MB" in text_of(lines)[ABOVE]


def test_other_columns_make_other_titles():
    lines = lines_of([flow(1)])
    before = lines.say("", "", "")
    lines.state.columns = ("flow", "src")
    lines.arrange()
    after = lines.say("", "", "")
    assert isinstance(after[1], Titles)
    assert before[1] != after[1]
    assert before[ABOVE] != after[ABOVE]


@pytest.mark.parametrize(("width", "height"), [(0, 0), (1, 1), (2, 2), (5, 3), (12, 4)])
def test_no_size_is_too_small(width, height):
    lines = lines_of([flow(1)], width=width, height=height)
    for y, line in enumerate(lines.say("heading", "note", "empty")[:height]):
        assert lines.draw(line, y, Brush(MONO)) is not None


def test_edges_keep_their_places():
    said = lines_of([flow(1)]).say("a", "b", "c")
    assert said[0] == Edge("a", "b")
    assert said[-1] == Edge("", "")
