"""The base of our widgets: the background under each line, and refreshing some lines only."""

from __future__ import annotations

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.filter import LineFilter
from textual.strip import Strip

from rtun_core.view.units import Look
from rtun_tui.drawn import Drawn, Inks, _runs
from rtun_tui.palette import MONO, Palette, plain_styles

BLUE = Palette("blue", dark=True, colour=True, styles=plain_styles({"background": Style(bgcolor="blue")}))


class Sample(Drawn):
    """Counts which lines are drawn."""

    def __init__(self):
        super().__init__()
        self.drawn = []

    def draw_line(self, y):
        self.drawn.append(y)
        return Strip.blank(3) if y else Strip.blank(99)


class Sheet(App):
    def compose(self):
        yield Sample()


def test_neighbours_are_one_run():
    assert list(_runs([])) == []
    assert list(_runs([4])) == [(4, 1)]
    assert list(_runs([1, 2, 3, 7, 9, 10])) == [(1, 3), (7, 1), (9, 2)]


async def test_every_line_has_the_width_and_the_background():
    async with Sheet().run_test(size=(20, 4)) as pilot:
        sample = pilot.app.query_one(Sample)
        sample.palette = BLUE
        for y in (0, 1):
            line = sample.render_line(y)
            assert line.cell_length == 20
            assert {segment.style.bgcolor for segment in line} == {Color.parse("blue")}


async def test_only_the_lines_named_are_drawn_again():
    async with Sheet().run_test(size=(20, 6)) as pilot:
        sample = pilot.app.query_one(Sample)
        sample.drawn.clear()
        sample.refresh_lines([1, 2, 4])
        await pilot.pause()
        assert sample.drawn == [1, 2, 4]


async def test_what_is_to_be_drawn_is_claimed_once():
    async with Sheet().run_test(size=(20, 6)) as pilot:
        sample = pilot.app.query_one(Sample)
        assert not sample.claim()
        sample.refresh()
        assert sample.claim()
        assert not sample.claim()


async def test_a_widget_without_a_place_waits_until_it_has_one():
    async with Sheet().run_test(size=(20, 6)) as pilot:
        sample = pilot.app.query_one(Sample)
        sample.display = False
        await pilot.pause()
        sample.drawn.clear()
        sample.refresh_lines([0])
        await pilot.pause()
        assert sample.drawn == []
        sample.display = True
        await pilot.pause()
        assert set(sample.drawn) == set(range(6))


def test_a_style_is_put_on_its_ground_once():
    class Counting(LineFilter):
        seen = 0

        def apply(self, segments, background):
            self.seen += 1
            return [Segment(text, style + Style(bold=True)) for text, style, _ in segments]

    counting = Counting()
    inks = Inks(Style(bgcolor="blue"), [counting])
    red = Style(color="red")
    assert inks[red] is inks[red]
    assert inks[red] == Style(color="red", bgcolor="blue", bold=True)
    assert inks[None] == Style(bgcolor="blue", bold=True)
    assert counting.seen == 2
    assert Inks(Style())[None] is None


async def test_no_lines_no_refresh():
    async with Sheet().run_test(size=(20, 6)) as pilot:
        sample = pilot.app.query_one(Sample)
        sample.drawn.clear()
        sample.refresh_lines([])
        await pilot.pause()
        assert sample.drawn == []


async def test_another_look_draws_everything():
    async with Sheet().run_test(size=(20, 6)) as pilot:
        sample = pilot.app.query_one(Sample)
        sample.drawn.clear()
        sample.look = Look(bits=False)
        await pilot.pause()
        assert sorted(set(sample.drawn)) == list(range(6))


async def test_the_brush_knows_palette_and_focus():
    async with Sheet().run_test(size=(20, 6)) as pilot:
        sample = pilot.app.query_one(Sample)
        sample.ascii = True
        assert sample.brush == (MONO, False, True)
        assert not sample.allow_select


async def test_a_plain_one_draws_nothing():
    class Bare(App):
        def compose(self):
            yield Drawn()

    async with Bare().run_test(size=(5, 2)) as pilot:
        assert pilot.app.query_one(Drawn).render_line(0).text == "     "
