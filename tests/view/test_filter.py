import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtun_core.flow_rows import FlowRows
from rtun_core.model import (
    AgentId,
    AgentState,
    AgentView,
    FlowId,
    FlowState,
    FlowView,
    Rates,
    RuleId,
    RuleState,
    RuleView,
    TunnelId,
    TunnelState,
    TunnelView,
)
from rtun_core.view.column import TABLES, Kind
from rtun_core.view.columns import COLUMNS
from rtun_core.view.filter import RowFilter, compile_filter
from rtun_core.view.filter_text import And, Compare, FilterError, Named, Not, Or, Word, parse_filter
from tests.view.filter_trees import OPS, texts

NOW = 10_000.0
SOURCES = ["10.0.4.17:51422", "10.0.9.2:33000", "11.0.0.1:53", "[::1]:53", "[fd00::2]:40011", "-"]
TARGETS = ["8.8.8.8:53", "dns.example:53", "[2001:db8::1]:443", ""]


def flow(number: int = 0xA1F3C2, **changes) -> FlowView:
    given = {
        "rule": RuleId("r1"),
        "source": SOURCES[0],
        "target": TARGETS[0],
        "tunnel": TunnelId("t4"),
        "state": FlowState.ACTIVE,
        "opened_at": NOW - 60,
        "idle_s": 0.5,
    }
    return FlowView(id=FlowId(f"{number:08x}"), **{**given, **changes})


def tunnel(name: str = "t5", **changes) -> TunnelView:
    given = {
        "rule": RuleId("r1"),
        "agent": AgentId("beta/7f3c"),
        "state": TunnelState.UP,
        "kind": "p2p",
        "opened_at": NOW - 60,
        "local": "10.0.0.2:4444",
        "remote": "203.0.113.9:41822",
    }
    return TunnelView(id=TunnelId(name), **{**given, **changes})


def agent(name: str = "eu-beta", **changes) -> AgentView:
    given = {"instance": "7f3c", "state": AgentState.IN_USE, "expires_at": NOW + 300}
    return AgentView(id=AgentId(f"{name}/7f3c"), name=name, **{**given, **changes})


def rule(**changes) -> RuleView:
    given = {"family": "udp", "listen": "127.0.0.1:53", "target": "8.8.8.8:53", "state": RuleState.ACTIVE}
    return RuleView(id=RuleId("r1"), **{**given, **changes})


def compiled(text: str, table: str = "flows", **more) -> RowFilter:
    return compile_filter(parse_filter(text), table, **more)


def passes(text: str, row: object, table: str = "flows", **more) -> bool:
    found = compiled(text, table, **more).matches(row, NOW)
    if table == "flows":
        assert compiled(text, table, **more).mask(FlowRows.of([row]), NOW).tolist() == [found]
    return found


@pytest.mark.parametrize(
    ("text", "row", "other"),
    [
        ("idle>30s", {"idle_s": 31.0}, {"idle_s": 30.0}),
        ("src=10.0.0.0/8 dn>1M", {"down_rate": 125_001.0}, {"down_rate": 125_000.0}),
        ("src=10.0.0.0/8 dn>1M", {"down_rate": 2e6}, {"down_rate": 2e6, "source": SOURCES[2]}),
        ("tunnel=t4 !state=idle", {}, {"state": FlowState.IDLE}),
        ("tunnel=t4 !state=idle", {}, {"tunnel": TunnelId("t5")}),
        ("tunnel=t4|t5", {"tunnel": TunnelId("t5")}, {"tunnel": TunnelId("t45")}),
        ("src:10.0. idle<2m", {"idle_s": 119.0}, {"idle_s": 120.0}),
    ],
)
def test_examples_of_the_guide(text, row, other):
    assert passes(text, flow(**row))
    assert not passes(text, flow(**other))


def test_the_guide_has_marks():
    assert passes("@marked", flow(), marks=["00a1f3c2"])
    assert not passes("@marked", flow(), marks=["00a1f3c3", "a1f3c2", "t4", "00A1F3C2"])


def test_the_guide_has_agents_and_tunnels():
    assert passes("name~^eu- exp<10m", agent(), "agents")
    assert not passes("name~^eu- exp<10m", agent("us-beta"), "agents")
    assert not passes("name~^eu- exp<10m", agent(expires_at=NOW + 601), "agents")
    assert passes("agent~^eu- exp<10m", tunnel(agent=AgentId("eu-1/a"), expires_at=NOW + 60), "tunnels")
    assert passes("drop>0 or state=draining", tunnel(drops={"oversize": 1}), "tunnels")
    assert passes("drop>0 or state=draining", tunnel(state=TunnelState.DRAINING), "tunnels")
    assert not passes("drop>0 or state=draining", tunnel(), "tunnels")


def test_rules_are_filtered_too():
    assert passes("listen=127.0.0.0/8 up<=8M", rule(rates=Rates(up_bytes=1e6)), "rules")
    assert passes('active "8.8.8"', rule(), "rules")


def test_no_filter_passes_everything():
    assert passes("", flow())
    assert passes("@all", flow())


@pytest.mark.parametrize(
    "text", ["T4", "10.0.4", "8.8.8.8", "R1", "ACTIVE", "A1F3", "00a1f3c2", '""', "src:10.0", "state=ACTIVE"]
)
def test_a_word_is_looked_for_in_every_text_column(text):
    assert passes(text, flow())


@pytest.mark.parametrize("text", ["t5", "10.0.5", "idle", "a1f3c20", "0a1f3c21", "x", "00000000000000000"])
def test_a_word_that_no_column_holds(text):
    assert not passes(text, flow())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("src=10.0.4.17", True),
        ("src=10.0.4.17:51422", True),
        ("src=10.0.4.17:53", False),
        ("src=::1|10.0.0.0/8", True),
        ("src!=10.0.0.0/8", False),
        ("src!=::/0", True),
        ("src~^10[.]", True),
        ("src=localhost", False),
        ("dst=8.8.8.8", True),
        ("dst=8.8.8.8:54", False),
        ("flow=00A1F3C2", True),
        ("flow=a1f3c2", False),
        ("flow~c2$", True),
        ("flow:f3|zz", True),
        ("up_pkts=0", True),
        ("age>=60", True),
        ("age<1m", False),
    ],
)
def test_columns_of_flows(text, found):
    assert passes(text, flow()) is found


def test_hosts_by_name():
    named = flow(target="dns.example:53")
    assert passes("dst=DNS.example", named)
    assert passes("dst=dns.example:53", named)
    assert not passes("dst=dns", named)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tunnel=t4", False),
        ("tunnel:t", False),
        ("tunnel~.", False),
        ("tunnel!=t4", True),
        ("!tunnel=t4", True),
        ("tunnel!=t4|t5", True),
    ],
)
def test_a_missing_text_only_differs(text, found):
    assert passes(text, flow(tunnel=None)) is found


@pytest.mark.parametrize(
    ("text", "found"), [("rtt<9s", False), ("rtt>=0", False), ("rtt=0", False), ("rtt!=0", True)]
)
def test_a_missing_number_only_differs(text, found):
    assert passes(text, tunnel(), "tunnels") is found


def test_different_from_a_list_is_different_from_all():
    assert passes("tunnel!=t5|t6", flow())
    assert not passes("tunnel!=t5|t4", flow())


def test_names_stand_for_filters():
    named = {
        "mine": "src=10.0.0.0/8 @quick",
        "quick": "idle<1s",
        "blank": " ",
        "loop": "a @loop",
        "bad": "x>",
    }
    assert passes("@mine", flow(), named=named)
    assert not passes("!@mine", flow(), named=named)
    assert passes("@blank", flow(), named=named)
    for text, message in {
        "@loop": "in @loop: @loop is made of itself",
        "@bad": "in @bad: a value must follow",
        "@none": "@none is not known; known are @all, @bad, @blank, @loop, @marked, @mine, @quick",
    }.items():
        with pytest.raises(FilterError, match=message) as caught:
            compiled(f"t4 {text}", named=named)
        assert caught.value.column == 3


@pytest.mark.parametrize(
    ("text", "table", "column", "message"),
    [
        ("a quic://x", "flows", 2, "not a column of flows; accepted: .*src"),
        ("a src>3", "flows", 5, "src.*accepted are : = != ~$"),
        ("state>=idle", "flows", 5, "state.*accepted are : = != ~$"),
        ("idle~3", "flows", 4, "idle.*accepted are : = != > >= < <=$"),
        ("pinned>no", "agents", 6, "pinned.*accepted are : = !=$"),
        ("pinned=maybe", "agents", 7, "neither yes nor no"),
        ("idle>3|4w", "flows", 7, '"4w" is not a time'),
        ("dn > 3x", "flows", 5, '"3x" is not a rate'),
        ("loss>4", "tunnels", 5, '"4" is not a share'),
        ("src=10.0.0.0/33", "flows", 4, "no address or network"),
        ("src~ab(c)|a**b", "flows", 12, "multiple repeat"),
        ('src~"a**"', "flows", 7, "multiple repeat"),
        ("a @nobody", "flows", 2, "@nobody is not known"),
    ],
)
def test_mistakes_have_a_column(text, table, column, message):
    with pytest.raises(FilterError, match=message) as caught:
        compiled(text, table)
    assert caught.value.column == column


def test_flags_of_agents():
    assert passes("pinned=yes", agent(pinned=True), "agents")
    assert passes("pinned:off", agent(), "agents")
    assert passes("pinned!=yes", agent(), "agents")


GOOD_VALUES = {
    Kind.COUNT: ["0", "1", "4k"],
    Kind.BYTES: ["0", "512", "1.5k"],
    Kind.RATE: ["0", "8k", "1kB"],
    Kind.SECONDS: ["0", "30s", "1m"],
    Kind.MILLIS: ["0", "20ms"],
    Kind.SHARE: ["0", "4%"],
    Kind.FLAG: ["yes", "no"],
    Kind.TEXT: ["t4", "T5", "r", "", "00a1f3c2", "f3", "0"],
    Kind.STATE: ["idle", "ACTIVE", "e"],
    Kind.ADDRESS: ["10.0.0.0/8", "::/0", "::1", "10.0.4.17:51422", "dns.example", "-", "localhost", ""],
}
PATTERNS = ["^1", "5$", "[a-f]", "^$", "-"]
ROWS = {"flows": flow(), "tunnels": tunnel(), "agents": agent(), "rules": rule()}


@pytest.mark.parametrize("table", TABLES)
def test_every_column_can_be_filtered(table):
    for column in COLUMNS[table]:
        for name in (column.id, *column.aliases):
            value = GOOD_VALUES[column.kind][0]
            assert passes(f"{name}={value}", ROWS[table], table) != passes(
                f"{name}!={value}", ROWS[table], table
            )


numbers = st.sampled_from([0, 1, 512, 1500, 4000, 2**60])
rates = st.sampled_from([0.0, 1000.0, 125_000.0, float("nan")])
times = st.sampled_from([0.0, 0.5, 30.0, 60.0, 9_000.0, float("nan")])
flows = st.builds(
    flow,
    st.one_of(st.integers(0, 0xFFFFFFFF), st.sampled_from([0xF3, 0xA1F3C2, 0xF300000000, 2**64 - 1])),
    rule=st.sampled_from([None, RuleId("r1"), RuleId("r2")]),
    source=st.sampled_from(SOURCES),
    target=st.sampled_from(TARGETS),
    tunnel=st.sampled_from([None, TunnelId("t4"), TunnelId("t5")]),
    state=st.sampled_from(FlowState),
    opened_at=st.sampled_from([0.0, NOW - 60, NOW + 5]),
    idle_s=times,
    up_packets=numbers,
    down_packets=numbers,
    up_bytes=numbers,
    down_bytes=numbers,
    up_rate=rates,
    down_rate=rates,
    moves=numbers,
)


def comparisons() -> st.SearchStrategy[Compare]:
    def values_of(column_and_op) -> st.SearchStrategy[Compare]:
        column, op = column_and_op
        pool = PATTERNS if op == "~" else GOOD_VALUES[column.kind]
        lists = st.lists(st.sampled_from(pool), min_size=1, max_size=2).map(tuple)
        return lists.map(lambda values: Compare(column.id, op, values))

    def works(column_and_op) -> bool:
        column, op = column_and_op
        return op in ("=", "!=", ":") or (op == "~") == (column.kind in (Kind.TEXT, Kind.STATE, Kind.ADDRESS))

    pairs = st.tuples(st.sampled_from(COLUMNS["flows"]), st.sampled_from(OPS)).filter(works)
    return pairs.flatmap(values_of)


words = st.sampled_from(["f3", "0", "t4", "10.", "IDLE", "dns", "", "ffffffffffffffff", "a1f3c2", "-"]).map(
    Word
)
trees = st.recursive(
    st.one_of(comparisons(), words, st.just(Named("marked"))),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda terms: And(tuple(terms))),
        st.lists(inner, min_size=2, max_size=3).map(lambda terms: Or(tuple(terms))),
        inner.map(Not),
    ),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(trees, st.lists(flows, max_size=6), st.lists(flows, max_size=3))
def test_all_flows_at_once_and_one_by_one_agree(tree, first, second):
    rows = FlowRows.join([FlowRows.of(first), FlowRows.of(second)])
    found = compile_filter(tree, "flows", marks=[row.id for row in first[:2]])
    mask = found.mask(rows, NOW)
    assert mask.dtype == bool
    assert mask.tolist() == [found.matches(row, NOW) for row in rows]


near_comparisons = st.builds(
    "{}{}{}".format, st.sampled_from(["src", "idle", "dn", "flow"]), st.sampled_from(OPS), texts
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(texts, near_comparisons))
def test_any_text_compiles_or_tells_where_it_fails(text):
    column = 0
    try:
        compiled(text)
    except FilterError as error:
        column = error.column
    assert 0 <= column <= len(text)
