"""The drawer's lines, as plain text and by their roles."""

from datetime import datetime

import numpy as np
import pytest

from rtun_core.event import Stamped
from rtun_core.events import AgentSeen, FlowMoved, FlowOpened, TunnelDegraded
from rtun_core.model import RuleState, TunnelState
from rtun_core.view.history import HistoryPicture, TunnelHistory
from rtun_core.view.units import Look
from rtun_tui.draw.detail import HISTORY_LINES, Frame, detail_lines, names_of
from rtun_tui.palette import ROLE_NAMES
from tests.tui.views import AGENT, FLOW, NOW, OTHER, RULE, TUNNEL, but, snapshot

ROWS = {"agents": AGENT, "tunnels": TUNNEL, "flows": FLOW, "rules": RULE}
LEVEL = np.array([1.0, np.nan, 3.0], np.float32)
NOTHING = HistoryPicture(step=1.0, end=NOW, up=LEVEL, down=LEVEL, drops=LEVEL)
HISTORY = HistoryPicture(
    step=1.0,
    end=NOW,
    up=LEVEL,
    down=LEVEL,
    drops=LEVEL,
    tunnels={"t1": TunnelHistory(rtt=LEVEL * 10, loss=LEVEL / 100, up=LEVEL * 1e6, down=LEVEL)},
)


def frame(*, picture=None, history=NOTHING, events=(), look=Look(), width=60, **changes):  # noqa: B008
    return Frame(picture or snapshot(), history, events, look, width, **changes)


def texts(lines):
    return ["".join(piece.text for piece in line).rstrip() for line in lines]


def drawn(table, row=None, **changes):
    return texts(detail_lines(table, row or ROWS[table], frame(**changes)))


def stamped(event, seconds=0):
    return Stamped(1, NOW + seconds, 0.0, event)


def clock(ts):
    return datetime.fromtimestamp(ts).strftime("%H:%M:%S")


def test_an_agent():
    assert drawn("agents") == [
        "agent beta/7f3c",
        "",
        "state     IN USE",
        "signal    quic://a.example:8888",
        "address   198.51.100.7:443",
        "version   1.2",
        "expires   in 41m00s",
        "probe     21.0ms, 3.0s ago",
        "tunnels   4",
        "pinned    no",
        "",
        "HISTORY",
        "nothing seen yet",
    ]


def test_an_agent_of_which_little_is_known():
    bare = but(OTHER, signal="", address="", version="", rtt_ms=None, pinned=True, reason="quiet")
    lines = drawn("agents", bare)
    assert lines[2] == "state     READY  quiet"
    assert lines[3:8] == [
        "signal    -",
        "address   -",
        "version   -",
        "expires   never",
        "probe     never",
    ]
    assert "pinned    yes: no automatic switch" in lines


def test_a_tunnel():
    assert drawn("tunnels")[:16] == [
        "tunnel t1   p2p batch",
        "",
        "state     UP",
        "agent     beta/7f3c",
        "rule      r1  0.0.0.0:15353 -> 192.0.2.1:53",
        "remote    203.0.113.9:41822",
        "local     10.0.0.2:5000",
        f"opened    {clock(NOW - 60)} (60.0s ago)",
        "replaced  -",
        "rtt       18.4ms   heard 0.0s ago",
        "loss      up 0.0%  down 4.2%",
        "flows     3",
        "",
        "up          8.0kb/s    1.00kB            10 pkt",
        "down       16.0kb/s    2.00MB            20 pkt",
        "",
    ]
    assert "DROPS     none" in drawn("tunnels")


def test_a_tunnel_without_a_rule_and_with_everything_else():
    tunnel = but(
        TUNNEL, rule=None, agent=None, preferred=True, expires_at=NOW + 90, state=TunnelState.DEGRADED
    )
    lines = drawn("tunnels", tunnel)
    assert "rule      -" in lines
    assert "agent     -" in lines
    assert "replaced  in 90.0s" in lines
    assert "flows     3   new ones prefer it" in lines
    assert "rule      gone" in drawn("tunnels", but(TUNNEL, rule="gone"))


@pytest.mark.parametrize("plain", [False, True])
def test_the_last_minutes_of_a_tunnel(plain):
    lines = [line for line in drawn("tunnels", history=HISTORY, ascii=plain) if "5 min" in line]
    assert [line.split()[0] for line in lines] == ["up", "down", "rtt", "loss"]
    assert [line.split()[-1] for line in lines] == ["24.0Mb", "24b", "30.0ms", "3.0%"]
    assert all(line.isascii() for line in lines) == plain
    assert not any("5 min" in line for line in drawn("tunnels"))


def test_a_flow():
    assert drawn("flows")[:11] == [
        "flow 00a1f3e1   rule r1",
        "",
        "state     ACTIVE",
        "source    10.0.4.17:60001",
        "target    192.0.2.1:53",
        f"opened    {clock(NOW - 2520)} (42m00s ago)",
        "idle      0.4s",
        "tunnel    t1 (up)   moved 1 time",
        "",
        "up          400kb/s    31.0MB        28,114 pkt",
        "down        2.0Mb/s     176MB       151,870 pkt",
    ]


def test_the_drops_of_a_flow_are_those_of_its_rule():
    lines = drawn("flows")
    at = lines.index("DROPS of rule r1")
    assert lines[at + 1 : at + 3] == ["         3  oversize", ""]
    assert not any("DROPS" in line for line in drawn("flows", but(FLOW, rule=None)))


def test_a_flow_without_a_tunnel_waits():
    lines = drawn("flows", but(FLOW, tunnel=None, rule=None, moves=0))
    assert "tunnel    waits for a tunnel" in lines
    assert lines[0] == "flow 00a1f3e1"


def test_the_remembered_rates_of_a_flow():
    lines = drawn("flows", flow_rates=((1e6, 0.0), (2e6, 1e3)))
    assert [line.split()[-1] for line in lines if line.startswith(("up  ", "down  "))][2:] == [
        "16.0Mb",
        "8.0kb",
    ]
    first = [line.split() for line in drawn("flows") if line.startswith(("up  ", "down  "))][2:]
    assert first == [["up", "-"], ["down", "-"]]
    assert any(line.startswith("rtt 5 min") for line in drawn("flows", history=HISTORY))


def test_a_rule():
    lines = drawn("rules", but(RULE, state=RuleState.WAITING, reason="no agent"))
    assert lines[:8] == [
        "rule r1   relay",
        "",
        "state     WAITING  no agent",
        "listen    0.0.0.0:15353",
        "target    192.0.2.1:53",
        "agent     beta/7f3c",
        "tunnels   2 up, 2 to 8 wanted",
        "flows     4",
    ]


def test_a_long_event_of_the_history_goes_on_below_itself():
    opened = FlowOpened(
        flow="00a1f3e1", source="10.0.4.17:60001", target="203.0.113.77:3478", tunnel="t4", rule="r1"
    )
    lines = drawn("flows", events=[stamped(opened)], width=40)
    first, *others = lines[lines.index("HISTORY") + 1 :]
    assert first.endswith("  flow 00a1f3e1 opened:")
    assert all(line.startswith(" " * 10) and len(line) <= 40 for line in others)
    told = " ".join([first[10:], *(line.strip() for line in others)])
    assert told == opened.text()


def test_history_has_the_newest_events_of_this_very_thing():
    events = [
        stamped(AgentSeen(agent="beta/7f3c"), 1),
        stamped(AgentSeen(agent="alpha/19d0"), 2),
        stamped(AgentSeen(agent="beta/7f3c", address="10.0.4.4:1"), 3),
    ]
    lines = drawn("agents", events=events)
    assert lines[lines.index("HISTORY") + 1 :] == [
        f"{clock(NOW + 3)}  agent beta/7f3c seen from 10.0.4.4:1",
        f"{clock(NOW + 1)}  agent beta/7f3c seen",
    ]
    lines = drawn("agents", events=[stamped(AgentSeen(agent="beta/7f3c"))] * 99)
    assert len(lines) - lines.index("HISTORY") - 1 == HISTORY_LINES


def test_warnings_stand_out():
    event = TunnelDegraded(tunnel="t1", reason="loss 4.2%")
    (line,) = [
        line
        for line in detail_lines("tunnels", TUNNEL, frame(events=[stamped(event)]))
        if "degraded" in texts([line])[0]
    ]
    assert line[-1].role == "event-warn"


def test_what_an_event_is_about():
    event = FlowMoved(flow="00a1f3e1", count=1, old="t1", new="t2", reason="degraded")
    assert set(names_of(stamped(event))) >= {"00a1f3e1", "t1", "t2"}


@pytest.mark.parametrize("table", ROWS)
def test_every_role_exists_and_no_line_steers_the_terminal(table):
    evil = "a\x1b[31m\nb\u202e"
    fields = {"agents": ("name", "reason", "version"), "tunnels": ("reason", "remote"), "rules": ("reason",)}
    row = but(ROWS[table], **dict.fromkeys(fields.get(table, ("source",)), evil))
    for line in detail_lines(table, row, frame(history=HISTORY)):
        for piece in line:
            assert piece.role in ROLE_NAMES
            assert piece.text.isprintable()


@pytest.mark.parametrize("table", ROWS)
def test_private_shows_no_whole_address(table):
    agent = but(AGENT, id="beta/10.0.4.17")
    picture = snapshot(
        agents=(agent,), tunnels=(but(TUNNEL, agent=agent.id),), rules=(but(RULE, agent=agent.id),)
    )
    row = {"agents": agent, "tunnels": picture.tunnels[0], "rules": picture.rules[0], "flows": FLOW}[table]
    events = [stamped(AgentSeen(agent=agent.id, address="198.51.100.7:1"))]
    text = "\n".join(drawn(table, row, picture=picture, events=events, look=Look(private=True)))
    for address in ("10.0.4.", "10.0.0.2", "192.0.2.1", "203.0.113", "198.51.100", "a.example"):
        assert address not in text


@pytest.mark.parametrize("width", [10, 20, 300])
def test_plots_fit_the_width(width):
    for line in drawn("tunnels", history=HISTORY, width=width):
        if "5 min" in line:
            assert len(line) <= max(width, 26)
