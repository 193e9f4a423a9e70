"""`rtun attach`: the console of an rtun that runs elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from rtun_core.cli.console import (
    ConsoleEnd,
    ConsoleOptions,
    EndKind,
    find_console,
    read_only_option,
    theme_option,
)
from rtun_core.cli.control_options import control_token_option, read_control_token
from rtun_core.errors import RtunError

if TYPE_CHECKING:
    from rtun_core.engine.control_place import ControlPlace


@click.command(short_help="Show the console of a running rtun.")
@click.argument("which", required=False, metavar="[PATH|PID|HOST:PORT]")
@read_only_option
@theme_option
@control_token_option
def attach(which: str | None, read_only: bool, theme: str | None, control_token_file: str | None) -> int:
    """Show the console of a running rtun, started with --control or --control-tcp.

    Closing it leaves that rtun running.

    Several consoles can look at one rtun. When the link drops the console comes back by itself, and
    shows the events that it missed.

    Exit status: 0 closed or the other rtun ended, 1 no rtun to look at, 2 no terminal.
    """
    import asyncio

    from rtun_core.engine.attached_source import AttachedSource
    from rtun_core.engine.control_place import find_place

    place = find_place(which, read_control_token(control_token_file))
    console = find_console()
    console.check()
    asyncio.run(_check(place))
    options = ConsoleOptions(show=True, read_only=read_only, theme=theme, ends_engine=False)
    return _status(console.show(AttachedSource(place), options))


async def _check(place: ControlPlace) -> None:
    """Raise RtunError when the console could not be shown anyway."""
    from rtun_core.engine.control_client import ControlClient

    async with ControlClient(place) as client:
        await client.check()


def _status(end: ConsoleEnd) -> int:
    match end.kind:
        case EndKind.SIGNAL:
            return 128 + end.signum
        case EndKind.FAILED:
            raise RtunError(f"the console failed: {end.detail.rstrip().rpartition(chr(10))[2]}")
        case EndKind.ENGINE_ENDED:
            print("the rtun that was looked at has ended", file=sys.stderr)
    return 0
