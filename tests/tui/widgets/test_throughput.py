"""The plot of the rates as a widget."""

from __future__ import annotations

from textual.app import App

from rtun_core.view.units import Look
from rtun_tui.widgets.throughput import Throughput
from tests.tui.histories import history


class Sheet(App):
    def compose(self):
        yield Throughput()


def texts(plot):
    return [plot.render_line(y).text for y in range(plot.size.height)]


async def test_it_draws_what_it_is_shown():
    async with Sheet().run_test(size=(60, 6)) as pilot:
        plot = pilot.app.query_one(Throughput)
        assert texts(plot) == [" " * 60] * 6
        plot.show(history())
        await pilot.pause()
        assert texts(plot)[0].startswith("┌─ Up and down")
        assert texts(plot)[5].startswith("└──")


async def test_without_a_frame_there_is_a_rule():
    async with Sheet().run_test(size=(80, 3)) as pilot:
        plot = pilot.app.query_one(Throughput)
        plot.show(history())
        plot.framed = False
        await pilot.pause()
        assert texts(plot)[0].startswith("── Up and down")
        assert texts(plot)[2].startswith(" dn ")


async def test_the_scale_stands_still_until_the_look_changes():
    async with Sheet().run_test(size=(60, 6)) as pilot:
        plot = pilot.app.query_one(Throughput)
        plot.show(history(down=25e6))
        await pilot.pause()
        plot.show(history(down=12e6))
        await pilot.pause()
        assert "200Mb" in texts(plot)[1]
        plot.look = Look(bits=False)
        await pilot.pause()
        assert "12.0MB" not in texts(plot)[1]
        assert "15.0MB" in texts(plot)[1]


async def test_the_same_history_again_is_not_painted():
    async with Sheet().run_test(size=(60, 6)) as pilot:
        plot = pilot.app.query_one(Throughput)
        once = history()
        plot.show(once)
        await pilot.pause()
        before = plot._strips
        plot.show(once)
        assert plot._strips is before
