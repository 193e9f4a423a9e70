"""`rtun attach`: the console of an rtun that runs elsewhere on this machine."""

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
from rtun_core.errors import RtunError

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="Show the console of a running rtun.")
@click.argument("which", required=False, metavar="[PATH|PID]")
@read_only_option
@theme_option
def attach(which: str | None, read_only: bool, theme: str | None) -> int:
    """Show the console of a running rtun, started with --control. Closing it leaves that rtun running.

    Several consoles can look at one rtun. When the link drops the console comes back by itself, and
    shows the events that it missed.

    Exit status: 0 closed or the other rtun ended, 1 no rtun to look at, 2 no terminal.
    """
    import asyncio

    from rtun_core.engine.attached_source import AttachedSource
    from rtun_core.engine.control_client import find_socket

    path = find_socket(which)
    console = find_console()
    console.check()
    asyncio.run(_check(path))
    options = ConsoleOptions(show=True, read_only=read_only, theme=theme, ends_engine=False)
    return _status(console.show(AttachedSource(path), options))


async def _check(path: Path) -> None:
    """Raise RtunError when the console could not be shown anyway."""
    from rtun_core.engine.control_client import ControlClient
    from rtun_core.engine.hello import check_hello

    async with ControlClient(path) as client:
        check_hello(await client.hello())


def _status(end: ConsoleEnd) -> int:
    match end.kind:
        case EndKind.SIGNAL:
            return 128 + end.signum
        case EndKind.FAILED:
            raise RtunError(f"the console failed: {end.detail.rstrip().rpartition(chr(10))[2]}")
        case EndKind.ENGINE_ENDED:
            print("the rtun that was looked at has ended", file=sys.stderr)
    return 0
