"""Column widths, titles and rows, drawn without an app."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from rtun_core.model import AgentState, AgentView, FlowState, FlowView, TunnelState, TunnelView
from rtun_core.view.columns import COLUMNS, TABLES, column_named
from rtun_core.view.page import Sort
from rtun_core.view.units import Look
from rtun_tui.draw.frame import Brush
from rtun_tui.draw.table import (
    GAP,
    GUTTER,
    MARGIN,
    WIDEST_ADDRESS,
    column_at,
    empty_strip,
    fit,
    header_strip,
    layout_columns,
    missing_strip,
    row_cells,
    row_strip,
    row_writers,
    short_state,
)
from rtun_tui.palette import MONO

PLAIN = Brush(MONO)
FOCUSED = Brush(MONO, focused=True)
LOOK = Look()

FLOW = FlowView(
    id="00a1f3c2",
    rule="r1",
    source="10.0.4.17:51422",
    target="8.8.8.8:53",
    tunnel="t5",
    state=FlowState.ACTIVE,
    opened_at=0.0,
    idle_s=2.0,
    down_rate=1_225_000.0,
)
TUNNEL = TunnelView(
    id="t4", rule="r1", agent="beta/7f3c", state=TunnelState.DEGRADED, kind="p2p", opened_at=0.0
)


def columns(table, *names):
    if names:
        return tuple(column_named(table, name) for name in names)
    return tuple(column for column in COLUMNS[table] if column.shown)


def ids(layout):
    return [slot.column.id for slot in layout]


def used(layout):
    return GUTTER + sum(slot.width for slot in layout) + GAP * (len(layout) - 1) + MARGIN


def draw(row, layout, width, brush=PLAIN, table="flows", **marks):
    cells = row_cells(table, row, layout, row_writers(layout, LOOK), 60.0)
    return row_strip(cells, layout, width, brush, **marks)


# -- layout --------------------------------------------------------------------------------------


def test_columns_leave_by_priority():
    chosen = columns("flows")
    gone = []
    for width in range(120, 20, -1):
        left = ids(layout_columns(chosen, width))
        gone += [column.priority for column in chosen if column.id not in left and column.id not in gone]
        assert all(column.id in left for column in chosen if column.priority == 1) or width < 30
    wide, narrow = ids(layout_columns(chosen, 120)), ids(layout_columns(chosen, 60))
    lost = [column_named("flows", name).priority for name in wide if name not in narrow]
    kept = [column_named("flows", name).priority for name in narrow]
    assert lost
    assert min(lost) >= max(kept) - 1


def test_the_least_important_column_goes_first():
    chosen = [
        replace(column, min_width=10, width=10, weight=0, priority=priority)
        for column, priority in zip(
            columns("flows", "flow", "src", "dst", "tunnel"), (1, 3, 9, 3), strict=True
        )
    ]
    room = GUTTER + MARGIN + 3 * 10 + 2 * GAP
    assert ids(layout_columns(chosen, room + 11)) == ["flow", "src", "dst", "tunnel"]
    assert ids(layout_columns(chosen, room)) == ["flow", "src", "tunnel"]
    assert ids(layout_columns(chosen, room - 1)) == ["flow", "src"]  # of two alike, the one on the right


def test_spare_room_goes_to_the_ideal_then_by_weight():
    flow, state = columns("flows", "flow", "state")
    flow = replace(flow, min_width=4, width=8, weight=1, priority=1)
    state = replace(state, min_width=4, width=6, weight=3, priority=2)
    fixed = GUTTER + MARGIN + GAP
    widths = {
        room: [slot.width for slot in layout_columns((flow, state), fixed + room)] for room in (8, 11, 14, 22)
    }
    assert widths == {8: [4, 4], 11: [7, 4], 14: [8, 6], 22: [10, 12]}


def test_addresses_do_not_tear_a_row_apart():
    layout = layout_columns(columns("flows"), 400)
    assert max(slot.width for slot in layout if slot.column.kind == "address") == WIDEST_ADDRESS


def test_wide_keeps_full_widths_and_cuts_at_the_edge():
    chosen = columns("flows")
    layout = layout_columns(chosen, 60, wide=True)
    assert ids(layout) == ids(layout_columns(chosen, 400))[: len(layout)]
    assert [slot.width for slot in layout][:-1] == [column.width for column in chosen][: len(layout) - 1]
    assert used(layout) <= 60


def test_a_number_is_never_cut_at_the_edge():
    chosen = columns("flows", "flow", "dn", "up")
    for width in range(GUTTER + MARGIN + 9, 40):
        layout = layout_columns(chosen, width, wide=True)
        assert all(slot.width == slot.column.width for slot in layout if slot.right)


def test_scrolled_columns_make_room_and_the_first_one_stays():
    chosen = columns("flows")
    assert ids(layout_columns(chosen, 70, first_column=2))[:2] == ["flow", chosen[3].id]


@given(
    table=st.sampled_from(TABLES),
    width=st.integers(GUTTER + MARGIN + 1, 250),
    wide=st.booleans(),
    first=st.integers(0, 12),
)
def test_a_layout_never_needs_more_than_there_is(table, width, wide, first):
    layout = layout_columns(columns(table), width, wide, first_column=first)
    assert layout
    assert used(layout) <= width
    assert layout == layout_columns(columns(table), width, wide, first_column=first)


def test_a_click_finds_its_column():
    layout = layout_columns(columns("flows", "flow", "tunnel", "dn"), 40)
    line = header_strip("flows", layout, (), 40, PLAIN).text
    assert column_at(layout, line.index("FLOW")).id == "flow"
    assert column_at(layout, line.index("TUN") + 1).id == "tunnel"
    assert column_at(layout, line.index("DN/s") + 3).id == "dn"
    assert column_at(layout, 0) is None
    assert column_at(layout, 39) is None


# -- titles --------------------------------------------------------------------------------------


def test_titles_stand_over_their_columns_and_the_sort_shows():
    layout = layout_columns(columns("flows", "flow", "tunnel", "dn"), 27)
    falling = header_strip("flows", layout, (Sort("down", descending=True),), 27, PLAIN)
    assert falling.text == "   FLOW     TUN    ▾DN/s   "
    rising = header_strip("flows", layout, (Sort("flow"), Sort("dn")), 27, PLAIN)
    assert rising.text == "   FLOW▴    TUN    ▴DN/s   "
    [sorts] = [segment for segment in falling if "▾" in segment.text]
    assert (sorts.text.strip(), sorts.style.bold) == ("▾DN/s", True)
    plain = header_strip("flows", layout, (Sort("flow"),), 27, Brush(MONO, ascii=True))
    assert plain.text.startswith("   FLOW^ ")


def test_a_sign_needs_no_room_of_its_own():
    layout = layout_columns([replace(column_named("flows", "tunnel"), min_width=3, width=3)], 10)
    assert header_strip("flows", layout, (Sort("tunnel"),), 10, PLAIN).text == "   TUN▴   "


# -- rows ----------------------------------------------------------------------------------------


def test_a_row_under_its_titles():
    layout = layout_columns(columns("flows", "flow", "src", "tunnel", "dn"), 48)
    titles, row = header_strip("flows", layout, (), 48, PLAIN), draw(FLOW, layout, 48)
    assert titles.text == "   FLOW     SOURCE                 TUN     DN/s "
    assert row.text == "   00a1f3c2 10.0.4.17:51422        t5     9.8Mb "


@pytest.mark.parametrize(
    ("cursor", "marked", "signs"),
    [(False, False, "   "), (True, False, " > "), (False, True, " * "), (True, True, ">* ")],
)
def test_cursor_and_mark_are_signs(cursor, marked, signs):
    layout = layout_columns(columns("flows"), 80)
    assert draw(FLOW, layout, 80, cursor=cursor, marked=marked).text[:GUTTER] == signs


def test_the_cursor_of_a_pane_without_focus_is_quieter():
    layout = layout_columns(columns("flows", "flow"), 40)
    focused = next(iter(draw(FLOW, layout, 40, FOCUSED, cursor=True))).style
    idle = next(iter(draw(FLOW, layout, 40, PLAIN, cursor=True))).style
    assert focused == MONO.style("cursor")
    assert idle == MONO.style("cursor-idle")


def test_states_that_need_an_eye_are_loud_and_have_their_own_look():
    layout = layout_columns(columns("tunnels", "id", "state"), 30)
    strip = draw(TUNNEL, layout, 30, table="tunnels")
    [state] = [segment for segment in strip if "DEGRADED" in segment.text]
    assert state.style == MONO.style("state-warn")
    calm = draw(replace_state(TUNNEL, TunnelState.UP), layout, 30, table="tunnels")
    assert " up " in calm.text.lower()
    assert "UP" not in calm.text


def replace_state(view, state):
    fields = {name: getattr(view, name) for name in view.__struct_fields__}
    return type(view)(**{**fields, "state": state})


def test_a_state_keeps_its_look_under_the_cursor():
    layout = layout_columns(columns("tunnels", "id", "state"), 30)
    strip = draw(TUNNEL, layout, 30, FOCUSED, table="tunnels", cursor=True)
    [state] = [segment for segment in strip if "DEGRADED" in segment.text]
    assert state.style.reverse
    assert state.style.bold


def test_a_ready_agent_is_not_loud():
    agent = AgentView(id="a/1", name="a", instance="1", state=AgentState.LOST)
    layout = layout_columns(columns("agents", "name", "state"), 40)
    assert "LOST" in draw(agent, layout, 40, table="agents").text
    assert "READY" not in draw(replace_state(agent, AgentState.READY), layout, 40, table="agents").text


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("DEGRADED", 8, "DEGRADED"),
        ("DEGRADED", 7, "DEGR"),
        ("DRAINING", 5, "DRAIN"),
        ("opening", 4, "open"),
        ("odd", 2, "odd"),
    ],
)
def test_states_have_short_forms(text, width, expected):
    assert short_state(text, width) == expected


@pytest.mark.parametrize("marks", [{}, {"cursor": True}, {"marked": True}, {"cursor": True, "marked": True}])
@pytest.mark.parametrize("width", [20, 60, 110, 158])
@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("flows", FLOW),
        ("flows", msgspec.structs.replace(FLOW, source="[2001:db8:1234:5678:9abc:def0:1234:5678]:65535")),
        ("flows", msgspec.structs.replace(FLOW, target="zürich.example:53")),
        ("tunnels", TUNNEL),
    ],
)
def test_a_row_written_at_once_looks_as_it_does_cell_by_cell(monkeypatch, table, row, width, marks):
    layout = layout_columns(columns(table), width)
    at_once = draw(row, layout, width, FOCUSED, table, **marks)
    monkeypatch.setattr("rtun_tui.draw.table._plain_row", lambda *_: None)
    one_by_one = draw(row, layout, width, FOCUSED, table, **marks)
    assert at_once.cell_length == one_by_one.cell_length == width
    assert at_once.text == one_by_one.text
    assert at_once.simplify() == one_by_one.simplify()


def test_look_and_time_reach_the_cells():
    layout = layout_columns(columns("flows", "flow", "dn", "age"), 60)
    bits = row_cells("flows", FLOW, layout, row_writers(layout, Look()), 30.0)
    plain = row_cells("flows", FLOW, layout, row_writers(layout, Look(bits=False)), 30.0)
    assert bits.texts == ("00a1f3c2", "9.8Mb", "30.0s")
    assert plain.texts[1] == "1.2MB"
    assert bits != plain


@pytest.mark.parametrize(
    ("text", "width", "right", "expected"),
    [
        ("ab", 4, False, "ab  "),
        ("ab", 4, True, "  ab"),
        ("abcdef", 4, True, "abc…"),
        ("日本", 5, True, " 日本"),
    ],
)
def test_fit_fills_its_room(text, width, right, expected):
    assert fit(text, width, right=right) == expected


@given(text=st.text(max_size=40).filter(str.isprintable), width=st.integers(1, 30), right=st.booleans())
def test_fit_is_exact_for_any_text(text, width, right):
    assert cell_len(fit(text, width, right=right)) == width


@given(width=st.integers(0, 160), cursor=st.booleans(), marked=st.booleans(), wide=st.booleans())
def test_rows_and_titles_have_their_width(width, cursor, marked, wide):
    layout = layout_columns(columns("flows"), width, wide)
    row = draw(FLOW, layout, width, cursor=cursor, marked=marked)
    titles = header_strip("flows", layout, (Sort("dn"),), width, PLAIN)
    assert [cell_len(row.text), row.cell_length] == [width, width]
    assert [cell_len(titles.text), titles.cell_length] == [width, width]


def test_a_row_that_has_not_come_and_a_table_without_rows():
    assert missing_strip(8, PLAIN).text == "   …    "
    assert missing_strip(8, Brush(MONO, ascii=True)).text == "   ~    "
    assert empty_strip("no flows", 14, PLAIN).text == "   no flows   "
    assert empty_strip("no flows yet", 10, PLAIN).text == " no flow… "
    assert empty_strip("no flows yet", 0, PLAIN).text == ""
