"""The registry of columns: what holds for every one of them."""

import numpy as np
import pytest

from rtun_core.errors import UsageError
from rtun_core.view.columns import COLUMNS, NUMBERS, TABLES, Kind, column_named, row_key
from tests.view.random_rows import random_rows

NOW = 1e9 + 100
ALL = [
    pytest.param(table, column, id=f"{table}-{column.id}") for table in TABLES for column in COLUMNS[table]
]
FLOWS = [pytest.param(column, id=column.id) for column in COLUMNS["flows"]]

SHOWN = {
    "flows": "FLOW SOURCE TARGET TUN STATE UP/s DN/s TOTAL IDLE MIGR",
    "agents": "NAME INST SIGNAL EXPIRES STATE",
    "tunnels": "ID REMOTE STATE RTT LOSS UP DN FL",
    "rules": "RULE LISTEN TARGET STATE AGENT TUN FL UP DN",
}
IDS = {
    "flows": "flow src dst tunnel state up dn up_total dn_total total up_pkts dn_pkts idle age migr rule",
    "tunnels": "id remote state rtt loss up dn up_total dn_total flows agent rule kind codec local quiet exp "
    "age drop pref reason",
    "agents": "name inst signal exp state rtt tunnels address version pinned reason id",
    "rules": "rule family listen dst state agent tunnels flows up dn up_total dn_total drop reason",
}
ALIASES = {
    "flows": {"tun": "tunnel", "down": "dn", "moves": "migr"},
    "tunnels": {"tunnel": "id", "fl": "flows", "expires": "exp", "drops": "drop"},
    "agents": {"instance": "inst", "expires": "exp", "agent": "name"},
    "rules": {"id": "rule", "target": "dst"},
}


@pytest.mark.parametrize("table", TABLES)
def test_the_columns_and_the_shown_ones_in_their_order(table):
    assert [column.id for column in COLUMNS[table]] == IDS[table].split()
    assert [column.title for column in COLUMNS[table] if column.shown] == SHOWN[table].split()


@pytest.mark.parametrize("table", TABLES)
def test_names_are_unique(table):
    names = [name for column in COLUMNS[table] for name in (column.id, *column.aliases)]
    assert len(set(names)) == len(names)
    assert all(name.isascii() and name.replace("_", "").isalpha() and name.islower() for name in names)


@pytest.mark.parametrize("table", TABLES)
def test_columns_are_found_by_id_and_alias(table):
    for column in COLUMNS[table]:
        assert column_named(table, column.id) is column
    for alias, name in ALIASES[table].items():
        assert column_named(table, alias).id == name


def test_an_unknown_column_is_refused_with_the_list():
    with pytest.raises(UsageError, match="'nope' is not a column of flows; accepted: flow, src, dst, "):
        column_named("flows", "nope")


@pytest.mark.parametrize(("table", "column"), ALL)
def test_every_column_is_described(table, column):
    assert column.help.endswith(".")
    assert "\n" not in column.help
    assert len(column.help) <= 80
    assert column.title
    assert column.title.isascii()


@pytest.mark.parametrize(("table", "column"), ALL)
def test_room(table, column):
    assert 1 <= column.priority <= 9
    assert 0 < column.min_width <= column.width
    assert len(column.title) <= column.width
    assert column.weight >= 0
    assert column.right == (column.kind in NUMBERS)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_keeps_a_column_without_any_room(table):
    assert any(column.priority == 1 and column.shown for column in COLUMNS[table])


@pytest.mark.parametrize(("table", "column"), ALL)
def test_twins_are_rates_and_totals_of_each_other(table, column):
    if column.twin is None:
        return
    twin = column_named(table, column.twin)
    assert twin.twin == column.id
    assert {column.kind, twin.kind} == {Kind.RATE, Kind.BYTES}
    assert column.shown != twin.shown


@pytest.mark.parametrize("column", FLOWS)
def test_arrays_of_flows_agree_with_their_values(column):
    rows = random_rows(200)
    assert (column.array is not None) == (column.kind in NUMBERS)
    if column.array is None:
        return
    array = column.array(rows, NOW)
    assert isinstance(array, np.ndarray)
    assert array.tolist() == [column.value(row, NOW) for row in rows]


@pytest.mark.parametrize("column", FLOWS)
def test_values_of_flows_have_the_type_of_their_kind(column):
    number = column.kind in NUMBERS
    for row in random_rows(50):
        value = column.value(row, NOW)
        assert value is None or isinstance(value, (int, float) if number else str)


def test_arrays_of_no_flows():
    rows = random_rows(0)
    assert [len(column.array(rows, NOW)) for column in COLUMNS["flows"] if column.array] == [0] * 10


def test_row_keys():
    row = random_rows(1)[0]
    assert row_key("flows", row) == row.id
