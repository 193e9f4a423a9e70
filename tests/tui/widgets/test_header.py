"""The line at the top as a widget."""

from __future__ import annotations

from textual.app import App

from rtun_core.engine.source import Picture, SourceStatus
from rtun_core.model import Snapshot
from rtun_tui.widgets.header import Header
from tests.tui.histories import history

SNAPSHOT = Snapshot(seq=1, ts=1000.0, uptime_s=60.0, pid=1, version="0", services=("relay",))


class Sheet(App):
    now = 1000.0

    def compose(self):
        yield Header(wall=lambda: self.now)


def shown():
    return Picture(snapshot=SNAPSHOT, pages={}, history=history())


async def test_it_says_what_it_is_shown():
    async with Sheet().run_test(size=(90, 1)) as pilot:
        header = pilot.app.query_one(Header)
        assert header.render_line(0).text.strip() == "LIVE"
        header.source, header.interval = "attached 7", 0.25
        header.show(shown(), SourceStatus("LIVE"))
        await pilot.pause()
        line = header.render_line(0).text
        assert line.startswith(" rtun attached 7 1m | ")
        assert line.rstrip().endswith("| LIVE 4Hz")


async def test_the_age_of_a_held_view_grows():
    async with Sheet().run_test(size=(90, 1)) as pilot:
        header = pilot.app.query_one(Header)
        for now, age in ((1003.0, "3s"), (1064.0, "1m")):
            pilot.app.now = now
            header.show(shown(), SourceStatus("LIVE"), paused_at=1000.0)
            await pilot.pause()
            assert f"PAUSED {age}" in header.render_line(0).text


async def test_a_lost_source_says_since_when():
    async with Sheet().run_test(size=(90, 1)) as pilot:
        header = pilot.app.query_one(Header)
        pilot.app.now = 1009.0
        header.show(None, SourceStatus("LOST", "refused", 1000.0))
        assert header.render_line(0).text.strip() == "LOST 9s: refused"
