"""The table widget under a pilot: what it draws again, what it tells, what the mouse does."""

from __future__ import annotations

import pytest
from textual import events
from textual.app import App

from rtun_core.model import FlowState, FlowView
from rtun_core.view.page import Page, Sort
from rtun_core.view.units import Look
from rtun_tui.table_state import TableState
from rtun_tui.widgets.live_table import LiveTable

SIZE = (60, 13)  # ten rows in a frame
FIRST_ROW = 2


def flow(number, down=0.0):
    return FlowView(
        id=f"{number:08x}",
        rule="r1",
        source=f"10.0.0.{number % 250}:5353",
        target="192.0.2.1:53",
        tunnel="t1",
        state=FlowState.ACTIVE,
        opened_at=0.0,
        idle_s=0.0,
        down_rate=down,
    )


class Counted(LiveTable):
    """Counts the lines that Textual asks for."""

    drawn: list[int]

    def draw_line(self, y):
        self.__dict__.setdefault("drawn", []).append(y)
        return super().draw_line(y)


class Sheet(App):
    """One table over rows that the test changes; answers `WindowWanted` as the console does."""

    def __init__(self, count=100, **state):
        super().__init__()
        self.rows = [flow(number) for number in range(count)]
        self.state = TableState(table="flows", columns=("flow", "src", "dn"), **state)
        self.told = []

    def compose(self):
        yield Counted(self.state)

    @property
    def table(self):
        return self.query_one(Counted)

    def look(self):
        spec, ids = self.state.spec(), [row.id for row in self.rows]
        page = Page(
            table="flows",
            total=len(ids),
            shown=len(ids),
            first=min(spec.offset, len(ids)),
            rows=tuple(self.rows[spec.offset : spec.offset + spec.limit]),
            follow=ids.index(spec.follow) if spec.follow in ids else None,
            now=0.0,
        )
        self.table.show(page, 0.0)

    def on_live_table_window_wanted(self, message):
        self.told.append(("window", message.table))
        self.look()

    def on_live_table_cursor_moved(self, message):
        self.told.append(("cursor", message.key))

    def on_live_table_chosen(self, message):
        self.told.append(("chosen", message.key))

    def on_live_table_sort_clicked(self, message):
        self.told.append(("sort", message.column))
        self.table.action_sort_by(message.column)

    def on_live_table_marks_changed(self, message):
        self.told.append(("marks", sorted(self.state.marks)))

    async def start(self, pilot):
        self.look()
        await pilot.pause()
        self.table.drawn.clear()
        self.told.clear()
        return self.table

    def text(self):
        return [self.table.render_line(y).text for y in range(self.table.size.height)]


async def changed(pilot):
    """Lines that were drawn since the last time."""
    await pilot.pause()
    lines = sorted(set(pilot.app.table.drawn))
    pilot.app.table.drawn.clear()
    return lines


async def test_it_fits_the_rows_into_its_size():
    async with Sheet().run_test(size=SIZE) as pilot:
        await pilot.app.start(pilot)
        assert pilot.app.state.height == 10
        text = pilot.app.text()
        assert "00000000" in text[FIRST_ROW]
        assert "00000009" in text[FIRST_ROW + 9]
        assert "1-10 of 100" in text[-1]


async def test_the_same_page_again_draws_nothing():
    async with Sheet().run_test(size=SIZE) as pilot:
        await pilot.app.start(pilot)
        pilot.app.look()
        assert await changed(pilot) == []


async def test_only_a_row_that_changed_is_drawn():
    async with Sheet().run_test(size=SIZE) as pilot:
        await pilot.app.start(pilot)
        pilot.app.rows[3] = flow(3, down=1e6)
        pilot.app.rows[50] = flow(50, down=1e6)  # not visible
        pilot.app.look()
        assert await changed(pilot) == [FIRST_ROW + 3]


async def test_a_move_draws_two_rows():
    async with Sheet().run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        table.action_move(1)
        assert await changed(pilot) == [FIRST_ROW, FIRST_ROW + 1]
        assert pilot.app.told == [("cursor", "00000001")]


async def test_title_and_note_draw_one_line():
    async with Sheet().run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        table.heading = "3 Flows 100"
        table.note = "by dn v"
        assert await changed(pilot) == [0]
        assert " 3 Flows 100 " in pilot.app.text()[0]
        assert " by dn v " in pilot.app.text()[0]


async def test_the_focus_makes_the_frame_heavy():
    async with Sheet().run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        table.focus()
        await pilot.pause()
        assert pilot.app.text()[0].startswith("┏")
        table.blur()
        await pilot.pause()
        assert pilot.app.text()[0].startswith("┌")


async def test_an_ascii_terminal_gets_ascii():
    async with Sheet().run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        table.ascii = True
        await pilot.pause()
        assert "".join(pilot.app.text()).isascii()


async def test_another_look_writes_all_values_anew():
    async with Sheet().run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        pilot.app.rows[0] = flow(0, down=1e6)
        pilot.app.look()
        assert "8.0Mb" in pilot.app.text()[FIRST_ROW]
        table.look = Look(bits=False)
        await pilot.pause()
        assert "1.0MB" in pilot.app.text()[FIRST_ROW]


async def test_without_a_frame_there_is_a_row_more_on_each_side():
    async with Sheet().run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        table.framed = False
        await pilot.pause()
        assert pilot.app.state.height == 11
        assert pilot.app.text()[0] == "━" * 60
        assert "0000000a" in pilot.app.text()[-1]


async def test_another_size_fits_other_rows():
    async with Sheet().run_test(size=SIZE) as pilot:
        await pilot.app.start(pilot)
        await pilot.resize_terminal(60, 8)
        await pilot.pause()
        assert pilot.app.state.height == 5
        assert "1-5 of 100" in pilot.app.text()[-1]


async def test_the_end_is_asked_for_and_comes():
    async with Sheet(1000).run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        table.action_end()
        await pilot.pause()
        assert ("window", "flows") in pilot.app.told
        assert pilot.app.told[-1] == ("cursor", "000003e7")
        assert "000003e7" in pilot.app.text()[-2]
        table.action_home()
        await pilot.pause()
        assert "00000000" in pilot.app.text()[FIRST_ROW]


async def test_a_window_that_does_not_come_is_wanted_once():
    async with Sheet(1000).run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        late = pilot.app.state.page
        pilot.app.look = lambda: table.show(late, 0.0)
        table.action_end()
        await pilot.pause()
        assert pilot.app.told.count(("window", "flows")) == 1


@pytest.mark.parametrize(
    ("action", "argument", "cursor"),
    [
        ("half_page", 1, 5),
        ("full_page", 1, 9),
        ("move", 3, 3),
        ("to_key", "00000007", 7),
        ("to_key", "0000003c", 60),
    ],
)
async def test_actions_move_the_cursor(action, argument, cursor):
    async with Sheet().run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        getattr(table, f"action_{action}")(argument)
        await pilot.pause()
        assert pilot.app.state.cursor == cursor
        assert pilot.app.state.current().id == f"{cursor:08x}"


async def test_a_click_takes_the_cursor_and_a_second_one_chooses():
    async with Sheet().run_test(size=SIZE) as pilot:
        await pilot.app.start(pilot)
        await pilot.click(Counted, offset=(10, FIRST_ROW + 4))
        assert pilot.app.told == [("cursor", "00000004")]
        await pilot.click(Counted, offset=(10, FIRST_ROW + 6), times=2)
        assert pilot.app.told[1:] == [("cursor", "00000006"), ("chosen", "00000006")]
        assert pilot.app.table.has_focus


async def test_a_click_under_the_rows_or_on_the_frame_does_nothing():
    async with Sheet(2).run_test(size=SIZE) as pilot:
        await pilot.app.start(pilot)
        await pilot.click(Counted, offset=(10, FIRST_ROW + 5))
        await pilot.click(Counted, offset=(10, 12))
        await pilot.click(Counted, offset=(10, 0))
        assert pilot.app.told == []


async def test_a_click_on_a_title_asks_to_sort_by_it():
    async with Sheet().run_test(size=SIZE) as pilot:
        await pilot.app.start(pilot)
        x = pilot.app.text()[1].index("DN/s")
        await pilot.click(Counted, offset=(x, 1))
        assert pilot.app.told == [("sort", "dn"), ("window", "flows")]
        assert pilot.app.state.sort == (Sort("dn", descending=True),)
        assert "▾DN/s" in pilot.app.text()[1]
        await pilot.click(Counted, offset=(1, 1))
        assert pilot.app.told[2:] == []


async def test_the_wheel_scrolls():
    async with Sheet().run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        for event, top in ((events.MouseScrollDown, 3), (events.MouseScrollUp, 0)):
            table.post_message(event(table, 5, 5, 0, 0, 0, False, False, False))
            await pilot.pause()
            assert pilot.app.state.top == top


async def test_marks_show_and_are_told():
    async with Sheet().run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        table.action_toggle_mark()
        table.action_move(2)
        assert table.action_mark_to_cursor()
        await pilot.pause()
        assert pilot.app.told[-1] == ("marks", ["00000000", "00000001", "00000002"])
        assert [line[1:4] for line in pilot.app.text()[FIRST_ROW : FIRST_ROW + 3]] == [" * ", " * ", ">* "]
        table.action_clear_marks()
        assert not table.action_mark_to_cursor()
        await pilot.pause()
        assert pilot.app.told[-1] == ("marks", [])


async def test_sort_keys():
    async with Sheet(sort=(Sort("src"),)).run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        table.action_shift_sort(1)
        assert pilot.app.state.sort == (Sort("dn", descending=True),)
        table.action_invert_sort()
        await pilot.pause()
        assert "▴DN/s" in pilot.app.text()[1]
        assert pilot.app.told == [("window", "flows")] * 2


async def test_totals_and_wide():
    async with Sheet().run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        table.action_toggle_totals()
        await pilot.pause()
        assert "DN/s" not in pilot.app.text()[1]
        assert ("window", "flows") in pilot.app.told
        before = pilot.app.text()[1]
        table.action_toggle_wide()
        await pilot.pause()
        assert pilot.app.text()[1] != before


async def test_columns_scroll_only_while_one_is_out_of_sight():
    async with Sheet().run_test(size=(26, 13)) as pilot:
        table = await pilot.app.start(pilot)
        assert "DN/s" not in pilot.app.text()[1]
        table.action_scroll_columns(1)
        table.action_scroll_columns(1)
        await pilot.pause()
        assert pilot.app.text()[1].split() == ["┃", "FLOW", "DN/s", "┃"]
        assert pilot.app.state.first_column == 1
        table.action_scroll_columns(-1)
        assert pilot.app.state.first_column == 0


async def test_enter_chooses_the_row_under_the_cursor():
    async with Sheet().run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        table.action_choose()
        await pilot.pause()
        assert pilot.app.told == [("chosen", "00000000")]


async def test_an_empty_table_says_why_and_has_nothing_to_choose():
    async with Sheet(0).run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        table.empty = "no flows yet: send a datagram to 127.0.0.1:5353"
        table.action_choose()
        await pilot.pause()
        assert "no flows yet" in "".join(pilot.app.text())
        assert pilot.app.told == []


async def test_a_change_from_outside_shows_after_sync():
    async with Sheet().run_test(size=SIZE) as pilot:
        table = await pilot.app.start(pilot)
        pilot.app.state.columns = ("flow", "age")
        table.sync()
        await pilot.pause()
        assert "AGE" in pilot.app.text()[1]
