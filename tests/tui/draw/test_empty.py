"""Why a table has no rows."""

from __future__ import annotations

import pytest

from rtun_core.model import RuleState, RuleView, SignalView, Snapshot
from rtun_core.view.units import Look
from rtun_tui.draw.empty import empty_text


def rule(name, state=RuleState.WAITING, **fields):
    listen = f"10.1.2.3:{5000 + int(name[1:])}"
    return RuleView(id=name, family="relay", listen=listen, target="", state=state, **fields)


def said(table, *, private=False, **fields):
    snapshot = Snapshot(
        **{"seq": 1, "ts": 0.0, "uptime_s": 0.0, "pid": 1, "version": "0", "services": ()} | fields
    )
    return empty_text(table, snapshot, Look(private=private))


def test_nothing_is_known():
    assert said("agents") == "no agent is registered"
    assert said("tunnels") == "no tunnel yet"
    assert said("flows") == "no flows yet"
    assert said("rules") == "no rules"


def test_agents_cannot_be_known_without_the_server():
    lost = SignalView(url="http://a", state="lost", since=0, reason="cannot connect to 10.1.2.3\x1b[2J")
    assert said("agents", signal=(lost,)) == "no agent is known: cannot connect to 10.1.2.3[2J"
    assert said("agents", signal=(lost,), private=True) == "no agent is known: cannot connect to 10.1.*.*[2J"
    connected = SignalView(url="http://a", state="connected", since=0)
    assert said("agents", signal=(connected,)) == "no agent is registered"


def test_tunnels_say_what_they_wait_for():
    assert (
        said("tunnels", rules=(rule("r1"), rule("r2", reason="no agent yet")))
        == "no tunnel yet: no agent yet"
    )


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ((rule("r1"),), "no flows yet: r1 listens on 10.1.2.3:5001"),
        ((rule("r1"), rule("r2"), rule("r3")), "no flows yet: r1 listens on 10.1.2.3:5001 and 2 more"),
        ((rule("r1", RuleState.PAUSED), rule("r2")), "no flows yet: r2 listens on 10.1.2.3:5002"),
        ((rule("r1", RuleState.PAUSED),), "no flows: every rule is paused"),
    ],
)
def test_flows_say_where_they_could_come(rules, text):
    assert said("flows", rules=rules) == text
