"""Panes never overlap, never leave the screen, and the one with the keyboard is always there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.view.columns import TABLES
from rtun_tui.arrange import (
    COMPACT_SIZE,
    DETAIL_SHARE,
    FULL_SIZE,
    SMALL_SIZE,
    Box,
    Form,
    Wish,
    arrange,
    form_of,
)
from rtun_tui.desk import PANES

WISHES = st.builds(
    Wish,
    focus=st.sampled_from(PANES),
    table=st.sampled_from(TABLES),
    zoom=st.booleans(),
    detail=st.booleans(),
    rules=st.booleans(),
    rows=st.dictionaries(st.sampled_from(TABLES), st.integers(0, 5000)),
)
WIDTHS, HEIGHTS = st.integers(1, 300), st.integers(1, 100)


def overlap(one, two):
    return (
        one.x < two.x + two.width
        and two.x < one.x + one.width
        and one.y < two.y + two.height
        and two.y < one.y + one.height
    )


@given(width=WIDTHS, height=HEIGHTS, wish=WISHES)
def test_every_pane_has_room_of_its_own_on_the_screen(width, height, wish):
    boxes = list(arrange(width, height, wish).values())
    for box in boxes:
        assert box.width >= 1
        assert box.height >= 1
        assert 0 <= box.x <= box.x + box.width <= width
        assert 0 <= box.y <= box.y + box.height <= height
    assert not any(overlap(one, two) for place, one in enumerate(boxes) for two in boxes[:place])


@given(width=WIDTHS, height=HEIGHTS, wish=WISHES)
def test_no_cell_is_left_over(width, height, wish):
    assert sum(box.width * box.height for box in arrange(width, height, wish).values()) == width * height


@given(width=WIDTHS, height=HEIGHTS, wish=WISHES)
def test_the_keyboard_is_never_in_a_pane_that_is_not_shown(width, height, wish):
    boxes = arrange(width, height, wish)
    if form_of(width, height) is Form.TINY:
        assert set(boxes) == {"tiny"}
        return
    assert boxes["header"] == Box(0, 0, width, 1)
    assert boxes["prompt"] == Box(0, height - 2, width, 1)
    assert boxes["footer"] == Box(0, height - 1, width, 1)
    assert "tiny" not in boxes
    if wish.focus not in boxes:
        assert wish.detail, "only the drawer takes the place of a table"
        assert boxes["detail"].height >= 10


@given(width=st.integers(110, 300), height=st.integers(32, 100), wish=WISHES)
def test_the_full_form_shows_the_focus_and_leaves_flows_a_few_rows(width, height, wish):
    boxes = arrange(width, height, wish)
    assert wish.focus in boxes
    assert all(box.height >= 3 for name, box in boxes.items() if name not in ("header", "prompt", "footer"))
    if not wish.zoom and not wish.detail:
        assert {"agents", "tunnels", "flows", "events", "throughput", "health"} <= set(boxes)
        assert ("rules" in boxes) == (wish.rules or wish.focus == "rules")


@pytest.mark.parametrize(
    ("size", "form"),
    [
        ((160, 50), Form.FULL),
        (FULL_SIZE, Form.FULL),
        ((109, 50), Form.COMPACT),
        ((300, 31), Form.COMPACT),
        (COMPACT_SIZE, Form.COMPACT),
        ((79, 24), Form.SMALL),
        (SMALL_SIZE, Form.SMALL),
        ((59, 40), Form.TINY),
        ((300, 14), Form.TINY),
        ((1, 1), Form.TINY),
    ],
)
def test_the_form_follows_the_size(size, form):
    assert form_of(*size) is form


def test_160x50():
    assert arrange(160, 50, Wish(rows={"agents": 5, "tunnels": 30})) == {
        "header": Box(0, 0, 160, 1),
        "agents": Box(0, 1, 75, 12),
        "tunnels": Box(75, 1, 85, 12),
        "throughput": Box(0, 13, 75, 7),
        "health": Box(75, 13, 85, 7),
        "flows": Box(0, 20, 160, 22),
        "events": Box(0, 42, 160, 6),
        "prompt": Box(0, 48, 160, 1),
        "footer": Box(0, 49, 160, 1),
    }


def test_120x36():
    boxes = arrange(120, 36, Wish())
    assert boxes["agents"] == Box(0, 1, 56, 8)
    assert boxes["throughput"] == Box(0, 9, 56, 6)
    assert boxes["flows"] == Box(0, 15, 120, 14)
    assert boxes["events"] == Box(0, 29, 120, 5)


def test_rules_push_the_flows_down():
    without, rules = arrange(120, 36, Wish()), arrange(120, 36, Wish(rules=True, rows={"rules": 2}))
    assert rules["rules"] == Box(0, 15, 120, 5)
    assert rules["flows"].height == without["flows"].height - 5


def test_80x24():
    assert arrange(80, 24, Wish(focus="tunnels")) == {
        "header": Box(0, 0, 80, 1),
        "tabs": Box(0, 1, 80, 1),
        "tunnels": Box(0, 2, 80, 14),
        "throughput": Box(0, 16, 80, 3),
        "events": Box(0, 19, 80, 3),
        "prompt": Box(0, 22, 80, 1),
        "footer": Box(0, 23, 80, 1),
    }


def test_60x15():
    boxes = arrange(60, 15, Wish())
    assert list(boxes) == ["header", "tabs", "flows", "prompt", "footer"]
    assert boxes["flows"] == Box(0, 2, 60, 11)


def test_40x8():
    assert arrange(40, 8, Wish(zoom=True, detail=True)) == {"tiny": Box(0, 0, 40, 8)}


def test_zoom_gives_one_pane_everything():
    assert arrange(160, 50, Wish(focus="events", zoom=True))["events"] == Box(0, 1, 160, 47)
    assert "throughput" not in arrange(80, 24, Wish(zoom=True))


def test_the_drawer_stands_beside_its_table():
    boxes = arrange(120, 36, Wish(focus="tunnels", detail=True))
    assert boxes["detail"].width == round(120 * DETAIL_SHARE)
    assert boxes["tunnels"].width + boxes["detail"].width == 120
    assert "flows" not in boxes
    assert "events" in boxes


def test_the_drawer_keeps_its_table_while_the_keyboard_is_with_the_events():
    boxes = arrange(120, 36, Wish(focus="events", table="tunnels", detail=True))
    assert {"tunnels", "detail", "events"} <= set(boxes)
    assert "flows" not in boxes


def test_where_one_pane_is_shown_the_drawer_gives_way_to_the_events():
    assert "detail" in arrange(80, 24, Wish(focus="tunnels", detail=True))
    assert "detail" not in arrange(80, 24, Wish(focus="events", detail=True))
