"""What keys and `@names` are about, wherever the rows are."""

from __future__ import annotations

import pytest

from rtun_core.model import FlowView
from rtun_core.view.page import Page
from rtun_tui.chosen import context_of, selectors_of
from rtun_tui.table_state import TableState
from tests.tui.views import FLOW, but, snapshot

ROWS = tuple(but(FLOW, id=f"0000000{number}") for number in range(4))
IDS = tuple(row.id for row in ROWS)


class Knowing:
    """A source that knows every row that passes, or none of them."""

    def __init__(self, *keys, knows=True):
        self._keys = list(keys) if knows else None
        self.asked = []

    def select(self, spec):
        self.asked.append(spec)
        return self._keys


@pytest.fixture
def state():
    state = TableState(table="flows", height=4)
    state.show(Page(table="flows", total=9, shown=9, first=0, rows=ROWS, follow=None, now=0.0))
    return state


def test_without_marks_nobody_is_asked(state):
    source = Knowing()
    context = context_of(state, source, snapshot())
    assert isinstance(context.row, FlowView)
    assert (context.row.id, context.marked, context.hidden, source.asked) == (IDS[0], (), 0, [])


def test_of_the_marked_rows_those_that_pass(state):
    state.marks = {IDS[1], IDS[3], "00000009"}
    context = context_of(state, Knowing(IDS[3], IDS[1]), snapshot())
    assert (context.marked, context.hidden) == ((IDS[1], IDS[3]), 1)
    assert context.rules == {FLOW.rule}


def test_where_only_the_engine_knows_the_window_decides(state):
    state.marks = {IDS[1], "00000009"}
    assert context_of(state, Knowing(knows=False), snapshot()).hidden == 0
    state.filter = "dn>1"
    assert context_of(state, Knowing(knows=False), snapshot()).marked == (IDS[1],)


def test_names_of_flows(state):
    state.marks = {IDS[2], IDS[1]}
    names = selectors_of(state, Knowing(*IDS))
    assert names["@focus"]() == [IDS[0]]
    assert names["@marked"]() == [IDS[1], IDS[2]]
    assert names["@shown"]() == list(IDS)


def test_names_that_only_the_engine_can_resolve(state):
    names = selectors_of(state, Knowing(knows=False))
    assert names["@shown"]() == ["@all"]
    state.filter = "dn>1"
    assert names["@shown"]() == ["dn>1"]
    state.page = None
    assert names["@focus"]() == []
