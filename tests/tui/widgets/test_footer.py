"""The line of keys as a widget."""

from __future__ import annotations

from textual.app import App

from rtun_tui.widgets.footer import KeyHints


class Sheet(App):
    def compose(self):
        yield KeyHints()


async def test_a_message_stands_in_place_of_the_hints():
    async with Sheet().run_test(size=(40, 1)) as pilot:
        hints = pilot.app.query_one(KeyHints)
        hints.show([("?", "help", True), ("x", "drain", False), ("q", "quit", True)])
        await pilot.pause()
        assert hints.render_line(0).text.rstrip() == " ? help  (x drain)  q quit"
        hints.message("no row is marked", "error")
        assert hints.render_line(0).text.rstrip() == " no row is marked"
        hints.clear()
        assert hints.render_line(0).text.rstrip() == " ? help  (x drain)  q quit"
