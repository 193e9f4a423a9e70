import pytest

from rtun_core.view.page import Sort
from rtun_tui.desk import PANES, new_table
from rtun_tui.draw.headings import heading, note, places, short_heading, sort_text
from rtun_tui.keymap import Keymap
from rtun_tui.table_state import TableState
from tests.tui.views import FLOW, page


def table(**changes):
    state = TableState(table="flows", **changes)
    state.show(page("flows", FLOW, total=1284, shown=212))
    return state


def test_what_is_shown_of_how_many():
    assert heading("flows", table()) == "3 Flows 212 of 1,284"
    assert short_heading("flows", table()) == "3 Flows 212/1,284"


def test_all_are_shown():
    state = TableState(table="agents")
    state.show(page("agents", total=5, shown=5))
    assert heading("agents", state) == "1 Agents 5"


def test_a_filter_that_takes_long_says_so():
    state = table(filter="dn>1M", sort=(Sort("dn"),))
    assert note(state, ascii=True, sign="80 ms") == "filter (80 ms): dn>1M  by dn ^"
    state.filter_on = False
    assert note(state, ascii=True, sign="filtering") == "filter off (filtering): dn>1M  by dn ^"
    state.filter = ""
    assert note(state, ascii=True, sign="filtering") == "filter (filtering)  by dn ^"


def test_another_key_leads_there_or_none():
    assert heading("flows", table(), key="F3") == "F3 Flows 212 of 1,284"
    assert short_heading("flows", table(), key="") == "Flows 212/1,284"


@pytest.mark.parametrize("pane", PANES)
def test_every_pane_has_its_key_and_name(pane):
    assert heading(pane) == f"{Keymap().display(f'pane.{pane}')} {pane.capitalize()}"
    assert short_heading(pane, None) == heading(pane)


@pytest.mark.parametrize(
    ("sort", "plain", "drawn"),
    [
        ((), "", ""),
        ((Sort("dn", True),), "by dn v", "by dn ▾"),
        ((Sort("dn"),), "by dn ^", "by dn ▴"),
        ((Sort("tun"), Sort("down", True)), "by tunnel,dn ^", "by tunnel,dn ▴"),
    ],
)
def test_the_order(sort, plain, drawn):
    state = TableState(table="flows", sort=sort)
    assert (sort_text(state, ascii=True), sort_text(state)) == (plain, drawn)


def test_the_note_has_marks_filter_and_order():
    state = table(filter="dn>1M", marks={"a", "b"}, sort=(Sort("dn", True),))
    assert note(state, ascii=True) == "2 marked  filter: dn>1M  by dn v"
    state.filter_on = False
    state.marks.clear()
    assert note(state, ascii=True) == "filter off: dn>1M  by dn v"
    assert note(TableState(table="flows")) == ""
    assert note(new_table("flows", {}), ascii=True) == "by dn v"


@pytest.mark.parametrize(
    ("shown", "top", "height", "text"),
    [
        (1276, 0, 25, "1-25 of 1,276"),
        (1276, 1270, 25, "1,252-1,276 of 1,276"),
        (25, 0, 25, ""),
        (0, 0, 25, ""),
        (26, 1, 25, "2-26 of 26"),
    ],
)
def test_which_rows_are_in_sight(shown, top, height, text):
    state = TableState(table="flows", height=height)
    state.show(page("flows", total=shown, shown=shown))
    state.scroll(top)
    assert places(state) == text
