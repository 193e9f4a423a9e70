"""The drawer under a pilot: follows, stays pinned, scrolls, remembers the rates of flows."""

from datetime import datetime

import numpy as np
import pytest
from textual import events
from textual.app import App

from rtun_core.engine.source import Picture
from rtun_core.view.history import HistoryPicture
from rtun_tui.widgets.detail import FLOWS_REMEMBERED, SAMPLES, Detail
from tests.tui.views import AGENT, FLOW, NOW, TUNNEL, but, page, snapshot

EMPTY = np.empty(0, np.float32)
HISTORY = HistoryPicture(step=1.0, end=NOW, up=EMPTY, down=EMPTY, drops=EMPTY)


def picture(*flows, seconds=0.0):
    return Picture(snapshot(ts=NOW + seconds), {"flows": page("flows", *flows)}, HISTORY)


class Sheet(App):
    def compose(self):
        yield Detail()

    @property
    def detail(self):
        return self.query_one(Detail)

    def show(self, row, *flows, table="flows", seconds=0.0):
        self.detail.show(table, row, picture(*flows, seconds=seconds), ())

    @property
    def text(self):
        return [self.detail.render_line(y).text for y in range(self.detail.size.height)]


@pytest.fixture
async def pilot():
    async with Sheet().run_test(size=(50, 12)) as pilot:
        yield pilot


OTHER = but(FLOW, id="00000002", source="10.0.0.2:2")


async def test_a_row_in_a_frame(pilot):
    pilot.app.show(FLOW)
    text = pilot.app.text
    assert "Detail" in text[0]
    assert "Enter pins" in text[0]
    assert text[1][1:-1].strip() == "flow 00a1f3e1   rule r1"
    assert all(len(line) == 50 for line in text)
    assert text[-1][0] != " "


async def test_without_a_frame_there_is_one_more_line(pilot):
    pilot.app.detail.framed = False
    pilot.app.show(FLOW)
    text = pilot.app.text
    assert "Detail" in text[0]
    assert text[1].strip().startswith("flow 00a1f3e1")
    assert text[-1].strip().startswith("down")


async def test_it_follows_the_cursor(pilot):
    pilot.app.show(FLOW)
    pilot.app.show(OTHER)
    assert "00000002" in pilot.app.text[1]
    pilot.app.show(AGENT, table="agents")
    assert "agent beta/7f3c" in pilot.app.text[1]


async def test_while_the_row_has_not_come_the_last_one_stays(pilot):
    pilot.app.show(FLOW)
    pilot.app.show(None)
    assert "00a1f3e1" in pilot.app.text[1]


async def test_an_empty_table_has_no_row_of_another(pilot):
    pilot.app.show(FLOW)
    pilot.app.show(None, table="agents")
    assert pilot.app.text[1].strip(" │┃") == ""


async def test_a_pinned_row_stays_and_is_kept_up_to_date(pilot):
    pilot.app.show(FLOW)
    pilot.app.detail.toggle_pin()
    pilot.app.show(TUNNEL, OTHER, but(FLOW, idle_s=9.0), table="tunnels")
    text = pilot.app.text
    assert "Detail pinned" in text[0]
    assert "Enter follows" in text[0]
    assert "00a1f3e1" in text[1]
    assert any("9.0s" in line for line in text)
    pilot.app.show(OTHER)
    assert "00a1f3e1" in pilot.app.text[1]
    # It is not among the rows any more: so one is told of when it is.
    assert f"Detail pinned, of {datetime.fromtimestamp(NOW).strftime('%H:%M:%S')}" in pilot.app.text[0]
    pilot.app.show(OTHER, but(FLOW, idle_s=9.0))
    assert "Detail pinned " in pilot.app.text[0]
    pilot.app.detail.toggle_pin()
    pilot.app.show(OTHER)
    assert "00000002" in pilot.app.text[1]


async def test_a_row_is_pinned_that_the_cursor_is_not_on(pilot):
    pilot.app.show(FLOW)
    pilot.app.detail.pin("flows", OTHER)
    pilot.app.show(FLOW)
    assert "00000002" in pilot.app.text[1]
    assert "Detail pinned" in pilot.app.text[0]


async def test_unpinned_it_starts_anew(pilot):
    pilot.app.show(FLOW)
    pilot.app.detail.toggle_pin()
    pilot.app.detail.unpin()
    pilot.app.show(None)
    assert "00a1f3e1" not in "".join(pilot.app.text)
    assert "pinned" not in pilot.app.text[0]


async def test_the_same_lines_are_not_drawn_again(pilot):
    pilot.app.show(TUNNEL, table="tunnels")
    await pilot.pause()
    drawn = []
    detail = pilot.app.detail
    detail.draw_line = lambda y: drawn.append(y) or Detail.draw_line(detail, y)
    pilot.app.show(TUNNEL, table="tunnels")
    await pilot.pause()
    assert drawn == []
    pilot.app.show(but(TUNNEL, flows=99), table="tunnels")
    await pilot.pause()
    assert drawn


def wheel(kind):
    return kind(None, 5, 5, 0, 1, 0, False, False, False)


async def test_the_wheel_scrolls_to_the_last_line_and_back(pilot):
    pilot.app.show(FLOW)
    detail = pilot.app.detail
    for _ in range(100):
        detail.on_mouse_scroll_down(wheel(events.MouseScrollDown))
    assert "nothing seen yet" in pilot.app.text[-2]
    for _ in range(100):
        detail.on_mouse_scroll_up(wheel(events.MouseScrollUp))
    assert "flow 00a1f3e1" in pilot.app.text[1]


async def test_a_shorter_row_scrolls_back(pilot):
    pilot.app.show(FLOW)
    for _ in range(100):
        pilot.app.detail.on_mouse_scroll_down(wheel(events.MouseScrollDown))
    pilot.app.show(AGENT, table="agents")
    assert any("nothing seen yet" in line for line in pilot.app.text)


def rates(detail):
    return {key: len(samples) for key, samples in detail._rates.items()}


async def test_one_sample_a_second_is_remembered(pilot):
    for tenth in range(31):
        pilot.app.show(FLOW, seconds=tenth / 10)
    assert rates(pilot.app.detail) == {FLOW.id: 4}
    pilot.app.show(FLOW, seconds=-100.0)
    assert rates(pilot.app.detail) == {FLOW.id: 5}


async def test_what_is_remembered_is_bounded(pilot):
    for second in range(SAMPLES + 5):
        pilot.app.show(FLOW, seconds=second)
    assert rates(pilot.app.detail) == {FLOW.id: SAMPLES}
    for number in range(FLOWS_REMEMBERED):
        pilot.app.show(but(FLOW, id=f"{number:08x}"))
    assert len(rates(pilot.app.detail)) == FLOWS_REMEMBERED
    assert FLOW.id not in rates(pilot.app.detail)


async def test_of_the_rows_of_another_source_nothing_is_remembered(pilot):
    pilot.app.show(FLOW)
    pilot.app.detail.toggle_pin()
    pilot.app.detail.forget()
    assert rates(pilot.app.detail) == {}
    pilot.app.show(AGENT, table="agents")
    assert any("beta" in line for line in pilot.app.text)
