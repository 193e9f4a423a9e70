"""The line at the top, at every width."""

from __future__ import annotations

import numpy as np
import pytest

from rtun_core.engine.source import Picture, SourceStatus
from rtun_core.model import (
    AgentState,
    AgentView,
    Rates,
    RuleState,
    RuleView,
    SignalView,
    Snapshot,
    TunnelState,
    TunnelView,
)
from rtun_core.view.history import HistoryPicture
from rtun_core.view.page import Page
from rtun_core.view.units import Look
from rtun_tui.draw.frame import Brush
from rtun_tui.draw.header import header_text, rates_text, short_time
from rtun_tui.palette import MONO

BRUSH = Brush(MONO)
LIVE = SourceStatus("LIVE")
NOW = 1_000_000.0


def agent(name="beta/7f3c", state=AgentState.IN_USE, left=2462.0, tunnels=4):
    return AgentView(
        id=name, name=name, instance="", state=state, tunnels=tunnels, expires_at=left and NOW + left
    )


USED = (agent(),)


def picture(*, agents=USED, state=TunnelState.UP, drops=0.0002, rules=True, **fields):
    rule = RuleView(
        id="r1", family="udp", listen="", target="", state=RuleState.ACTIVE, tunnels_max=8, flows=7
    )
    tunnels = [
        TunnelView(id=f"t{number}", rule="r1", agent=None, state=state, kind="p2p", opened_at=0)
        for number in range(4)
    ]
    known = {
        "seq": 1,
        "ts": NOW,
        "uptime_s": 11_525.0,
        "pid": 1,
        "version": "0",
        "services": ("relay",),
        "rules": (rule,) if rules else (),
        "agents": tuple(agents),
        "tunnels": tuple(tunnels),
        "rates": Rates(up_bytes=10.525e6, down_bytes=26.575e6),
    }
    one = np.ones(60, np.float32)
    history = HistoryPicture(
        step=1.0, end=NOW, up=one, down=one, drops=one * drops, packets=one * (1 - drops), count=60
    )
    page = Page(table="flows", total=1284, shown=212, first=0, rows=(), follow=None, now=NOW)
    return Picture(snapshot=Snapshot(**known | fields), pages={"flows": page}, history=history)


def text(width, shown=None, status=LIVE, paused_for=None, **options):
    strip = header_text(shown or picture(), status, width, Look(), paused_for, brush=BRUSH, hz=4.0, **options)
    assert strip.cell_length == max(0, width)
    return strip.text.rstrip()


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (
            120,
            " rtun relay 3h12m | agent beta/7f3c exp 41m | tunnels 4/8 | flows 1,284"
            " | up 84.2 dn 212.6 Mb/s | drop 0.02% | LIVE 4Hz",
        ),
        (
            110,
            " rtun relay 3h12m | beta/7f3c 41m | tunnels 4/8 | flows 1,284"
            " | up 84.2 dn 212.6 Mb/s | drop 0.02% | LIVE 4Hz",
        ),
        (80, " rtun | beta/7f3c 41m | t 4/8 | fl 1,284 | up 84.2 dn 212.6 Mb/s | LIVE 4Hz"),
        (60, " rtun | beta/7f3c | t 4/8 | up 84.2 dn 212.6 Mb/s | LIVE"),
        (40, " rtun | up 84.2 dn 212.6 Mb/s | LIVE"),
        (10, " LIVE"),
    ],
)
def test_pieces_leave_one_by_one(width, line):
    assert text(width) == line


def test_no_piece_is_ever_cut():
    whole = {
        *("rtun relay 3h12m", "rtun relay", "rtun", "agent beta/7f3c exp 41m", "beta/7f3c 41m", "beta/7f3c"),
        *("tunnels 4/8", "t 4/8", "flows 1,284", "fl 1,284", "up 84.2 dn 212.6 Mb/s", "drop 0.02%"),
        *("LIVE 4Hz", "LIVE"),
    }
    for width in range(6, 200):
        assert set(text(width)[1:].split(" | ")) <= whole


def test_many_drops_leave_late_and_stand_out():
    shown = picture(drops=0.05)
    assert "drop 5.0%" in text(70, shown)
    assert "drop" not in text(70)
    strip = header_text(shown, LIVE, 120, Look(), None, brush=BRUSH)
    assert next(segment for segment in strip if "drop" in segment.text).style.bold


def test_a_lost_signalling_connection_is_told_as_long_as_there_is_room():
    lost = SignalView(url="http://a", state="lost", since=NOW - 190, reason="refused")
    shown = picture(signal=(SignalView(url="http://b", state="connected", since=0), lost))
    assert "| agent beta/7f3c exp 41m | signal lost 3m | tunnels 4/8 |" in text(140, shown)
    assert "| beta/7f3c | signal lost | t 4/8 |" in text(74, shown)
    assert "signal" not in text(40, shown)
    assert "signal" not in text(140)
    strip = header_text(shown, LIVE, 140, Look(), None, brush=BRUSH)
    assert next(segment for segment in strip if "signal" in segment.text).style.bold


def test_a_held_view_says_for_how_long_in_reverse():
    strip = header_text(picture(), LIVE, 120, Look(), 12.4, brush=BRUSH, hz=4.0)
    assert strip.text.rstrip().endswith("| PAUSED 12s".replace("| ", "|  "))
    assert next(segment for segment in strip if "PAUSED" in segment.text).style.reverse


@pytest.mark.parametrize(
    ("status", "end"),
    [
        (SourceStatus("LOST", "refused\x1b", NOW - 8), "LOST 8s: refused"),
        (SourceStatus("LOST", "", NOW - 8), "LOST 8s"),
        (SourceStatus("REPLAY", "", NOW - 8), "REPLAY"),
        (SourceStatus("ENDED"), "ENDED"),
        (SourceStatus("ATTACHED"), "ATTACHED 4Hz"),
    ],
)
def test_the_last_word_says_how_far_to_trust(status, end):
    assert text(140, status=status, now=NOW).endswith(end)
    paused = text(140, status=status, now=NOW, paused_for=3.0)
    assert paused.endswith("PAUSED 3s" if status.word == "ATTACHED" else end)


def test_a_long_reason_is_cut_where_one_sees_it():
    status = SourceStatus("LOST", f"no answer on the control socket /run/{'x' * 60}.sock", NOW - 8)
    assert text(200, status=status, now=NOW).endswith("/run/xxxxxxxxxxxxxxxxxxxxxx…")


def test_long_words_become_short():
    lost = SourceStatus("LOST", "the connection was refused", NOW - 8)
    assert text(12, status=lost, now=NOW).strip() == "LOST 8s"
    assert text(7, status=lost, now=NOW).strip() == "LOST"


def test_before_the_first_picture_there_is_the_word():
    assert header_text(None, LIVE, 80, Look(), None, brush=BRUSH).text.strip() == "LIVE"


def test_an_agent_is_missed_only_where_one_is_wanted():
    strip = header_text(picture(agents=()), LIVE, 120, Look(), None, brush=BRUSH)
    assert "| no agent |" in strip.text
    assert "agent" not in text(120, picture(agents=(), rules=False))


def test_the_agent_with_most_tunnels_is_named():
    agents = (agent("a/1", tunnels=1), agent("b/2", left=None), agent("c/3", AgentState.EXPIRING))
    assert "| agent b/2 +1 |" in text(140, picture(agents=agents))


def test_an_agent_that_ends_soon_stands_out():
    for left, bold in ((30.0, True), (3000.0, False)):
        strip = header_text(picture(agents=(agent(left=left),)), LIVE, 140, Look(), None, brush=BRUSH)
        assert bool(next(each for each in strip if "agent" in each.text).style.bold) is bold


def test_counts_without_a_page_or_rule():
    shown = picture(rules=False)
    assert "| tunnels 4/4 |" in text(140, shown)
    bare = Picture(snapshot=picture().snapshot, pages={}, history=shown.history)
    assert "| flows 7 |" in text(140, bare)


def test_no_tunnel_up_stands_out():
    shown = picture(state=TunnelState.OPENING)
    strip = header_text(shown, LIVE, 120, Look(), None, brush=BRUSH)
    assert next(segment for segment in strip if "tunnels 0/8" in segment.text).style.reverse


def test_the_source_names_itself():
    assert text(140, source="attached 4711\x07").startswith(" rtun attached 4711 3h12m |")


@pytest.mark.parametrize(
    ("up", "down", "look", "line"),
    [
        (0, 0, Look(), "up 0 dn 0 b/s"),
        (12, 100, Look(bits=False), "up 12 dn 100 B/s"),
        (1e3, 2e6, Look(), "up 0.0 dn 16.0 Mb/s"),
        (125e6, 1, Look(), "up 1.0 dn 0.0 Gb/s"),
        (999_960, 0, Look(bits=False), "up 1.0 dn 0.0 MB/s"),
        (2**20, 2**19, Look(bits=False, iec=True), "up 1.0 dn 0.5 MiB/s"),
        (1e40, 0, Look(), None),
    ],
)
def test_both_rates_have_one_unit(up, down, look, line):
    assert line is None or rates_text(up, down, look) == line
    assert rates_text(up, down, look).endswith("/s")


def test_times_are_short():
    assert [short_time(each) for each in (-1, 0.9, 59, 60, 3599, 3600, 86399, 90000)] == [
        *("0s", "0s", "59s", "1m", "59m", "1h00m", "23h59m", "1d01h"),
    ]
