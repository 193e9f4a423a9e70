"""The cursor belongs to a row: whatever moves, it is found again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtun_core.errors import UsageError
from rtun_core.model import FlowState, FlowView
from rtun_core.view.page import MAX_LIMIT, Page, Sort, ViewSpec
from rtun_tui.table_state import MOST_ROWS, TableState


def flow(key):
    return FlowView(
        id=key,
        rule="r1",
        source="10.0.0.1:5353",
        target="192.0.2.1:53",
        tunnel="t1",
        state=FlowState.ACTIVE,
        opened_at=0.0,
        idle_s=0.0,
    )


def keys_of(count):
    return [f"{number:08x}" for number in range(count)]


def answer(keys, spec: ViewSpec) -> Page:
    """What a source answers when the rows that pass are these, in this order."""
    window = keys[spec.offset : spec.offset + spec.limit]
    follow = keys.index(spec.follow) if spec.follow in keys else None
    return Page(
        table=spec.table,
        total=len(keys),
        shown=len(keys),
        first=min(spec.offset, len(keys)),
        rows=tuple(flow(key) for key in window),
        follow=follow,
        now=0.0,
    )


def settle(state, keys):
    """Look until the window is here; one more look is enough."""
    state.show(answer(keys, state.spec()))
    if state.needs_window():
        state.show(answer(keys, state.spec()))
    assert not state.needs_window()


def table(count=100, height=10):
    state = TableState(table="flows", height=height)
    keys = keys_of(count)
    settle(state, keys)
    return state, keys


def test_a_new_table_has_the_default_columns_and_wants_a_window():
    state = TableState(table="flows")
    assert "src" in state.columns
    assert "up_total" not in state.columns
    assert state.needs_window()
    assert state.current() is None
    assert state.visible() == ()


def test_the_spec_asks_for_a_screen_more_on_both_sides():
    state, _ = table()
    state.to_index(50)
    spec = state.spec()
    assert spec.offset <= state.top - 10
    assert spec.offset + spec.limit >= state.top + 20
    assert spec.follow == state.cursor_key


def test_the_highest_table_still_asks_for_a_page_that_is_allowed():
    state = TableState(table="flows")
    state.resize(100_000)
    assert state.height == MOST_ROWS
    assert state.spec().limit <= MAX_LIMIT


def test_a_filter_that_is_off_is_not_asked_for():
    state = TableState(table="flows", filter="idle>2m", filter_on=False)
    assert state.spec().filter == ""
    state.filter_on = True
    assert state.spec().filter == "idle>2m"


def test_marks_are_sent_only_where_the_filter_can_name_them():
    state, _ = table()
    state.toggle_mark()
    assert state.spec().marks == ()
    state.filter = "@marked"
    assert state.spec().marks == ("00000000",)


def test_the_first_page_puts_the_cursor_on_the_first_row():
    state, keys = table()
    assert state.cursor_key == keys[0]
    assert state.current().id == keys[0]


def test_moves_stop_at_both_ends():
    state, keys = table(5)
    state.move(-3)
    assert state.cursor_key == keys[0]
    state.move(99)
    assert state.cursor_key == keys[4]


def test_the_window_follows_the_cursor_no_more_than_it_has_to():
    state, _ = table()
    state.move(9)
    assert state.top == 0
    state.move(1)
    assert state.top == 1
    state.move(-5)
    assert state.top == 1


def test_pages_move_cursor_and_window_together():
    state, keys = table()
    state.move(3)
    state.full_page(1)
    assert (state.top, state.cursor) == (9, 12)
    settle(state, keys)
    state.half_page(1)
    assert (state.top, state.cursor) == (14, 17)
    settle(state, keys)
    state.full_page(-1)
    state.full_page(-1)
    assert (state.top, state.cursor) == (0, 0)


def test_the_end_is_reached_though_its_rows_are_not_here():
    state, keys = table(1000)
    state.end()
    assert state.cursor == 999
    assert state.current() is None
    assert state.needs_window()
    settle(state, keys)
    assert state.current().id == keys[-1]
    state.home()
    settle(state, keys)
    assert state.cursor_key == keys[0]


def test_the_wheel_takes_the_cursor_along_at_the_edge():
    state, _ = table()
    state.move(2)
    state.scroll(2)
    assert (state.top, state.cursor) == (2, 2)
    state.scroll(3)
    assert (state.top, state.cursor) == (5, 5)
    state.scroll(-5)
    assert (state.top, state.cursor) == (0, 5)


def test_the_cursor_stays_on_its_row_when_rows_move():
    state, keys = table()
    state.move(4)
    settle(state, [*keys[50:], *keys[:50]])
    assert state.cursor == 54
    assert state.current().id == keys[4]
    assert state.top <= 54 < state.top + state.height


def test_when_its_row_is_gone_the_cursor_takes_the_row_at_its_place():
    state, keys = table()
    state.move(4)
    settle(state, [key for key in keys if key != keys[4]])
    assert state.cursor == 4
    assert state.cursor_key == keys[5]


def test_at_the_end_the_row_before_takes_the_place():
    state, keys = table(5)
    state.end()
    settle(state, keys[:3])
    assert state.cursor_key == keys[2]


def test_no_row_no_key():
    state, keys = table(5)
    settle(state, [])
    assert (state.cursor, state.top, state.cursor_key) == (0, 0, None)
    assert state.current() is None
    settle(state, keys)
    assert state.cursor_key == keys[0]


def test_a_page_asked_for_before_the_cursor_moved_does_not_take_it_back():
    state, keys = table()
    late = answer(keys, state.spec())
    state.move(7)
    state.show(late)
    assert state.cursor_key == keys[7]


def test_a_jump_to_a_key_that_is_here_and_to_one_that_is_not():
    state, keys = table(1000)
    assert state.to_key(keys[5])
    assert state.cursor == 5
    assert not state.to_key(keys[700])
    assert state.current() is None
    settle(state, keys)
    assert state.cursor == 700
    assert state.current().id == keys[700]


def test_a_smaller_window_keeps_the_cursor_in_sight():
    state, _ = table()
    state.move(9)
    state.resize(4)
    assert (state.top, state.cursor) == (6, 9)
    state.resize(0)
    assert state.height == 1


def test_marks_come_and_go_and_survive_their_rows():
    state, keys = table(5)
    state.toggle_mark()
    state.move(2)
    state.toggle_mark()
    assert state.marks == {keys[0], keys[2]}
    settle(state, keys[1:])
    assert state.marks == {keys[0], keys[2]}
    assert state.is_marked(flow(keys[2]))
    state.toggle_mark()
    assert state.marks == {keys[0]}
    state.clear_marks()
    assert state.marks == set()
    assert not state.is_marked(flow(keys[0]))


@pytest.mark.parametrize(("begin", "end"), [(2, 6), (6, 2)])
def test_a_range_is_marked_in_both_directions(begin, end):
    state, keys = table(10)
    state.to_index(begin)
    state.toggle_mark()
    state.to_index(end)
    assert state.mark_to_cursor()
    assert state.marks == set(keys[2:7])


def test_no_range_without_a_beginning_that_is_here():
    state, keys = table(1000)
    assert not state.mark_to_cursor()
    state.toggle_mark()
    state.end()
    settle(state, keys)
    assert not state.mark_to_cursor()
    assert state.marks == {keys[0]}


def test_no_mark_on_a_row_that_has_not_come():
    state, _ = table(1000)
    state.end()
    state.toggle_mark()
    assert state.marks == set()


def test_numbers_sort_largest_first_and_texts_from_a():
    state, _ = table()
    state.sort_by("down")
    assert state.sort == (Sort("dn", descending=True),)
    state.sort_by("dn")
    assert state.sort == (Sort("dn", descending=False),)
    state.sort_by("src")
    assert state.sort == (Sort("src", descending=False),)
    with pytest.raises(UsageError):
        state.sort_by("colour")


def test_invert_keeps_the_other_sorts_and_none_stays_none():
    state = TableState(table="flows", sort=(Sort("tunnel"), Sort("dn", descending=True)))
    state.invert_sort()
    assert state.sort == (Sort("tunnel", descending=True), Sort("dn", descending=True))
    bare = TableState(table="flows")
    bare.invert_sort()
    assert bare.sort == ()


def test_the_sort_moves_over_the_columns_and_round():
    state = TableState(table="flows", columns=("flow", "src", "dn"))
    state.shift_sort(1)
    assert state.sort[0].column == "flow"
    state.shift_sort(-1)
    assert state.sort[0].column == "dn"
    state.shift_sort(1)
    assert state.sort[0].column == "flow"


def test_one_column_keeps_the_sort():
    state = TableState(table="flows", columns=("flow",), sort=(Sort("flow", descending=True),))
    state.shift_sort(1)
    assert state.sort == (Sort("flow", descending=True),)


def test_totals_take_the_place_of_rates_in_columns_and_sort():
    state = TableState(table="flows", columns=("flow", "up", "dn"), sort=(Sort("dn", descending=True),))
    state.toggle_totals()
    assert [column.id for column in state.shown_columns()] == ["flow", "up_total", "dn_total"]
    assert state.sort == (Sort("dn_total", descending=True),)
    state.toggle_totals()
    assert [column.id for column in state.shown_columns()] == ["flow", "up", "dn"]
    assert state.sort == (Sort("dn", descending=True),)


def test_columns_scroll_between_the_first_and_the_last():
    state = TableState(table="flows", columns=("flow", "src", "dn"))
    state.scroll_columns(-1)
    assert state.first_column == 0
    state.scroll_columns(9)
    assert state.first_column == 1


STEPS = st.one_of(
    st.tuples(st.sampled_from(["move", "scroll", "to_index"]), st.integers(-60, 60)),
    st.tuples(st.sampled_from(["half_page", "full_page"]), st.sampled_from([-1, 1])),
    st.tuples(st.just("resize"), st.integers(0, 25)),
    st.tuples(st.sampled_from(["home", "end", "toggle_mark", "mark_to_cursor"]), st.none()),
    st.tuples(st.sampled_from(["shuffle", "filter", "late"]), st.integers(0, 9)),
)


class Stage:
    """A table, the rows behind it, and what must hold after every step."""

    def __init__(self, count):
        self.everything = keys_of(count)
        self.keys = list(self.everything)
        self.state = TableState(table="flows", height=8)
        self.late = answer(self.keys, self.state.spec())
        self.look()

    def look(self):
        state, before, place = self.state, self.state.cursor_key, self.state.cursor
        resting = state.resting
        settle(state, self.keys)
        if resting:
            assert (state.cursor, state.top) == (0, 0)
        elif before in self.keys:
            assert state.current().id == before
        elif self.keys:
            assert state.cursor == min(place, len(self.keys) - 1)
            assert state.current().id == self.keys[state.cursor]
        assert [row.id for row in state.visible()] == self.keys[state.top : state.top + state.height]

    def step(self, name, value):
        marks = set(self.state.marks)
        match name:
            case "shuffle":
                random.Random(value).shuffle(self.keys)
                self.look()
            case "filter":
                self.keys = [key for key in self.everything if value == 0 or int(key, 16) % value == 0]
                self.look()
            case "late":
                self.state.show(self.late)
                self.late = answer(self.keys, self.state.spec())
            case _:
                method = getattr(self.state, name)
                method() if value is None else method(value)
        assert name == "toggle_mark" or marks <= self.state.marks
        self.check()

    def check(self):
        state = self.state
        assert 0 <= state.top <= state.cursor < state.top + state.height
        assert state.cursor < max(1, state.shown)
        assert state.top <= max(0, state.shown - state.height)
        wanted = min(state.height, state.shown - state.top)
        assert state.needs_window() or len(state.visible()) == wanted


@settings(max_examples=60, deadline=None)
@given(count=st.integers(0, 120), steps=st.lists(STEPS, max_size=25))
def test_in_any_order_of_steps_the_cursor_is_in_sight_and_on_its_row(count, steps):
    stage = Stage(count)
    for name, value in steps:
        stage.step(name, value)
    stage.look()


def test_a_cursor_that_nobody_moved_rests_on_the_first_row():
    state = TableState(table="flows", height=3)
    keys = keys_of(9)
    settle(state, keys)
    settle(state, keys[::-1])
    assert (state.cursor, state.cursor_key) == (0, keys[-1])
    assert state.spec().follow is None
    state.move(1)
    settle(state, keys)
    assert state.cursor_key == keys[-2]
    state.home()
    settle(state, keys[::-1])
    assert (state.cursor, state.cursor_key) == (0, keys[-1])


def test_a_copy_is_on_its_own_and_come_back_to_on_a_screen_of_another_height():
    state = TableState(table="flows", height=3)
    settle(state, keys_of(20))
    state.move(12)
    settle(state, keys_of(20))
    state.toggle_mark()
    kept = state.copied()
    assert kept == state
    state.forget_rows()
    assert (len(kept.marks), kept.cursor, state.marks, state.cursor) == (1, 12, set(), 0)
    state.resize(5)
    state.become(kept)
    assert (state.cursor, state.cursor_key, state.height) == (12, kept.cursor_key, 5)
    assert state.top <= 12 < state.top + 5
    assert state.marks == kept.marks


def test_the_filter_in_force_is_none_while_it_is_off():
    state = TableState(table="flows", filter="dn>1")
    assert state.filter_in_force == state.spec().filter == "dn>1"
    state.filter_on = False
    assert state.filter_in_force == state.spec().filter == ""
