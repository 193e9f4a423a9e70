import pytest
from textual.app import App

from rtun_tui.palette import MONO
from rtun_tui.widgets.tabs import Tab, Tabs
from tests.tui.keys import settle

TABS = (Tab("agents", "1 Agents 5"), Tab("tunnels", "2 Tunnels 5"), Tab("flows", "3 Flows 212/1,284"))
TEXT = " [1 Agents 5] [2 Tunnels 5] {3 Flows 212/1,284}"


class Sheet(App):
    def __init__(self):
        super().__init__()
        self.picked = []

    def compose(self):
        yield Tabs()

    def on_tabs_picked(self, message):
        self.picked.append(message.pane)

    @property
    def tabs(self):
        return self.query_one(Tabs)


def line(app):
    return app.tabs.render_line(0).text


async def test_names_and_a_note_at_the_right_end():
    async with Sheet().run_test(size=(70, 1)) as pilot:
        pilot.app.tabs.show(TABS, "flows", "by dn v")
        assert line(pilot.app) == TEXT + "by dn v".rjust(70 - len(TEXT) - 1) + " "


async def test_the_note_goes_first_where_there_is_no_room():
    async with Sheet().run_test(size=(len(TEXT) + 5, 1)) as pilot:
        pilot.app.tabs.show(TABS, "flows", "by dn v")
        assert line(pilot.app).rstrip() == TEXT


async def test_a_narrow_line_is_cut():
    async with Sheet().run_test(size=(20, 1)) as pilot:
        pilot.app.tabs.show(TABS, "flows", "")
        assert line(pilot.app) == TEXT[:20]


async def test_the_one_in_front_looks_different():
    async with Sheet().run_test(size=(70, 1)) as pilot:
        pilot.app.tabs.show(TABS, "tunnels", "")
        styles = {segment.text: segment.style for segment in pilot.app.tabs.render_line(0)}
        front = MONO.style("title-focus")
        assert styles["{2 Tunnels 5}"].reverse == front.reverse
        assert not styles["[1 Agents 5]"].reverse


async def test_the_same_again_is_not_drawn_again():
    async with Sheet().run_test(size=(70, 1)) as pilot:
        tabs, drawn = pilot.app.tabs, []
        tabs.show(TABS, "flows", "")
        await pilot.pause()
        tabs.draw_line = lambda y: drawn.append(y) or Tabs.draw_line(tabs, y)
        tabs.show(list(TABS), "flows", "")
        await pilot.pause()
        assert drawn == []
        tabs.show(TABS, "agents", "")
        await pilot.pause()
        assert drawn == [0]


@pytest.mark.parametrize(
    ("x", "picked"), [(1, "agents"), (12, "agents"), (14, "tunnels"), (30, "flows"), (60, None)]
)
async def test_a_click_picks_the_tab_under_it(x, picked):
    async with Sheet().run_test(size=(70, 1)) as pilot:
        pilot.app.tabs.show(TABS, "flows", "by dn v")
        await pilot.click(Tabs, offset=(x, 0))
        await settle(pilot)
        assert pilot.app.picked == ([] if picked is None else [picked])
