"""Orders of rows, windows of them, and places in them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtun_core.errors import UsageError
from rtun_core.flow_rows import FlowRows, pack_source
from rtun_core.model import AgentState, AgentView
from rtun_core.view.columns import COLUMNS
from rtun_core.view.page import Sort
from rtun_core.view.row_order import flow_keys, natural_key, place, sort_columns, sorted_rows, window
from tests.view.random_rows import random_rows

NOW = 1e9
SORTS = st.lists(
    st.builds(Sort, st.sampled_from([column.id for column in COLUMNS["flows"]]), st.booleans()), max_size=3
)


def by_hand(rows, sorts):
    """The order that the columns' values ask for, as positions."""
    order = sorted(range(len(rows)), key=lambda index: (int(rows.ids[index]), index))
    views = list(rows)
    for column, descending in reversed(sort_columns("flows", sorts)):
        values = {index: column.value(views[index], NOW) for index in order}
        if column.id == "src":
            values = {index: pack_source(value) for index, value in values.items()}
        if column.id == "flow":
            values = {index: int(value, 16) for index, value in values.items()}
        some = [index for index in order if values[index] is not None]
        some.sort(
            key=lambda index, values=values: (
                natural_key(values[index]) if isinstance(values[index], str) else values[index]
            ),
            reverse=descending,
        )
        order = some + [index for index in order if values[index] is None]
    return order


# ---- text ---------------------------------------------------------------------------------------------


def test_numbers_within_text_are_numbers():
    names = ["t10", "t2", "T1", "", "10.0.0.9:80", "10.0.0.10:7", "t2b", "9" * 21, "8"]
    assert sorted(names, key=natural_key) == [
        "",
        "8",
        "10.0.0.9:80",
        "10.0.0.10:7",
        "9" * 21,
        "T1",
        "t2",
        "t2b",
        "t10",
    ]


@given(st.lists(st.text(alphabet="aB1²٣é.", max_size=25) | st.text(), max_size=8))
def test_any_text_can_be_ordered(names):
    keys = sorted(map(natural_key, names))
    assert len(keys) == len(names)


# ---- rows of small tables -----------------------------------------------------------------------------


def agent(name, *, expires=None, state=AgentState.READY):
    return AgentView(id=name, name=name, instance="", state=state, expires_at=expires)


def names(rows, *sorts):
    return "".join(row.name for row in sorted_rows("agents", rows, sort_columns("agents", sorts), NOW))


def test_no_value_is_last_both_ways_and_ids_break_ties():
    rows = [agent("d", expires=NOW + 5), agent("b"), agent("c", expires=NOW + 9), agent("a")]
    rows.append(agent("e", expires=NOW + 5))
    assert names(rows) == "abcde"
    assert names(rows, Sort("exp")) == "decab"
    assert names(rows, Sort("expires", True)) == "cdeab"


def test_later_columns_decide_where_earlier_ones_tie():
    rows = [agent("a", state=AgentState.LOST), agent("b"), agent("c", state=AgentState.LOST)]
    assert names(rows, Sort("state"), Sort("name", True)) == "cab"
    assert names(rows, Sort("state", True), Sort("name")) == "bac"


def test_an_unknown_column_is_refused():
    with pytest.raises(UsageError, match="'nope' is not a column of agents"):
        sort_columns("agents", [Sort("nope")])


# ---- flows --------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(0, 120), SORTS)
@settings(deadline=None, max_examples=150)
def test_flows_stand_as_their_values_ask(seed, count, sorts):
    rows = random_rows(count, seed)
    keys = flow_keys(rows, sort_columns("flows", sorts), NOW)
    assert window(keys, 0, count).tolist() == by_hand(rows, sorts)


@pytest.mark.parametrize("column", [column.id for column in COLUMNS["flows"]])
@pytest.mark.parametrize("descending", [False, True])
def test_every_column_of_flows_can_be_sorted_by(column, descending):
    rows = random_rows(300, 7)
    sorts = [Sort(column, descending)]
    keys = flow_keys(rows, sort_columns("flows", sorts), NOW)
    assert window(keys, 0, 300).tolist() == by_hand(rows, sorts)


@given(st.integers(0, 2**31), st.integers(1, 400), st.data())
@settings(deadline=None, max_examples=150)
def test_a_window_is_a_slice_of_the_order(seed, count, data):
    rows = random_rows(count, seed)
    keys = flow_keys(rows, sort_columns("flows", data.draw(SORTS)), NOW)
    everything = window(keys, 0, count).tolist()
    first = data.draw(st.integers(0, count))
    last = min(count, first + data.draw(st.integers(0, 30)))
    assert window(keys, first, last).tolist() == everything[first:last]


@given(st.integers(0, 2**31), st.integers(1, 100), SORTS)
@settings(deadline=None)
def test_places_are_those_of_the_order(seed, count, sorts):
    rows = random_rows(count, seed)
    keys = flow_keys(rows, sort_columns("flows", sorts), NOW)
    order = window(keys, 0, count).tolist()
    assert [place(keys, row) for row in order] == list(range(count))


def test_one_family_of_sources_and_two_of_them():
    mixed = random_rows(300, 3)
    v4 = mixed.take(np.array([not text.startswith("[") for text in mixed.source_texts()]))
    assert len(v4) < len(mixed)
    for rows in (v4, mixed):
        for descending in (False, True):
            sorts = [Sort("src", descending)]
            keys = flow_keys(rows, sort_columns("flows", sorts), NOW)
            assert window(keys, 0, len(rows)).tolist() == by_hand(rows, sorts)


def test_flows_of_one_id_stand_as_they_came():
    rows = random_rows(40)
    twice = FlowRows.join([rows, rows])
    keys = flow_keys(twice, sort_columns("flows", [Sort("dn")]), NOW)
    order = window(keys, 0, 80).tolist()
    assert [row % 40 for row in order[::2]] == [row % 40 for row in order[1::2]]
    assert all(first < second for first, second in zip(order[::2], order[1::2], strict=True))
    assert [window(keys, index, index + 1).tolist() for index in range(80)] == [[row] for row in order]
    assert [place(keys, row) for row in order] == list(range(80))


def test_numbers_that_are_none_are_last_both_ways():
    rows = random_rows(5)
    rows.down_rate[:] = [3.0, np.nan, 1.0, np.nan, 2.0]
    for descending, expected in ((False, [2, 4, 0]), (True, [0, 4, 2])):
        keys = flow_keys(rows, sort_columns("flows", [Sort("dn", descending)]), NOW)
        assert window(keys, 0, 5).tolist()[:3] == expected
        assert window(keys, 0, 1).tolist() == expected[:1]
