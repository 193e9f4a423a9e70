"""A console over a simulated relay that stands still: the same world, clock and size in every test."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager

import pytest

from rtun_core.engine.simulated import SimulatedWorld
from rtun_tui.app import ConsoleApp
from rtun_tui.host import Manner
from rtun_tui.keymap import Keymap
from rtun_tui.keymap_library import KeymapLibrary
from rtun_tui.settings import Settings
from rtun_tui.still import StillSource
from rtun_tui.theme_library import ThemeLibrary
from rtun_tui.widgets.event_list import EventList
from rtun_tui.widgets.prompt import Line
from tests.tui.keys import press, settle

START = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC
DEADLINE = 400  # turns of the loop that a state may take to come


class Console:
    """A console under a pilot. `press` types keys, `text` is the screen, `until` waits for a state."""

    def __init__(self, app, pilot):
        self.app = app
        self.pilot = pilot

    @property
    def desk(self):
        return self.app.desk

    @property
    def flows(self):
        return self.app.desk.tables["flows"]

    @property
    def source(self):
        return self.app.source

    @property
    def executed(self):
        return self.app.source.executed

    async def press(self, *keys):
        """Keys one after the other; all that they lead to has happened when this returns."""
        await press(self.pilot, *keys)

    async def type(self, text):
        """Letters; any of them may be one that has a name."""
        await self.pilot.press(*text)
        await self.settle()

    async def line(self, text):
        """A command line, as if it had been pasted."""
        await self.press("colon")
        self.app.overview.prompt.query_one(Line).value = text
        await self.press("enter")

    async def settle(self):
        """Nothing is under way any more: no message, no worker."""
        await settle(self.pilot)

    async def until(self, state):
        """Wait until `state()` holds."""
        for _ in range(DEADLINE):
            if state():
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"never came:\n{self.text}")

    async def pass_time(self, seconds):
        """Let the world go on and look at it."""
        self.source.advance(seconds)
        self.app.look()
        await self.settle()

    @property
    def lines(self):
        """The screen as text."""
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip) for strip in strips]

    @property
    def text(self):
        return "\n".join(self.lines)

    @property
    def said(self):
        """The line above the keys."""
        return self.lines[-2].strip()

    @property
    def keys(self):
        """The line of keys."""
        return self.lines[-1].strip()

    @property
    def header(self):
        return self.lines[0].strip()

    @property
    def dialog(self):
        """The kind of the screen in front; empty when it is the overview."""
        return "" if self.app.screen is self.app.overview else type(self.app.screen).__name__

    @property
    def events(self):
        return self.app.overview.pane(EventList)


def world(**changes):
    """The world of the tests: small, so that it is quickly made."""
    return SimulatedWorld(**({"seed": 7, "flows": 120, "start": START} | changes))


def make_app(source, *, settings=None, keymap=None, keymaps=None, library=None, wall=None, **options):
    """A console over a source, which looks only when it is told to."""
    manner = Manner(**({"still": True} | options.pop("manner", {})))
    return ConsoleApp(
        source,
        settings=settings or Settings(),
        keymap=keymap or Keymap(),
        keymaps=keymaps or KeymapLibrary(),
        library=library or ThemeLibrary(),
        manner=manner,
        wall=wall or (lambda: source.world.now),
        **options,
    )


@asynccontextmanager
async def running(app, size=(120, 36)):
    """The app on a screen."""
    async with app.run_test(size=size) as pilot:
        console = Console(app, pilot)
        await console.settle()
        yield console


async def _no_wait(*_):
    """Instead of sleeping until the process is idle: `settle` knows when all is done."""


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """UTC, no wish about colours, no files of the user, and a directory of its own to write to."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    for name in ("NO_COLOR", "RTUN_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("textual.app.wait_for_idle", _no_wait)
    monkeypatch.chdir(tmp_path)
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def console():
    """`async with console(...) as c`: keyword arguments go to the app, `size`, `past` and `world` not."""

    @asynccontextmanager
    async def make(*, size=(120, 36), past=20.0, flows=120, **options):
        source = StillSource(world(flows=flows), past=past)
        async with running(make_app(source, **options), size) as console:
            yield console

    return make


@pytest.fixture
def private_directory(tmp_path):
    """A directory that nobody else may read."""
    os.chmod(tmp_path, 0o700)
    return tmp_path
