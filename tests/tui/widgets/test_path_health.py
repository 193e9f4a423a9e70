"""The tunnels' ways as a widget."""

from __future__ import annotations

import numpy as np
from textual.app import App

from rtun_core.model import TunnelState, TunnelView
from rtun_core.view.history import TunnelHistory
from rtun_tui.widgets.path_health import PathHealth
from tests.tui.histories import history


class Sheet(App):
    def compose(self):
        yield PathHealth()


def view(name, state=TunnelState.UP):
    return TunnelView(
        id=name,
        rule="r1",
        agent=None,
        state=state,
        kind="p2p",
        opened_at=0.0,
        rtt_ms=20.0,
        loss_up=0.01,
        flows=3,
    )


def past():
    rtt, loss = np.full(300, 20, np.float32), np.full(300, 0.01, np.float32)
    return TunnelHistory(rtt, loss, rtt, rtt)


def texts(health):
    return [health.render_line(y).text for y in range(health.size.height)]


async def test_a_line_for_each_tunnel():
    async with Sheet().run_test(size=(60, 6)) as pilot:
        health = pilot.app.query_one(PathHealth)
        assert texts(health)[0].startswith("┌─ Path health ─")
        health.show((view("t1"), view("t2", TunnelState.DRAINING)), history(t1=past()))
        await pilot.pause()
        lines = texts(health)
        assert lines[0].endswith(" rtt ─┐")
        assert lines[1].startswith("│t1   20.0ms ████")
        assert "draining 3 left" in lines[2]
        assert lines[3] == f"│{' ' * 58}│"


async def test_tunnels_without_room_are_counted():
    async with Sheet().run_test(size=(60, 4)) as pilot:
        health = pilot.app.query_one(PathHealth)
        health.show(tuple(view(f"t{number}") for number in range(5)), history())
        await pilot.pause()
        assert texts(health)[0].endswith(" 3 more  rtt ─┐")
        await pilot.resize_terminal(60, 7)
        await pilot.pause()
        assert texts(health)[0].endswith("─ rtt ─┐")


async def test_the_mode_goes_round():
    async with Sheet().run_test(size=(60, 4)) as pilot:
        health = pilot.app.query_one(PathHealth)
        health.show((view("t1"),), history(t1=past()))
        health.action_next_mode()
        await pilot.pause()
        assert texts(health)[0].endswith(" loss ─┐")
        assert texts(health)[1].startswith("│t1    1.0% ████")
        health.action_next_mode()
        assert health.mode == "rtt"


async def test_without_a_frame_there_is_a_rule():
    async with Sheet().run_test(size=(60, 3)) as pilot:
        health = pilot.app.query_one(PathHealth)
        health.framed = False
        health.show((view("t1"),), history(t1=past()))
        await pilot.pause()
        assert texts(health)[0].startswith("── Path health ─")
        assert texts(health)[1].startswith("t1   20.0ms")


async def test_the_same_again_is_not_judged():
    async with Sheet().run_test(size=(60, 4)) as pilot:
        health = pilot.app.query_one(PathHealth)
        tunnels, known = (view("t1"),), history(t1=past())
        health.show(tunnels, known)
        await pilot.pause()
        judged = health._judged
        health.show(tunnels, known)
        assert health._judged is judged
