"""Pictures of the screens. After a change that is meant: `--snapshot-update`, and look at them."""

from __future__ import annotations

import pytest
from textual.widgets import Input

from rtun_tui.still import StillSource
from tests.tui.conftest import Console, make_app, world

SIZES = ((160, 50), (120, 36), (80, 24), (60, 15))
THEMES = ("rtun-dark", "rtun-light", "mono")
# What is typed, and the last state that has to be reached.
SCREENS = {
    "drawer": ("j", "enter"),
    "confirmation": ("2", "j", "x"),
    "help": ("question_mark",),
    "palette": ("ctrl+p", "f", "l", "o", "w"),
    "filter": ("slash", *"tunnel=t5|t4 idle<1s"),
    "columns": ("c", "j", "space"),
    "events": ("4", "z", "L", "L", "L"),
}


class Told(StillSource):
    """One world for all pictures, as none of them changes it; each console is told all that happened."""

    def __init__(self):
        super().__init__(world(flows=1284), past=300)
        self.happened = super().events()
        self.waiting = []

    def events(self):
        waiting, self.waiting = self.waiting, []
        return waiting


@pytest.fixture(scope="module")
def source():
    return Told()


@pytest.fixture
def compare(snap_compare, source):
    """Compare the screen after some keys with its picture."""

    def compare(size, theme="rtun-dark", keys=()):
        source.waiting = source.happened
        app = make_app(source, theme=theme)

        async def before(pilot):
            console = Console(app, pilot)
            await console.settle()
            await console.press(*keys)
            if app.overview.prompt.editing:
                await console.until(lambda: app.desk.table.filter)
            app.overview.prompt.forget()
            for line in app.screen.query(Input):
                line.cursor_blink = False
                line._cursor_visible = True
            await console.settle()

        return snap_compare(app, terminal_size=size, run_before=before)

    return compare


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_overview(compare, size, theme):
    assert compare(size, theme)


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("size", SIZES[1:3], ids=lambda size: f"{size[0]}x{size[1]}")
def test_screen(compare, size, screen):
    assert compare(size, keys=SCREENS[screen])
