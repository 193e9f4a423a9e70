"""Cells: values as text that is safe to draw."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.model import (
    AgentState,
    AgentView,
    Rates,
    RuleState,
    RuleView,
    Traffic,
    TunnelState,
    TunnelView,
)
from rtun_core.view.cells import cell_text, visible
from rtun_core.view.columns import COLUMNS, Look, column_named
from tests.view.random_rows import random_rows

NOW = 1e9
PLAIN, PRIVATE = Look(), Look(private=True)
AGENT = AgentView(
    id="beta/10.0.0.9",
    name="beta",
    instance="10.0.0.9",
    state=AgentState.READY,
    signal="quic://a.ex:8888",
    address="192.0.2.1:5",
    expires_at=NOW + 2462,
    rtt_ms=21.3,
)
TUNNEL = TunnelView(
    id="t5",
    rule="r1",
    agent=None,
    state=TunnelState.DEGRADED,
    kind="p2p",
    opened_at=NOW - 5,
    remote="203.0.113.9:41822",
    rtt_ms=18.4,
    loss_up=0.01,
    loss_down=0.042,
    preferred=True,
    flows=1284,
    rates=Rates(down_bytes=12_275_000),
    traffic=Traffic(up_bytes=1_440_000_000),
    drops={"oversize": 2, "kernel": 3},
)
RULE = RuleView(
    id="r1", family="relay", listen="a", target="b", state=RuleState.ACTIVE, tunnels_up=4, tunnels_max=8
)


def cell(table, name, row, look=PLAIN):
    return cell_text(column_named(table, name), row, look, NOW)


@pytest.mark.parametrize(
    ("table", "row", "cells"),
    [
        ("agents", AGENT, {"name": "beta", "exp": "41m02s", "state": "ready 21.3ms", "rtt": "21.3ms"}),
        ("agents", AGENT, {"pinned": "no", "reason": "-", "tunnels": "0", "signal": "quic://a.ex:8888"}),
        ("tunnels", TUNNEL, {"id": "t5", "state": "degraded", "rtt": "18.4ms", "loss": "4.2%"}),
        ("tunnels", TUNNEL, {"dn": "98.2Mb", "up": "0", "up_total": "1.44GB", "flows": "1284"}),
        ("tunnels", TUNNEL, {"drop": "5", "pref": "yes", "exp": "-", "age": "5.0s", "agent": "-"}),
        ("rules", RULE, {"tunnels": "4/8", "state": "active", "agent": "-", "listen": "a"}),
    ],
)
def test_cells(table, row, cells):
    assert {name: cell(table, name, row) for name in cells} == cells


def test_the_state_of_an_agent_is_a_plain_word_unless_it_is_ready():
    for state in AgentState:
        row = AgentView(id="a", name="a", instance="", state=state)
        assert cell("agents", "state", row) == state.value


def test_private_cells():
    assert cell("agents", "address", AGENT, PRIVATE) == "192.0.*.*:5"
    assert cell("agents", "signal", AGENT, PRIVATE) == "quic://*.ex:8888"
    assert cell("agents", "id", AGENT, PRIVATE) == "beta/10.0.*.*"
    assert cell("tunnels", "remote", TUNNEL, Look(private=True, bits=False)) == "203.0.*.*:41822"


@pytest.mark.parametrize("column", COLUMNS["flows"], ids=lambda column: column.id)
def test_every_cell_of_flows_has_a_text(column):
    for row in random_rows(30):
        text = cell_text(column, row, PLAIN, NOW)
        assert text
        assert text.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("beta", "beta"),
        ("Zürich Δ", "Zürich Δ"),
        ("red\x1b[31m", "red[31m"),
        ("two\nlines\tand tab", "two lines and tab"),
        ("a\u202eb\u200bc\u2066", "abc"),
        ("\x00\x9b", ""),
        ("", ""),
    ],
)
def test_what_steers_a_terminal_is_left_out(text, shown):
    assert visible(text) == shown


@given(st.text())
def test_visible_text_is_printable(text):
    assert visible(text).isprintable()
    assert visible(visible(text)) == visible(text)


def test_names_from_elsewhere_are_made_visible():
    row = AgentView(id="x", name="a\x1b]0;x\x07", instance="\u202e1", state=AgentState.LOST)
    assert cell("agents", "name", row) == "a]0;x"
    assert cell("agents", "inst", row) == "1"
