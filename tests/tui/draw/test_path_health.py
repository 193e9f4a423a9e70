"""What is said about the ways of tunnels."""

from __future__ import annotations

import numpy as np
import pytest

from rtun_core.model import TunnelState, TunnelView
from rtun_core.view.history import HistoryPicture, TunnelHistory
from rtun_tui.draw.frame import Brush
from rtun_tui.draw.path_health import (
    fit_scale,
    health_line,
    health_lines,
    health_strip,
    id_room,
    is_worse,
    new_scale,
)
from rtun_tui.palette import MONO

BRUSH = Brush(MONO)
ASCII = Brush(MONO, ascii=True)


def view(name="t5", state=TunnelState.UP, rtt=18.4, loss=0.0, flows=67):
    return TunnelView(
        id=name,
        rule="r1",
        agent="a",
        state=state,
        kind="p2p",
        opened_at=0.0,
        rtt_ms=rtt,
        loss_up=loss,
        flows=flows,
    )


def past(rtt, loss=0.0):
    def filled(value):
        return np.broadcast_to(np.asarray(value, np.float32), 300).copy()

    return TunnelHistory(filled(rtt), filled(loss), filled(0), filled(0))


def late(before, after, seconds=120):
    return np.concatenate((np.full(300 - seconds, before), np.full(seconds, after)))


def picture(**tunnels):
    nothing = np.zeros(300, np.float32)
    return HistoryPicture(
        step=1.0, end=1e9, up=nothing, down=nothing, drops=nothing, tunnels=tunnels, count=300
    )


def text(line, width=58, mode="rtt", brush=BRUSH, top=100.0):
    return health_strip(line, width, brush, mode=mode, top=top, count=300).text


@pytest.mark.parametrize(
    ("history", "worse"),
    [
        (past(20), False),
        (past(late(20, 60)), True),
        (past(late(20, 24)), False),  # not by much
        (past(late(1, 3)), False),  # three times nothing is nothing
        (past(late(60, 20)), False),  # better
        (past(late(20, 500, seconds=3)), False),  # a few late packets
        (past(20, late(0.0, 0.05)), True),
        (past(20, late(0.0, 0.004)), False),
        (past(20, late(0.04, 0.05)), False),
        (past(np.nan, np.nan), False),
        (past(late(np.nan, 60)), False),  # nothing to compare with
        (past(late(20, np.nan)), False),
        (past(late(np.nan, 60), late(np.nan, 0.3)), False),
    ],
)
def test_worse_is_clearly_above_the_usual(history, worse):
    assert is_worse(history) is worse


def test_a_line_says_it_all():
    assert text(health_line(view(), past(20))) == "t5   18.4ms ▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂   0.0%".ljust(58)
    assert text(health_line(view(loss=0.042), past(late(20, 96)))).endswith("4.2%  <- worse 2m     ")


def test_loss_can_be_drawn_instead():
    line = text(health_line(view(loss=0.042), past(20, 0.05)), mode="loss", top=0.1)
    assert line.startswith("t5    4.2% ▄▄▄▄▄")
    assert "18.4ms" in line


def test_a_narrow_line_has_a_short_note_or_none():
    draining = health_line(view(state=TunnelState.DRAINING), past(20))
    assert text(draining).endswith("  draining 67 left")
    assert text(draining, 45).endswith("  67 left ")
    assert "left" not in text(draining, 30)
    many = health_line(view(state=TunnelState.DRAINING, flows=12345), None)
    assert text(many).rstrip().endswith("  12345 left")


@pytest.mark.parametrize("width", [0, 1, 8, 20, 37, 38, 51, 52, 120])
@pytest.mark.parametrize("brush", [BRUSH, ASCII])
def test_a_line_has_its_width(width, brush):
    for each in (health_line(view("tunnel-with-a-name"), past(20)), health_line(view(rtt=None), None)):
        assert len(text(each, width, brush=brush)) == width
        assert brush is BRUSH or text(each, width, brush=brush).isascii()


@pytest.mark.parametrize(
    ("state", "note", "role"),
    [
        (TunnelState.UP, "", "text"),
        (TunnelState.OPENING, "opening", "state-warn"),
        (TunnelState.DEGRADED, "degraded", "state-warn"),
        (TunnelState.CLOSED, "closed", "state-bad"),
    ],
)
def test_a_state_that_is_not_up_is_told(state, note, role):
    line = health_line(view(state=state), None)
    assert (line.note, line.role) == (note, role)


def test_what_is_unknown_is_a_dash_and_a_blank():
    line = text(health_line(view(rtt=None, loss=None), None))
    assert line.split() == ["t5", "-", "-"]


def test_a_scale_is_shared_and_never_very_low():
    scale = new_scale("rtt")
    lines = [health_line(view(), past(3)), health_line(view(), None)]
    assert fit_scale(scale, lines, "rtt") == 20
    lines.append(health_line(view(), past(96)))
    assert fit_scale(scale, lines, "rtt") == 100
    assert fit_scale(new_scale("loss"), lines, "loss") == 0.01


def test_without_room_for_all_those_that_need_an_eye_are_shown():
    tunnels = [
        view("t1", flows=9),
        view("t2"),
        view("t3", state=TunnelState.DRAINING),
        view("t4", flows=1),
        view("t5"),
    ]
    history = picture(t4=past(late(20, 90)))
    assert [line.tunnel.id for line in health_lines(tunnels, history, 5)] == ["t1", "t2", "t3", "t4", "t5"]
    assert [line.tunnel.id for line in health_lines(tunnels, history, 3)] == ["t2", "t3", "t4"]
    assert health_lines(tunnels, history, 0) == []


def test_names_from_elsewhere_are_made_visible():
    line = health_line(view("t\x1b[2J9"), None)
    assert text(line).startswith("t[…")
    assert id_room([line]) == 5
    assert id_room([health_line(view("x" * 30), None)]) == 12
    assert id_room([]) == 3
