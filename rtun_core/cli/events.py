"""`rtun events`: what happened and happens in a running rtun."""

from __future__ import annotations

import click

from rtun_core.cli.control_options import control_token_option, read_control_token
from rtun_core.cli.options import number
from rtun_core.cli.outputs import event_filter_option

MAX_SEQUENCE = 2**63 - 1


@click.command(short_help="Print the events of a running rtun.")
@click.argument("which", required=False, metavar="[PATH|PID|HOST:PORT]")
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
@event_filter_option
@click.option("--text", is_flag=True, help="Lines for people instead of JSON.")
@control_token_option
def events(
    which: str | None,
    follow: bool,
    since: int,
    filter: str | None,  # noqa: A002
    text: bool,
    control_token_file: str | None,
) -> None:
    """Print the newest events, up to 4096, of a running rtun as JSON lines."""
    import asyncio

    token = read_control_token(control_token_file)
    asyncio.run(_print(which, token, follow=follow, since=since, passing=filter or "", text=text))


async def _print(
    which: str | None, token: bytes | None, *, follow: bool, since: int, passing: str, text: bool
) -> None:
    from rtun_core.engine.control_client import ControlClient, decode_event
    from rtun_core.engine.control_place import find_place
    from rtun_core.engine.log_lines import text_line
    from rtun_core.view.event_filter import compile_event_filter

    async with ControlClient(find_place(which, token)) as client:
        await client.check()
        passes = compile_event_filter(passing)
        async for line in client.events(since, follow=follow):
            stamped = decode_event(line) if text or passing else None
            # An event of a newer version is no event that a filter could speak of.
            if stamped is not None and not passes(stamped):
                continue
            click.echo(text_line(stamped).removesuffix(b"\n") if text and stamped is not None else line)
