"""The door to the console: is there a terminal, and then show it until it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from rtun_core.cli.console import ConsoleEnd, ConsoleOptions, EndKind
from rtun_core.cli.garbage import settled
from rtun_core.engine.live_source import LiveSource
from rtun_core.engine.source import Parting, Source
from rtun_core.errors import UsageError
from rtun_tui.app import ConsoleApp
from rtun_tui.driver import ConsoleDriver, install_signals
from rtun_tui.host import Manner
from rtun_tui.keymap import Keymap
from rtun_tui.keymap_library import KeymapLibrary
from rtun_tui.settings import Settings, load_settings
from rtun_tui.strays import Strays, caught_handlers
from rtun_tui.terminal import ascii_only, check_terminal, wants_colour
from rtun_tui.theme_library import ThemeLibrary


def check() -> None:
    """Raise UsageError when there is no terminal that the console can be shown on."""
    if why := check_terminal(sys.__stdin__, sys.__stderr__, os.environ):
        raise UsageError(why)


def show(source: Source, options: ConsoleOptions) -> ConsoleEnd:
    """Show the console on the terminal until it ends. Belongs to the main thread."""
    return asyncio.run(_show(source, options))


async def _show(source: Source, options: ConsoleOptions) -> ConsoleEnd:
    settings, keymaps, keymap, warnings = read_configuration()
    colour = wants_colour(os.environ)
    # Textual takes even an empty NO_COLOR for a wish, and grey for no colour; the choice is made here.
    os.environ.pop("NO_COLOR", None)
    app = ConsoleApp(
        source,
        settings=settings,
        keymap=keymap,
        keymaps=keymaps,
        library=ThemeLibrary(),
        theme=options.theme,
        warnings=warnings,
        started=lambda: _started(app, strays, options.reopen),
        shown=options.shown or _nothing,
        settled=lambda: _settled(app),
        manner=Manner(
            read_only=options.read_only,
            colour=colour,
            ascii=ascii_only(os.environ, sys.__stderr__.encoding if sys.__stderr__ else "ascii"),
            ends_engine=options.ends_engine,
        ),
        driver_class=ConsoleDriver,
    )
    strays = Strays(partial(_tell, app))
    try:
        with caught_handlers(strays):
            await app.run_async(mouse=settings.mouse)
    finally:
        await app.replaying.close(_parting(app))
    # What fails while it ends does not change that it was to end.
    end = app.ending or ConsoleEnd(EndKind.FAILED if app.failure else EndKind.QUIT)
    return replace(end, detail=app.failure)


def _parting(app: ConsoleApp) -> Parting:
    """Why the console ends, for an engine elsewhere."""
    if app.ending is None:
        return Parting.FAILED if app.failure else Parting.CLOSED
    return Parting.LOST if app.ending.kind is EndKind.LOST else Parting.CLOSED


def read_configuration() -> tuple[Settings, KeymapLibrary, Keymap, list[str]]:
    """Settings and keys of the user, and what is wrong with them, which is told in the console."""
    warnings: list[str] = []
    try:
        settings = load_settings(os.environ)
    except UsageError as error:
        settings = Settings()
        warnings.append(str(error))
    keymaps = KeymapLibrary(settings.keymap)
    try:
        keymap = keymaps.find(settings.keymap)
    except UsageError as error:
        keymap = Keymap()
        warnings.append(str(error))
    return settings, keymaps, keymap, warnings


def _tell(app: ConsoleApp, text: str) -> None:
    """What was printed belongs to the log, or where there is none, to the user. From any thread."""
    source = app.replaying.live
    if isinstance(source, LiveSource):
        source.note(text)
    else:
        app.call_later(app.say, text)


def _started(app: ConsoleApp, strays: Strays, reopen: Callable[[], object] | None) -> None:
    """The terminal is ours now."""

    def signalled(signum: signal.Signals) -> None:
        if signum != getattr(signal, "SIGHUP", None):
            app.close(EndKind.SIGNAL, signum)
        elif reopen is not None and sys.__stdin__ is not None and sys.__stdin__.isatty():
            reopen()
        else:
            app.close(EndKind.LOST, signum)

    install_signals(app, signalled)
    app.begin_capture_print(strays)
    driver = app._driver
    if isinstance(driver, ConsoleDriver):
        driver.on_lost = lambda: app.close(EndKind.LOST)
        if isinstance(app.source, LiveSource):
            source = app.source
            app.set_interval(1.0, lambda: source.note_frames_dropped(driver.frames_dropped))


def _settled(app: ConsoleApp) -> None:
    """The first picture is drawn: now it is known what runs, and most of what there will be is there."""
    driver = app._driver
    if isinstance(driver, ConsoleDriver):
        driver.set_title(f"rtun {app.source.title}")
    settled()


def _nothing() -> None:
    """For whoever does not wait for the first frame."""
