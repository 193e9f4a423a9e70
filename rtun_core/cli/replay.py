"""`rtun replay`: the console on a recording."""

from __future__ import annotations

from pathlib import Path

import click

from rtun_core.cli.console import ConsoleOptions, find_console, theme_option, viewer_status
from rtun_core.cli.options import number


@click.command(short_help="Show a recording in the console.")
@click.argument("path")
@click.option(
    "--speed",
    type=str,
    callback=number(float, 0.1, 100, "times as fast"),
    default="1",
    show_default=True,
    metavar="N",
    help="How many times as fast as it happened.",
)
@click.option(
    "--from",
    metavar="TIME",
    default="start",
    help="Where to begin: HH:MM:SS, YYYY-MM-DDTHH:MM:SS, +SECONDS or end.  [default: the start]",
)
@theme_option
def replay(path: str, speed: float, theme: str | None, **begin: str) -> int:
    """Show what was recorded with --record or `rtun ctl record start`.

    b and B go to the picture before and after, p pauses; the commands goto and speed go to a time and play
    faster or slower. A recording that is still being written can be shown.

    Exit status: 0 closed, 2 no terminal or no recording.
    """
    from rtun_core.engine.replay_source import ReplaySource

    source = ReplaySource(Path(path), speed=speed, begin=begin["from"])
    console = find_console()
    console.check()
    source.open()
    options = ConsoleOptions(show=True, read_only=True, theme=theme, ends_engine=False)
    return viewer_status(console.show(source, options))
