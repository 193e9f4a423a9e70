import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.view.columns import COLUMNS, TABLES, column_named
from rtun_core.view.page import Sort
from rtun_core.view.project import project
from rtun_tui.desk import FIRST_SORT, PANES, Desk, new_table
from tests.tui.views import FLOW, but, page, snapshot


@pytest.mark.parametrize("table", TABLES)
def test_a_new_table_shows_the_default_columns_in_a_known_order(table):
    state = new_table(table, {})
    assert state.columns == tuple(column.id for column in COLUMNS[table] if column.shown)
    assert state.sort == FIRST_SORT[table]
    assert column_named(table, state.sort[0].column).id


def test_the_keyboard_goes_from_pane_to_pane():
    desk, seen = Desk(), []
    for _ in range(4):
        desk.next_pane(1)
        seen.append(desk.pane)
    assert seen == ["events", "agents", "tunnels", "flows"]
    desk.next_pane(-1)
    assert desk.pane == "tunnels"


def test_rules_are_passed_once_they_have_been_asked_for():
    desk = Desk()
    desk.focus("rules")
    assert desk.rules
    desk.next_pane(1)
    assert desk.pane == "flows"
    desk.next_pane(-1)
    assert desk.pane == "rules"


def test_without_a_place_for_the_rules_their_keyboard_goes_to_the_flows():
    desk = Desk()
    desk.focus("rules")
    desk.rules = False
    desk.next_pane(1)
    assert desk.pane == "flows"


def test_behind_the_events_is_the_table_before():
    desk = Desk()
    desk.focus("tunnels")
    desk.focus("events")
    assert (desk.pane, desk.table.table) == ("events", "tunnels")
    wish = desk.wish({"tunnels": 3})
    assert (wish.focus, wish.table, wish.rows) == ("events", "tunnels", {"tunnels": 3})


@given(steps=st.lists(st.one_of(st.sampled_from(PANES), st.sampled_from([-1, 1])), max_size=20))
def test_the_keyboard_is_always_somewhere(steps):
    desk = Desk()
    for step in steps:
        if isinstance(step, str):
            desk.focus(step)
        else:
            desk.next_pane(step)
        assert desk.pane in PANES
        assert desk.table.table == desk.last_table
        assert desk.pane in ("events", desk.last_table)
        assert desk.wish({}).rules or desk.pane != "rules"


def test_the_look_changes_in_parts():
    desk = Desk()
    desk.look_with(private=True)
    desk.look_with(bits=False)
    assert (desk.look.private, desk.look.bits, desk.look.iec) == (True, False, False)


def test_what_is_not_shown_is_only_counted():
    desk = Desk()
    desk.tables["agents"].filter = "beta"
    specs = {spec.table: spec for spec in desk.specs(frozenset({"flows", "events"}))}
    assert set(specs) == set(TABLES)
    assert specs["flows"] == desk.tables["flows"].spec()
    assert specs["flows"].sort == (Sort("dn", descending=True),)
    assert (specs["agents"].limit, specs["agents"].filter, specs["agents"].sort) == (1, "beta", ())


def test_the_drawer_in_place_of_its_table_still_gets_the_row():
    desk = Desk(detail=True)
    desk.tables["flows"].resize(10)
    specs = {spec.table: spec for spec in desk.specs(frozenset({"detail"}))}
    assert (specs["flows"].limit, specs["agents"].limit) == (30, 1)


def test_a_table_that_was_not_shown_for_a_while_keeps_its_cursor_row():
    desk = Desk()
    state = desk.tables["flows"]
    flows = [but(FLOW, id=f"{number:08x}", down_rate=float(number)) for number in range(50)]
    state.resize(10)
    state.show(page("flows", *reversed(flows)))
    state.move(20)
    key, picture = state.cursor_key, snapshot(flows=flows)
    for shown in (frozenset(), frozenset({"flows"})):
        spec = next(spec for spec in desk.specs(shown) if spec.table == "flows")
        state.show(project(picture, spec))
        assert state.cursor_key == key
    while state.needs_window():
        state.show(project(picture, state.spec()))
    assert state.current().id == key


def test_another_source_finds_no_row_chosen_and_the_first_one_all_as_it_was():
    desk = Desk(detail=True, paused_at=5.0)
    flows = desk.tables["flows"]
    flows.resize(4)
    flows.filter, flows.sort = "dn>1", (Sort("up"),)
    flows.show(page("flows", *(but(FLOW, id=f"{number:08x}") for number in range(20))))
    flows.move(9)
    flows.toggle_mark()
    before = flows.copied()
    aside = desk.set_aside()
    assert (desk.detail, desk.paused_at, flows.marks, flows.page) == (False, None, set(), None)
    assert (flows.cursor_key, flows.cursor, flows.top, flows.resting) == (None, 0, 0, True)
    assert (flows.filter, flows.sort) == ("dn>1", (Sort("up"),))
    flows.filter, flows.sort = "", ()
    desk.take_back(aside)
    assert (desk.detail, desk.paused_at) == (True, 5.0)
    assert desk.tables["flows"] is flows
    assert flows == before
