"""Pictures of the console as SVG, the same to the byte wherever they are drawn.

Nothing in them depends on the moment: the relay is simulated with a fixed seed, the clock is the
simulation's, times of day are UTC, and no setting, key or theme of the user is read.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Input

from rtun_core.cli.console import ConsoleEnd
from rtun_core.engine.simulated import SimulatedWorld
from rtun_tui.app import ConsoleApp
from rtun_tui.host import Manner
from rtun_tui.keymap import Keymap
from rtun_tui.keymap_library import DEFAULT, KeymapLibrary
from rtun_tui.settings import Settings
from rtun_tui.still import StillSource
from rtun_tui.theme_library import ThemeLibrary
from rtun_tui.widgets.prompt import Prompt
from screenshots.scenes import Press, Scene, Step, Type, Wait

SEED = 1
START = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC
NO_FILES = Path(os.devnull)  # a directory of themes, or of keys, that is none

# Pictures in a page load no fonts, so what would fetch them is left out.
FONTS = re.compile(r"@font-face \{.*?\}\s*|Fira Code, ", re.DOTALL)
UNIQUE = re.compile(r"terminal-\d+")  # made from what is drawn, objects' own numbers included


async def draw(scene: Scene) -> str:
    """Play a scene and give its last picture as SVG."""
    with neutral_place():
        world = SimulatedWorld(seed=SEED, start=START)
        source = StillSource(world)
        app = ConsoleApp(
            source,
            settings=Settings(),
            keymap=Keymap(),
            keymaps=KeymapLibrary(DEFAULT, own=NO_FILES, named=NO_FILES),
            library=ThemeLibrary(user=NO_FILES),
            theme=scene.theme,
            manner=Manner(still=True),
            wall=lambda: world.now,
        )
        async with app.run_test(size=scene.size) as pilot:
            await pilot.pause()
            for step in scene.steps:
                await play(step, app, source, pilot)
            await rest(app, pilot)
            picture = app.export_screenshot(title="rtun")
    if app.failure:
        raise RuntimeError(app.failure)
    return plain(picture, scene.name)


async def play(step: Step, app: ConsoleApp, source: StillSource, pilot: Pilot[ConsoleEnd]) -> None:
    """One step of a scene, until everything that it has set off is done."""
    match step:
        case Press(keys):
            for key in keys:
                await pilot.press(key)
                await pilot.pause()
        case Type(text):
            await pilot.press(*text)
            if kind := app.overview.prompt.editing:
                app.overview.prompt.post_message(Prompt.Changed(kind, text))
        case Wait(seconds):
            for _ in range(seconds):
                source.advance(1)
                app.look()
    await pilot.pause()
    await app.workers.wait_for_complete()


async def rest(app: ConsoleApp, pilot: Pilot[ConsoleEnd]) -> None:
    """Nothing blinks or is about to vanish."""
    for line in app.screen.query(Input):
        line.cursor_blink = False
    app.overview.prompt.forget()
    app.look()
    await pilot.pause()


def plain(svg: str, name: str) -> str:
    """Without fonts from elsewhere, a name in place of the random one, no spaces at the ends of lines."""
    text = UNIQUE.sub(f"rtun-{name}", FONTS.sub("", svg))
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


@contextlib.contextmanager
def neutral_place() -> Iterator[None]:
    """Times of day in UTC and no wish against colours, for as long as it lasts."""
    before = dict(os.environ)
    os.environ["TZ"] = "UTC"
    os.environ.pop("NO_COLOR", None)
    time.tzset()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        time.tzset()
