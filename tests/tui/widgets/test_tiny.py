import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App

from rtun_core.model import TunnelState
from rtun_core.view.units import Look
from rtun_tui.widgets.tiny import Tiny, tiny_lines
from tests.tui.views import AGENT, OTHER, TUNNEL, but, snapshot


class Sheet(App):
    def compose(self):
        yield Tiny()


def texts(app):
    tiny = app.query_one(Tiny)
    return [tiny.render_line(y).text.rstrip() for y in range(tiny.size.height)]


def test_state_rates_and_the_last_event():
    assert tiny_lines(snapshot(), "LIVE", "agent beta seen", Look()) == (
        "LIVE beta/7f3c t 2/2 fl 4",
        "up 84.2Mb dn 213Mb",
        "agent beta seen",
    )


def test_nothing_yet():
    empty = snapshot(agents=(OTHER,), tunnels=(but(TUNNEL, state=TunnelState.OPENING),), rules=())
    lines = tiny_lines(empty, "LOST", "", Look(bits=False))
    assert lines == ("LOST no agent t 0/1 fl 0", "up 10.5MB dn 26.6MB", "")


@given(name=st.text(max_size=20), event=st.text(max_size=20))
def test_what_peers_say_steers_nothing(name, event):
    for line in tiny_lines(snapshot(agents=(but(AGENT, id=name),)), "LIVE", event, Look()):
        assert line.isprintable()


@pytest.mark.parametrize("size", [(40, 3), (40, 8), (12, 2), (1, 1)])
async def test_it_fits_any_size(size):
    async with Sheet().run_test(size=size) as pilot:
        assert texts(pilot.app)[0] == "rtun"[: size[0]] or size == (1, 1)
        pilot.app.query_one(Tiny).show(snapshot(), "LIVE", "agent beta seen")
        lines = texts(pilot.app)
        assert len(lines) == size[1]
        assert all(len(line) <= size[0] for line in lines)
        if size[0] == 40:
            assert lines[:3] == ["LIVE beta/7f3c t 2/2 fl 4", "up 84.2Mb dn 213Mb", "agent beta seen"]
            assert not any(lines[3:])


async def test_a_line_that_is_cut_says_so():
    async with Sheet().run_test(size=(12, 2)) as pilot:
        tiny = pilot.app.query_one(Tiny)
        tiny.ascii = True
        tiny.show(snapshot(), "PAUSED", "")
        assert texts(pilot.app) == ["PAUSED beta~", "up 84.2Mb d~"]
