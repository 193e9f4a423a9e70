"""Pages of snapshots."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtun_core.errors import UsageError
from rtun_core.flow_rows import FlowRows
from rtun_core.model import (
    AgentState,
    AgentView,
    RuleState,
    RuleView,
    Snapshot,
    TunnelState,
    TunnelView,
)
from rtun_core.view.columns import COLUMNS
from rtun_core.view.filter_text import FilterError
from rtun_core.view.page import MAX_LIMIT, Sort, ViewSpec
from rtun_core.view.project import as_flow_rows, project, select_keys
from rtun_core.view.row_order import natural_key
from tests.lazy import encode_lazy
from tests.view.random_rows import random_rows

NOW = 1e9
DOWN = (Sort("dn", True),)
FILTERS = st.sampled_from(["", "idle>30s", "tunnel=t2|t10", "dn>1k !state=idle", "8.8", "nothing-like-it"])
SORTS = st.lists(
    st.builds(Sort, st.sampled_from([column.id for column in COLUMNS["flows"]]), st.booleans()), max_size=2
)


def snapshot(**tables):
    return Snapshot(seq=1, ts=NOW, uptime_s=1.0, pid=1, version="1", services=("relay",), **tables)


def tunnel(number, *, state=TunnelState.UP, flows=0, rtt=None):
    return TunnelView(
        id=f"t{number}", rule="r1", agent="a", state=state, kind="p2p", opened_at=NOW, flows=flows, rtt_ms=rtt
    )


def ids(page):
    return [row.id for row in page.rows]


TUNNELS = (
    tunnel(10, flows=3, rtt=9.0),
    tunnel(2, flows=9),
    tunnel(1, flows=3, state=TunnelState.DRAINING, rtt=30.0),
)


# ---- small tables -------------------------------------------------------------------------------------


def test_a_table_stands_in_the_order_of_its_ids():
    page = project(snapshot(tunnels=TUNNELS), ViewSpec(table="tunnels"))
    assert ids(page) == ["t1", "t2", "t10"]
    assert (page.table, page.total, page.shown, page.first, page.follow, page.now) == (
        "tunnels",
        3,
        3,
        0,
        None,
        NOW,
    )


def test_filtered_sorted_and_followed():
    shot = snapshot(tunnels=TUNNELS)
    page = project(shot, ViewSpec(table="tunnels", sort=(Sort("fl", True),), follow="t10"))
    assert (ids(page), page.follow) == (["t2", "t1", "t10"], 2)
    page = project(shot, ViewSpec(table="tunnels", filter="state=up", sort=(Sort("rtt"),), follow="t1"))
    assert (ids(page), page.follow) == (["t10", "t2"], None)
    assert (page.total, page.shown) == (3, 2)


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("rules", RuleView(id="r1", family="relay", listen="a", target="b", state=RuleState.ACTIVE)),
        ("agents", AgentView(id="a/b", name="a", instance="b", state=AgentState.LOST)),
        ("tunnels", TUNNELS[0]),
    ],
)
def test_every_column_of_every_table_can_be_sorted_by(table, row):
    for column in COLUMNS[table]:
        spec = ViewSpec(table=table, sort=(Sort(column.id, True),), follow=row.id)
        page = project(snapshot(**{table: (row,)}), spec)
        assert (page.rows, page.follow) == ((row,), 0)


def test_windows():
    shot = snapshot(tunnels=tuple(map(tunnel, range(10))))
    page = project(shot, ViewSpec(table="tunnels", offset=3, limit=2, follow="t9"))
    assert (ids(page), page.first, page.follow) == (["t3", "t4"], 3, 9)
    page = project(shot, ViewSpec(table="tunnels", offset=99, limit=4))
    assert (ids(page), page.first) == (["t6", "t7", "t8", "t9"], 6)
    page = project(shot, ViewSpec(table="tunnels", filter="id=t5", offset=3, limit=4))
    assert (ids(page), page.first, page.shown) == (["t5"], 0, 1)


# ---- flows --------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(0, 300), FILTERS, SORTS, st.integers(0, 320), st.integers(1, 40))
@settings(deadline=None, max_examples=100)
def test_a_page_of_flows_is_what_their_rows_ask_for(seed, count, text, sorts, offset, limit):
    rows = random_rows(count, seed)
    spec = ViewSpec(table="flows", filter=text, sort=tuple(sorts), offset=offset, limit=limit)
    page = project(snapshot(flows=rows), spec)
    keys = set(select_keys(snapshot(flows=rows), "flows", text))
    assert (page.total, page.shown) == (count, len(keys))
    assert page.first == max(0, min(offset, len(keys) - limit))
    assert len(page.rows) == min(limit, page.shown)
    assert set(ids(page)) <= keys
    everything = project(
        snapshot(flows=rows), ViewSpec(table="flows", filter=text, sort=spec.sort, limit=2000)
    )
    assert page.rows == everything.rows[page.first : page.first + limit]


@given(st.integers(0, 2**31), st.booleans())
@settings(deadline=None, max_examples=20)
def test_the_followed_flow_is_where_its_row_is(seed, descending):
    rows = random_rows(60, seed)
    for key in (rows[7].id, rows[59].id):
        spec = ViewSpec(table="flows", sort=(Sort("dn", descending),), filter="idle<50", follow=key, limit=60)
        page = project(snapshot(flows=rows), spec)
        assert page.follow == (ids(page).index(key) if key in ids(page) else None)


def test_a_flow_that_is_gone_is_not_followed():
    spec = ViewSpec(table="flows", follow="ffffffff")
    assert project(snapshot(flows=random_rows(5)), spec).follow is None


def test_flows_are_taken_in_every_form():
    rows = random_rows(50)
    spec = ViewSpec(table="flows", sort=DOWN, filter="idle<80", limit=20)
    page = project(snapshot(flows=rows), spec)
    assert project(snapshot(flows=list(rows)), spec) == page
    data = msgspec.json.encode(snapshot(flows=rows), enc_hook=encode_lazy)
    assert project(msgspec.json.decode(data, type=Snapshot), spec) == page
    assert as_flow_rows(rows) is rows
    assert isinstance(as_flow_rows(()), FlowRows)


def test_rows_without_a_sort_are_in_the_order_of_their_ids():
    page = project(snapshot(flows=random_rows(40)), ViewSpec(table="flows"))
    assert ids(page) == sorted(ids(page))


def test_the_fastest_come_first():
    rows = random_rows(1000)
    page = project(snapshot(flows=rows), ViewSpec(table="flows", sort=DOWN, limit=10))
    fastest = sorted(rows, key=lambda row: (-row.down_rate, row.id))[:10]
    assert list(page.rows) == fastest


def test_tunnels_of_flows_are_in_natural_order():
    page = project(snapshot(flows=random_rows(50)), ViewSpec(table="flows", sort=(Sort("tun"),)))
    names = [row.tunnel for row in page.rows]
    some = [name for name in names if name is not None]
    assert some == sorted(some, key=natural_key)
    assert names == some + [None] * (50 - len(some))


# ---- marks, selections --------------------------------------------------------------------------------


def test_marked_rows():
    rows = random_rows(9)
    keys = sorted((rows[2].id, rows[5].id))
    spec = ViewSpec(table="flows", filter="@marked", marks=tuple(keys))
    assert ids(project(snapshot(flows=rows), spec)) == keys
    shot = snapshot(tunnels=TUNNELS)
    assert ids(project(shot, ViewSpec(table="tunnels", filter="@marked", marks=("t2", "t99")))) == ["t2"]


def test_selected_keys():
    shot = snapshot(tunnels=TUNNELS, flows=random_rows(9))
    assert select_keys(shot, "tunnels", "") == ["t10", "t2", "t1"]
    assert select_keys(shot, "tunnels", "state=up @mine", named={"mine": "fl>5"}) == ["t2"]
    assert select_keys(shot, "flows", "") == [row.id for row in shot.flows]
    assert select_keys(shot, "flows", "@marked", marks=[shot.flows[3].id]) == [shot.flows[3].id]


# ---- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"table": "nope"}, "table"),
        ({"offset": -1}, "offset"),
        ({"limit": 0}, "limit"),
        ({"limit": MAX_LIMIT + 1}, "limit"),
        ({"sort": DOWN * 9}, "sort"),
        ({"marks": ("x",) * 10_001}, "marks"),
        ({"filter": " " * 2001}, "filter"),
        ({"sort": (Sort("nope"),)}, "nope"),
    ],
)
def test_bad_specs(fields, word):
    with pytest.raises(UsageError, match=word):
        project(snapshot(), ViewSpec(**{"table": "flows", **fields}))


@pytest.mark.parametrize("table", ["flows", "agents"])
def test_a_bad_filter_has_a_place(table):
    with pytest.raises(FilterError) as caught:
        project(snapshot(), ViewSpec(table=table, filter="state=up nope>5"))
    assert caught.value.column == 9


def test_no_rows():
    for table in COLUMNS:
        page = project(
            snapshot(), ViewSpec(table=table, sort=(Sort(COLUMNS[table][0].id),), offset=9, follow="x")
        )
        assert (page.total, page.shown, page.first, page.rows, page.follow) == (0, 0, 0, (), None)
