"""Lines that are painted together: only those that differ are drawn again."""

from __future__ import annotations

from dataclasses import replace

from rich.segment import Segment
from textual.app import App
from textual.strip import Strip

from rtun_tui.painted import Painted


class Sample(Painted):
    """Says what it is told, and counts what Textual asks for."""

    def __init__(self):
        super().__init__()
        self.words = ["one", "two", "three"]
        self.painted = 0
        self.drawn = []

    def paint(self, width, height):
        self.painted += 1
        return [Strip([Segment(word)]) for word in self.words]

    def draw_line(self, y):
        self.drawn.append(y)
        return super().draw_line(y)


class Sheet(App):
    def compose(self):
        yield Sample()


async def test_only_lines_that_differ_are_drawn_again():
    async with Sheet().run_test(size=(20, 5)) as pilot:
        sample = pilot.app.query_one(Sample)
        await pilot.pause()
        sample.drawn.clear()
        sample.words[1] = "TWO"
        sample.sync()
        await pilot.pause()
        assert sample.drawn == [1]
        sample.drawn.clear()
        sample.sync()
        await pilot.pause()
        assert sample.drawn == []


async def test_lines_that_came_or_went_are_drawn_again():
    async with Sheet().run_test(size=(20, 5)) as pilot:
        sample = pilot.app.query_one(Sample)
        await pilot.pause()
        sample.drawn.clear()
        sample.words.append("four")
        sample.sync()
        await pilot.pause()
        assert sample.drawn == [3]
        del sample.words[2:]
        sample.sync()
        await pilot.pause()
        assert sample.drawn == [3, 2, 3]
        assert sample.render_line(2).text == " " * 20


async def test_another_size_look_or_palette_paints_anew_once():
    async with Sheet().run_test(size=(20, 5)) as pilot:
        sample = pilot.app.query_one(Sample)
        await pilot.pause()
        sample.drawn.clear()
        for change in (
            lambda: setattr(sample, "look", replace(sample.look, bits=False)),
            lambda: setattr(sample, "ascii", True),
            lambda: setattr(sample, "palette", replace(sample.palette, name="other")),
        ):
            before = sample.painted
            change()
            await pilot.pause()
            assert sample.painted == before + 1
            assert set(sample.drawn) == {0, 1, 2, 3, 4}
            sample.drawn.clear()
        await pilot.resize_terminal(30, 4)
        await pilot.pause()
        assert sample.render_line(0).cell_length == 30


async def test_without_a_size_nothing_is_painted():
    sample = Sample()
    sample.sync()
    assert sample.painted == 0
