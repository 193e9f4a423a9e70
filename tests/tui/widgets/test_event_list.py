"""The event list under a pilot."""

from __future__ import annotations

import pytest
from textual.app import App
from textual.events import MouseScrollDown, MouseScrollUp

from rtun_core.event import Level, Stamped
from rtun_core.events import FlowOpened, TunnelDegraded
from rtun_core.view.units import Look
from rtun_tui.event_log import EventLog
from rtun_tui.widgets.event_list import EventList

SIZE = (100, 7)  # five lines in a frame


class Sheet(App):
    def compose(self):
        yield EventList()

    @property
    def list(self):
        return self.query_one(EventList)

    def texts(self):
        return [self.list.render_line(y).text for y in range(self.list.size.height)]

    def tunnels(self):
        """The tunnels in sight."""
        lines = self.texts()[1:-1]
        return [line.split("tunnel  ")[1].split()[0] for line in lines if "tunnel  " in line]


def degraded(first, last):
    return [
        Stamped(number, 1000.0 + number, 0.0, TunnelDegraded(tunnel=f"t{number}", reason="loss"))
        for number in range(first, last)
    ]


def flows(count):
    event = FlowOpened(flow="1", rule="r1", source="s", target="t", tunnel=None)
    return [Stamped(number, 1000.0, 0.0, event) for number in range(count)]


@pytest.fixture
async def pilot():
    async with Sheet().run_test(size=SIZE) as pilot:
        yield pilot


async def test_at_first_nothing_has_happened(pilot):
    lines = pilot.app.texts()
    assert lines[0].startswith("┏━ 4 Events ━")
    assert lines[0].endswith(" level>=info  tail ━┓")
    assert "nothing has happened yet" in lines[1]


async def test_the_newest_is_at_the_bottom(pilot):
    pilot.app.list.add(degraded(0, 9))
    assert pilot.app.tunnels() == ["t4", "t5", "t6", "t7", "t8"]


async def test_scrolling_up_stops_following(pilot):
    events = pilot.app.list
    events.add(degraded(0, 9))
    await pilot.pause()
    events.action_move(-2)
    events.add(degraded(9, 12))
    assert pilot.app.tunnels() == ["t2", "t3", "t4", "t5", "t6"]
    assert "5 newer below" in pilot.app.texts()[0]
    assert not events.tailing
    events.action_end()
    assert pilot.app.tunnels()[-1] == "t11"
    assert "tail" in pilot.app.texts()[0]


async def test_pages_and_ends(pilot):
    events = pilot.app.list
    events.add(degraded(0, 20))
    await pilot.pause()
    events.action_home()
    assert pilot.app.tunnels()[0] == "t0"
    events.action_full_page(1)
    assert pilot.app.tunnels()[0] == "t4"
    events.action_half_page(-1)
    assert pilot.app.tunnels()[0] == "t2"
    events.action_match(1)
    assert pilot.app.tunnels()[0] == "t3"


async def test_the_wheel_scrolls(pilot):
    events = pilot.app.list
    events.add(degraded(0, 20))
    await pilot.pause()
    await pilot._post_mouse_events([MouseScrollUp], EventList, button=0)
    assert pilot.app.tunnels()[-1] == "t16"
    await pilot._post_mouse_events([MouseScrollDown], EventList, button=0)
    assert events.tailing


async def test_levels_go_round(pilot):
    events = pilot.app.list
    events.add([*flows(3), *degraded(0, 1)])
    assert "opened" not in "".join(pilot.app.texts())
    seen = []
    for _ in Level:
        events.action_next_level()
        await pilot.pause()
        seen.append((events.level, "opened" in "".join(pilot.app.texts()), bool(pilot.app.tunnels())))
    assert seen == [
        (Level.WARNING, False, True),
        (Level.ERROR, False, False),
        (Level.DEBUG, True, True),
        (Level.INFO, False, True),
    ]


async def test_a_search_hides_and_marks(pilot):
    events = pilot.app.list
    events.add(degraded(0, 20))
    events.search = "t1"
    await pilot.pause()
    assert pilot.app.tunnels() == ["t15", "t16", "t17", "t18", "t19"]
    assert "search: t1" in pilot.app.texts()[0]
    events.search = "nowhere"
    await pilot.pause()
    assert "none of 20 is shown" in pilot.app.texts()[1]


async def test_without_a_frame_there_is_a_rule(pilot):
    events = pilot.app.list
    events.add(degraded(0, 20))
    events.framed = False
    await pilot.pause()
    assert pilot.app.texts()[0].startswith("━━ 4 Events")
    assert "t14" in pilot.app.texts()[1]
    assert "t19" in pilot.app.texts()[6]


async def test_text_for_the_clipboard_and_files(pilot):
    events = pilot.app.list
    events.add([*degraded(0, 20), *flows(4)])
    await pilot.pause()
    assert events.visible_text().count("\n") == 4
    assert len(events.lines()) == 20
    assert len(events.stamped) == 24
    assert events.export("csv").count("\n") == 21
    events.level = Level.DEBUG
    await pilot.pause()
    assert events.export("ndjson").count("\n") == 24
    assert events.lines()[-1].endswith("[4 like this in 1 s]")


async def test_nothing_new_is_no_work(pilot):
    pilot.app.list.add(degraded(0, 3))
    await pilot.pause()
    before = pilot.app.list._strips
    pilot.app.list.add([])
    assert pilot.app.list._strips is before


async def test_only_lines_that_changed_are_drawn_again(pilot):
    events = pilot.app.list
    events.level = Level.DEBUG
    events.add([*degraded(0, 3), *flows(1)])
    await pilot.pause()
    drawn = []
    events.refresh_lines = drawn.extend
    events.add(flows(2))
    assert drawn == [4]


async def test_private_masks_what_is_drawn(pilot):
    event = TunnelDegraded(tunnel="t1", reason="no answer from 10.1.2.3")
    pilot.app.list.add([Stamped(1, 0.0, 0.0, event)])
    pilot.app.list.look = Look(private=True)
    await pilot.pause()
    assert "10.1.*.*" in pilot.app.texts()[1]


async def test_other_events_can_be_shown_and_these_again(pilot):
    events = pilot.app.list
    events.add(flows(2))
    await pilot.pause()
    before = pilot.app.texts()
    mine = events.exchange(EventLog())
    events.add(degraded(0, 1))
    await pilot.pause()
    assert pilot.app.texts() != before
    assert events.stamped[-1].event.tunnel
    mine.add([])
    events.exchange(mine)
    await pilot.pause()
    assert pilot.app.texts() == before
