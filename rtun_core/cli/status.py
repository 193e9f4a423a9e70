"""`rtun status`: the state of a running rtun."""

from __future__ import annotations

import sys

import click

from rtun_core.cli.control_options import control_token_option, read_control_token
from rtun_core.cli.status_text import TOP_FLOWS, status_text

WATCH_PERIOD = 2.0  # seconds

_HOME_AND_CLEAR = "\x1b[H\x1b[2J"


@click.command(short_help="Show the state of a running rtun.")
@click.argument("which", required=False, metavar="[PATH|PID|HOST:PORT]")
@click.option("--json", is_flag=True, help="Print the whole snapshot as JSON.")
@click.option("--watch", is_flag=True, help="Show it again every 2 seconds until rtun ends.")
@control_token_option
def status(which: str | None, json: bool, watch: bool, control_token_file: str | None) -> None:
    """Show rules, agents, tunnels and the 20 biggest flows of a running rtun, started with --control."""
    import asyncio

    token = read_control_token(control_token_file)
    asyncio.run(_show(which, token, as_json=json, watch=watch))


async def _show(which: str | None, token: bytes | None, *, as_json: bool, watch: bool) -> None:
    import asyncio

    from rtun_core.engine.control_client import ControlClient
    from rtun_core.engine.control_place import find_place

    async with ControlClient(find_place(which, token)) as client:
        await client.check()
        while True:
            if as_json:
                click.echo(await client.snapshot_bytes())
            else:
                clear = _HOME_AND_CLEAR if watch and sys.stdout.isatty() else ""
                click.echo(clear + status_text(await client.snapshot(flows=TOP_FLOWS)))
            if not watch:
                return
            await asyncio.sleep(WATCH_PERIOD)
