"""`rtun events`: what happened and happens in a running rtun."""

from __future__ import annotations

import click

from rtun_core.cli.options import number

MAX_SEQUENCE = 2**63 - 1


@click.command(short_help="Print the events of a running rtun.")
@click.argument("which", required=False, metavar="[PATH|PID]")
@click.option("-f", "--follow", is_flag=True, help="Go on with new events until rtun ends.")
@click.option(
    "--since",
    type=str,
    callback=number(int, 0, MAX_SEQUENCE),
    default="0",
    show_default=True,
    metavar="SEQ",
    help="Only events after this sequence.",
)
@click.option("--text", is_flag=True, help="Lines for people instead of JSON.")
def events(which: str | None, follow: bool, since: int, text: bool) -> None:
    """Print the newest events, up to 4096, of a running rtun as JSON lines."""
    import asyncio

    asyncio.run(_print(which, follow=follow, since=since, text=text))


async def _print(which: str | None, *, follow: bool, since: int, text: bool) -> None:
    from rtun_core.engine.control_client import ControlClient, find_socket

    async with ControlClient(find_socket(which)) as client:
        async for line in client.events(since, follow=follow):
            click.echo(_text(line) if text else line)


def _text(line: bytes) -> bytes:
    from rtun_core.engine.control_client import decode_event
    from rtun_core.engine.log_lines import text_line

    stamped = decode_event(line)
    return line if stamped is None else text_line(stamped).removesuffix(b"\n")
